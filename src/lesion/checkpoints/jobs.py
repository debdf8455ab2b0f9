"""The specifications of jobs that write pruned checkpoints and their model cards."""

from lesion.study.job import Job


class CheckpointJob(Job):
    """What a checkpoint says of its base."""

    base: str
    license: str


class CardJob(Job):
    """Which measurements a model card shows."""

    model: str
    mask: str
