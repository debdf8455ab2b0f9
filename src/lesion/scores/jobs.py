"""The specification of a scoring job, and what a file of scores serves."""

from typing import Literal

from lesion.study.job import Device, Job
from lesion.study.sections import Memory, Tail
from lesion.study.types import Scope


class Coverage(Tail):
    """Up to which p and q, and for which scope, a file of truncated scores serves selections."""

    scope: Scope
    """What the fractions count."""


class ScoresJob(Job):
    """How the weights of a model are scored for one behaviour."""

    behaviour: str
    batch_tokens: int
    device: Device
    memory: Memory
    norms: bool
    """Whether the norms of every matrix's inputs are written, for Wanda's control."""
    preservation: Literal["per-example", "mean"] | None
    """None for behaviours that are not preserved."""
    shards: int
    text: Literal["chat", "plain"]
    """Whether pairs are scored in the chat format or as plain text."""
    tail: Coverage | None
    """What the stored scores serve; None to store every score."""
