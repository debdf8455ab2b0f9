"""The specifications of jobs that choose prompts and generate responses."""

from lesion.sources.jobs import SourceLocation
from lesion.study.behaviours import Where
from lesion.study.job import Device, Job, Specification
from lesion.study.sections import Split
from lesion.study.types import Role


class RowSelection(Specification):
    """The rows of a source that belong to a behaviour; see `lesion.study.sections.Behaviour`."""

    prompt: str = "prompt"
    response: str | None = None
    where: Where | None = None
    limit: int | None = None
    harmful: str | None = None


class PromptsJob(Job):
    """How a behaviour's prompts are chosen and split."""

    behaviour: str
    source: SourceLocation
    rows: RowSelection
    responses: SourceLocation | None
    """File of responses that are assigned to the prompts in turn."""
    split: Split
    wordings: list[str]
    """Texts with `{prompt}`, into one of which each prompt is put."""
    near_duplicate: float
    """Prompts at least this similar share a split."""
    need: int
    """The fewest prompts that a behaviour can have."""
    seed: int


class MatchedPromptsJob(Job):
    """How matched requests are chosen; each is in the split of its harmful request."""

    behaviour: str
    of: str
    """The harm type."""
    source: SourceLocation
    rows: RowSelection
    wordings: list[str]
    near_duplicate: float
    need: int
    """The fewest rows that the file can have."""


class PairsJob(Job):
    """How responses to a behaviour's prompts are generated; given responses have no prefill."""

    behaviour: str
    role: Role
    """Responses that refuse are dropped, except for behaviours of role `refusal`."""
    prefill: str
    max_new_tokens: int
    batch_size: int
    device: Device
