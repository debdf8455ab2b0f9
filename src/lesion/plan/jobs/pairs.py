"""Jobs of the stage `pairs`."""

from collections.abc import Mapping

from lesion.pairs.jobs import PairsJob, PromptsJob
from lesion.plan.jobs.rule import Rule
from lesion.plan.places import places, results, row_selection
from lesion.study import MIN_PROMPTS, Study
from lesion.study.job import Device


def prompts_job(study: Study, wildcards: Mapping[str, str]) -> PromptsJob:
    """The specification of a behaviour's prompts and their splits.

    Raises:
        LesionError: the file is missing, has no such column, or gives too few prompts.
    """
    name = wildcards["behaviour"]
    files = places(study, results(study), "prompts", name)
    return PromptsJob(
        behaviour=name,
        source=files["source"],
        rows=row_selection(study.behaviours[name]),
        responses=files.get("responses"),
        split=study.pairs.split,
        near_duplicate=study.pairs.near_duplicate,
        need=MIN_PROMPTS,
        seed=study.seed,
    )


def pairs_job(study: Study, wildcards: Mapping[str, str]) -> PairsJob:
    """The specification of a behaviour's responses."""
    name, how = wildcards["behaviour"], study.pairs
    return PairsJob(
        behaviour=name,
        role=study.behaviours[name].role,
        prefill=how.prefill,
        max_new_tokens=how.max_new_tokens,
        batch_size=how.batch_size,
        device=device(study),
    )


def device(study: Study) -> Device:
    """The device and the precision in which models generate and are evaluated."""
    return Device(dtype=study.responses.dtype, threads=study.threads, device_map=study.device_map)


RULES = {
    "prompts": Rule(prompts_job, ("lesion.pairs.prompts",)),
    "pairs": Rule(pairs_job, ("lesion.pairs.respond",)),
}
