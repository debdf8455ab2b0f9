"""The specification of a scoring job."""

from typing import Literal

from lesion.study.job import Device, Job
from lesion.study.sections import Memory, Tail


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
    scope: Literal["global", "matrix", "row"]
    """What the fractions of `tail` count."""
    shards: int
    tail: Tail | None
    """None to store every score."""
