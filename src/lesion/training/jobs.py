"""The specification of a job that trains a model, and the recipe of one training."""

from lesion.sources.jobs import Place
from lesion.study.job import Device, Job, Specification
from lesion.study.training import Answered, New, Recipe
from lesion.study.types import StoredDtype


class SeededRecipe(Recipe):
    """How one training goes."""

    seed: int
    """Of the order of examples, and of new weights."""
    beta: float | None = None
    """DPO's; None for supervised fine-tuning."""


class LessonJob(Specification):
    """Examples that a model is trained on: of behaviours' pairs, or of a file."""

    behaviours: list[str]
    """Empty for a file."""
    answer: Answered
    source: Place | None
    columns: dict[str, str | None]
    """The file's columns that are read, as `lesion.training.lessons.of_file` wants them."""
    limit: int | None


class TrainJob(Job):
    """How a model is made of another one, or from scratch."""

    recipe: SeededRecipe
    lessons: list[LessonJob]
    refusals: Place | None
    """File of what harmful prompts are refused with."""
    new: New | None
    """The shape of a new model; None for one that has a base."""
    device: Device
    """The precision is that of the weights in training; forward and backward have the recipe's."""
    dtype: StoredDtype
    """Of the weights as written."""
    license: str

    @property
    def behaviours(self) -> list[str]:
        """The behaviours whose pairs are read, in the order in which the job gets their files."""
        return sorted({name for lesson in self.lessons for name in lesson.behaviours})
