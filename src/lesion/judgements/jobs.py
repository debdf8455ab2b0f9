"""The specifications of jobs that judge; needs no torch."""

from lesion.judgements import kinds
from lesion.sources.jobs import Place
from lesion.study.job import Device, Job, Specification
from lesion.study.judges import AnyJudge, ContrastSection

assert kinds.KINDS, "sections of all kinds must be known before a job is read"


class ContrastFiles(Specification):
    """A judge that learns from a study's own answers, and where these are."""

    judge: ContrastSection
    source: Place
    elsewhere: Place | None


class JudgeJob(Job):
    """How the offline judges are trained, and measured with those of the study's own answers."""

    human_scores: Place
    embedder: Place
    contrasts: dict[str, ContrastFiles]
    seed: int
    """Of folds, training and resampling."""
    tokens: int
    """The length of the study's completions. The human-scored answers are long, so the judges are
    also measured on their first so many tokens."""


class JudgementsJob(Job):
    """What the offline judges judge."""

    embedder: Place
    variants: list[str | None]
    """Which variant gave each table of answers; None where the table itself says it."""
    threads: int


class ExtraJudgeJob(Job):
    """What a judge of the study's own choosing judges."""

    name: str
    judge: AnyJudge
    places: dict[str, Place]
    """Where its files are, by the keys of its section, and the `embedder` if it needs one."""
    variants: list[str | None]
    device: Device
