"""The specifications of jobs that select masks."""

from lesion.study.attacks import RefusalAblation
from lesion.study.controls import Control
from lesion.study.job import Behaviours, Device, Job, Specification
from lesion.study.types import Pool, Scope, SelectionRule


class Selection(Specification):
    """How masks are selected, and in how many harm types' masks a shared weight must be."""

    rule: SelectionRule
    scope: Scope
    pool: Pool
    at_least: int
    benign_contrast: float
    """How many times the scores of benign answers are subtracted, where there is a contrast."""


class SweepJob(Job):
    """The points (p, q) of the sweep, and how they are measured."""

    behaviours: Behaviours
    selection: Selection
    points: list[tuple[float, float, float]]
    """p, q, and the weight of the contrast."""
    stop: float
    """The benign NLL (nats per token) of a mask that breaks the model: beyond it, no larger q is
    tried."""
    batch_tokens: int
    device: Device


class ChooseJob(Job):
    """The limit by which (p, q) is chosen."""

    limit: float
    """The most benign NLL that the shared mask may add (nats per token, validation)."""


class MasksJob(Job):
    """The masks that are selected at the chosen (p, q)."""

    behaviours: Behaviours
    selection: Selection
    controls: list[Control]
    own_q: float | None
    """Fraction of weights in the mask of a single behaviour; the chosen q, if None."""
    seed: int


class RefusalMaskJob(Job):
    """How the weights of refusal are selected that attacks zero."""

    refusal: list[str]
    benign: list[str]
    selection: RefusalAblation
    pool: Pool


class CurveMasksJob(Job):
    """The masks that are selected at several sizes."""

    behaviours: Behaviours
    selection: Selection
    families: list[str]
    sizes: list[float]
    """Multiples of the chosen q."""
    seeds: int
    """Number of draws of each random control."""
    seed: int
    """The seed of the first draw; each further draw adds 1."""


class EqualCostMasksJob(Job):
    """The masks that are grown until they cost the same on benign text."""

    behaviours: Behaviours
    selection: Selection
    masks: list[str]
    limits: list[float]
    """Benign NLL that each mask adds (nats per token, validation)."""
    largest: float
    """The largest q of a behaviour's mask."""
    batch_tokens: int
    device: Device
    seed: int
