"""The specifications of jobs that put something to a model; needs no torch."""

from pathlib import Path
from typing import Literal

from lesion.sources.jobs import Place
from lesion.study.job import Device, Job, Specification
from lesion.study.training import Recipe
from lesion.study.types import Role


class AttackWords(Specification):
    """In what words an attack puts prompts, and what the answer is made to begin with."""

    wording: str | Place
    """A text with a placeholder for the prompt, or the file of a template."""
    prefill: str


class ResponsesJob(Job):
    """What a variant is asked, and how its NLL is measured.

    Without attacks nothing is completed, and no divergence measured.
    """

    variant: str
    roles: dict[str, Role]
    """Behaviours whose test pairs are measured; those of role `refusal` are not completed."""
    attacks: dict[str, AttackWords]
    """How harmful prompts are put; benign ones are put under `prefill`, like their pairs."""
    prefill: str
    max_new_tokens: int
    benign_prompts: int
    batch_size: int
    batch_tokens: int
    engine: Literal["transformers", "vllm"]
    device: Device


class Completing(Specification):
    """How harmful prompts are completed under the prefill."""

    prompts: int
    """Of each harm type."""
    prefill: str
    max_new_tokens: int
    batch_size: int


class CurveJob(Job):
    """How the masks of one family are measured at every size."""

    family: str
    roles: dict[str, Role]
    pairs: int | None
    """Test pairs of each behaviour whose NLL is taken; all if None."""
    batch_tokens: int
    completing: Completing | None
    """None if no completions are asked for."""
    device: Device


class UnderstandingJob(Job):
    """What a variant is asked to see what it understands."""

    variant: str
    harms: list[str]
    """Harm types whose test prompts are explained."""
    twins: Place
    limit: int | None
    """The number of twins used; all if None."""
    over_refusal: int
    """The number of harmless twins that are completed, in `max_new_tokens`."""
    explain: int
    """The length of an explanation in tokens; 0 if none is asked for."""
    explain_prompts: int
    """The number of explanations for each harm type."""
    max_new_tokens: int
    batch_size: int
    batch_tokens: int
    device: Device


class UtilityJob(Job):
    """Which tasks a variant is put, and how."""

    variant: str
    tasks: dict[str, str | None]
    """With the digest of the content of a task of `folder`; None for one of lm-eval's own."""
    folder: Path
    limit: int | None
    """Items of a task."""
    batch_size: int
    chat: bool
    """Whether each item is put in the model's chat template."""
    device: Device


class RetrainJob(Job):
    """How a model is fine-tuned in memory, and what it is asked meanwhile."""

    arm: str
    mask: str | None
    """What is zeroed before the training."""
    frozen: bool
    """Whether these weights stay zero."""
    after: dict[str, str]
    """Arms that are this one with a mask applied at the end: the mask of each."""
    recipe: Recipe
    seeds: list[int]
    """Each is a training of its own."""
    taught: list[str]
    """Behaviours whose train pairs it is trained on."""
    roles: dict[str, Role]
    at: list[int]
    """Steps after which it is measured; the last one always is."""
    pairs: int | None
    prompts: int
    questions: Place | None
    """Open questions, put to it before and after."""
    narrow: str | None
    """The domain of the questions that was taught."""
    prefill: str
    max_new_tokens: int
    batch_size: int
    batch_tokens: int
    device: Device
    """The precision is that of the weights; forward and backward have the recipe's."""

    @property
    def masks(self) -> list[str]:
        """The masks that the job reads, in the order in which it gets their files."""
        return sorted({*self.after.values(), *([self.mask] if self.mask else [])})
