"""Jobs of the stage `scores`."""

from collections.abc import Mapping

from lesion.plan.jobs.rule import Rule
from lesion.scores.jobs import Coverage, ScoresJob
from lesion.study import Study
from lesion.study.job import Device


def scores_job(study: Study, wildcards: Mapping[str, str]) -> ScoresJob:
    """How a behaviour is scored: preservation importance is computed for benign ones only."""
    behaviour, how = wildcards["behaviour"], study.scores
    benign = study.behaviours[behaviour].role == "benign"
    return ScoresJob(
        behaviour=behaviour,
        batch_tokens=how.batch_tokens,
        device=Device(dtype=how.dtype, threads=study.threads, device_map=study.device_map),
        memory=how.memory,
        norms=not benign and wants_norms(study),
        preservation=how.preservation if benign else None,
        shards=how.shards,
        tail=Coverage(**how.tail.model_dump(), scope=study.masks.scope) if how.tail else None,
    )


def wants_norms(study: Study) -> bool:
    """Whether scoring writes the norms of the inputs, which the `wanda` control needs."""
    return "wanda" in {*study.masks.controls, *study.curve.families}


RULES = {
    "scores": Rule(scores_job, ("lesion.scores.run",)),
    "benign_scores": Rule(scores_job, ("lesion.scores.run",), script="scores"),
}
