"""Jobs of the stage `judgements`."""

from collections.abc import Mapping

from lesion.judgements import kinds
from lesion.judgements.jobs import ContrastFiles, ExtraJudgeJob, JudgeJob, JudgementsJob
from lesion.plan.jobs.rule import Rule
from lesion.plan.outputs import judged_answers
from lesion.plan.places import places, results
from lesion.study import Study
from lesion.study.job import Device
from lesion.study.judges import ClassifierSection, ContrastSection


def judge(study: Study, wildcards: Mapping[str, str]) -> JudgeJob:
    """The offline judges, and the judges that are trained on a file of the study.

    Raises:
        LesionError: a local file is missing or unusable.
    """
    found = places(study, results(study), "judge")
    contrasts = {
        name: ContrastFiles(
            judge=one, source=found[f"{name}.source"], elsewhere=found.get(f"{name}.elsewhere")
        )
        for name, one in study.judgements.judges.items()
        if isinstance(one, ContrastSection)
    }
    return JudgeJob(
        human_scores=found["human_scores"],
        embedder=found["embedder"],
        contrasts=contrasts,
        seed=study.seed,
        tokens=study.responses.max_new_tokens,
    )


def judgements(study: Study, wildcards: Mapping[str, str]) -> JudgementsJob:
    """The answers that the offline judges score together."""
    return JudgementsJob(
        embedder=places(study, results(study), "judgements")["embedder"],
        variants=_variants(study, wildcards),
        threads=study.threads,
    )


def extra_judge(study: Study, wildcards: Mapping[str, str]) -> ExtraJudgeJob:
    """The answers that an additional judge scores.

    Raises:
        LesionError: a local file that the judge is made of is missing or unusable.
    """
    name = wildcards["judge"]
    one = study.judgements.judges[name]
    if isinstance(one, ContrastSection):
        # Files that a judge is only evaluated on affect no score.
        one = one.model_copy(update={"elsewhere": None})
    return ExtraJudgeJob(
        name=name,
        judge=one,
        places=places(study, results(study), "extra_judge", name),
        variants=_variants(study, wildcards),
        device=Device(
            dtype=one.dtype if isinstance(one, ClassifierSection) else "float32",
            threads=study.threads,
            device_map=study.device_map,
        ),
    )


def _variants(study: Study, wildcards: Mapping[str, str]) -> list[str | None]:
    return [variant for variant, _ in judged_answers(study)[wildcards["answers"]]]


def formula(study: Study, judge: str) -> str:
    """The key of `lesion.plan.resources.RESOURCE_FORMULAS` for an additional judge."""
    return kinds.KINDS[type(study.judgements.judges[judge])].formula


RULES = {
    "judge": Rule(judge, ("lesion.judgements.run",)),
    "judgements": Rule(judgements, ("lesion.judgements.run",)),
    "extra_judge": Rule(extra_judge, ("lesion.judgements.extra", *kinds.MODULES)),
}
