"""The specification of a job that trains a model, and the recipe of one training."""

from lesion.sources.jobs import SourceLocation
from lesion.study.job import Device, Job, Specification
from lesion.study.training import Answered, New, Recipe
from lesion.study.types import StoredDtype


class SeededRecipe(Recipe):
    """The recipe of a single training."""

    seed: int
    """Seed of the order of examples, and of new weights."""
    beta: float | None = None
    """DPO's beta; None for supervised fine-tuning."""


class MixtureComponentJob(Specification):
    """A part of a training mixture: examples from behaviours' pairs, or from a file."""

    behaviours: list[str]
    """Behaviours whose pairs are used; empty for a file."""
    answer: Answered
    source: SourceLocation | None
    columns: dict[str, str | None]
    """The columns to read from the file, as `lesion.training.examples.of_file` takes them."""
    limit: int | None


class TrainJob(Job):
    """How a model is trained from another one, or from scratch."""

    recipe: SeededRecipe
    mixture: list[MixtureComponentJob]
    refusals: SourceLocation | None
    """File of refusals of harmful prompts."""
    new: New | None
    """The shape of a new model; None for one that has a base."""
    device: Device
    """Its precision is that of the weights in training; the recipe has that of the passes."""
    dtype: StoredDtype
    """Precision in which the weights are written."""
    license: str

    @property
    def behaviours(self) -> list[str]:
        """The behaviours whose pairs are read, in the order in which the job gets their files."""
        return sorted({name for component in self.mixture for name in component.behaviours})
