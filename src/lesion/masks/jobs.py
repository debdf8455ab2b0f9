"""The specifications of jobs that select masks."""

from lesion.study.job import Behaviours, Device, Job, Specification
from lesion.study.types import Control, Pool, Scope, SelectionRule


class Selection(Specification):
    """How masks are selected, and how many harm types must agree on a shared weight."""

    rule: SelectionRule
    scope: Scope
    pool: Pool
    at_least: int


class SweepJob(Job):
    """Which (p, q) are tried, and how."""

    behaviours: Behaviours
    selection: Selection
    points: list[tuple[float, float]]
    """(p, q)."""
    batch_tokens: int
    device: Device


class ChooseJob(Job):
    """By what (p, q) is chosen of those tried."""

    limit: float
    """The most benign NLL that the shared mask may add (nats per token, validation)."""


class MasksJob(Job):
    """Which masks are made at the chosen (p, q)."""

    behaviours: Behaviours
    selection: Selection
    controls: list[Control]
    seed: int


class CurveMasksJob(Job):
    """Which masks are made at every size."""

    behaviours: Behaviours
    selection: Selection
    families: list[str]
    sizes: list[float]
    """Multiples of the chosen q."""
    seeds: int
    """Draws of the random controls."""
    seed: int
    """The first of their seeds."""
