"""The specifications of jobs that judge; needs no torch."""

from pathlib import Path

from lesion.judgements import kinds
from lesion.sources.jobs import SourceLocation
from lesion.study.job import Device, Job, Specification
from lesion.study.judges import AnyJudge, ContrastSection
from lesion.study.types import Role

MEASURED = Path(__file__).parent / "measured"
"""The tables of agreement that come with lesion; see `lesion.judgements.agreement`."""

assert kinds.KINDS, "sections of all kinds must be known before a job is read"


class ContrastFiles(Specification):
    """A contrast judge, and the files that it is trained and tested on."""

    judge: ContrastSection
    source: SourceLocation
    elsewhere: SourceLocation | None


class TrainJudgeJob(Job):
    """How the offline judges are trained, and how they and the contrast judges are measured."""

    human_scores: SourceLocation
    embedder: SourceLocation
    contrasts: dict[str, ContrastFiles]
    seed: int
    """The seed of the contrast judges' folds, training and resampling."""
    tokens: int
    """The length of the study's completions. The human-scored answers are long, so the judges are
    also measured on their first so many tokens."""
    measured: str
    """The digest of the tables in `MEASURED`."""


class ControlAnswersJob(Job):
    """The behaviours whose test pairs the judges of harm are tested on."""

    roles: dict[str, Role]
    """Behaviours of the roles `harm`, `matched` and `benign`, with their roles."""


class ContinuationsJob(Job):
    """The answers whose texts after the prefill are measured, and how."""

    variants: list[str | None]
    """The variant of each table of completions; None if the table has a column `variant`."""
    benign: list[str]
    """Behaviours whose validation answers are given to other prompts."""
    batch_tokens: int
    device: Device


class JudgeResponsesJob(Job):
    """The completions that the offline judges score."""

    embedder: SourceLocation
    variants: list[str | None]
    """The variant of each table of completions; None if the table has a column `variant`."""
    threads: int


class JudgeResponsesExtraJob(Job):
    """A further judge of the study, and the completions that it scores."""

    name: str
    judge: AnyJudge
    places: dict[str, SourceLocation]
    """The locations of its files by the keys of its section, and of the `embedder` if needed."""
    variants: list[str | None]
    device: Device
