"""Jobs of the stage `checkpoints`."""

from collections.abc import Mapping

from lesion.checkpoints.jobs import CardJob, CheckpointJob
from lesion.plan.jobs.rule import Rule
from lesion.study import Study


def checkpoint_job(study: Study, wildcards: Mapping[str, str]) -> CheckpointJob:
    """The specification of a checkpoint, in addition to its model and its mask."""
    name = wildcards["model"]
    return CheckpointJob(base=name, license=study.models[name].license)


def card_job(study: Study, wildcards: Mapping[str, str]) -> CardJob:
    """The specification of a model card, given the tables."""
    del study
    return CardJob(model=wildcards["model"], mask=wildcards["mask"])


RULES = {
    "checkpoint": Rule(checkpoint_job, ("lesion.checkpoints",)),
    "card": Rule(card_job, ("lesion.checkpoints.card", "lesion.report.markdown")),
}
