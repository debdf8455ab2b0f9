"""The specifications of jobs that measure variants; needs no torch."""

from typing import Literal

from lesion.io.bundle import PortablePath
from lesion.sources.jobs import SourceLocation
from lesion.study.job import Device, Job, Specification
from lesion.study.training import Recipe
from lesion.study.types import Ablation, Role


class AttackWords(Specification):
    """The wording of an attack, and the prefill of the answer."""

    wording: str | SourceLocation
    """A text with a placeholder for the prompt, or the file of a template."""
    prefill: str
    own_prefix: int = 0
    """Tokens of the model's own answer to the prompt that the prefill is made of."""
    ablated: bool = False
    """Whether the weights of refusal are zeroed in addition to the variant's mask."""


class ResponsesJob(Job):
    """How a variant's completions are generated, and how its NLL is measured.

    Without attacks, there are no completions and no KL divergences.
    """

    variant: str
    ablation: Ablation = "zero"
    """What the weights of the variant's mask are set to."""
    roles: dict[str, Role]
    """Behaviours whose test pairs are measured; those of role `refusal` are not completed."""
    attacks: dict[str, AttackWords]
    """The attacks on harmful prompts; benign prompts are completed under `prefill`, like pairs."""
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
    """Number of test prompts of each harm type."""
    prefill: str
    max_new_tokens: int
    batch_size: int


class CurveJob(Job):
    """How the masks of one family are measured at every size."""

    family: str
    roles: dict[str, Role]
    pairs: int | None
    """Test pairs of each behaviour whose NLL is measured; all if None."""
    batch_tokens: int
    completing: Completing | None
    """None if nothing is completed."""
    device: Device


class EqualCostJob(Job):
    """How the masks that cost the same are measured."""

    roles: dict[str, Role]
    """Behaviours whose test pairs are measured."""
    batch_tokens: int
    device: Device


class UnderstandingJob(Job):
    """How harm detection, explanations and over-refusal of a variant are measured."""

    variant: str
    ablation: Ablation = "zero"
    """What the weights of the variant's mask are set to."""
    harms: list[str]
    """Harm types whose test prompts are explained."""
    minimal_pairs: SourceLocation
    limit: int | None
    """The number of minimal pairs that are used; all if None."""
    over_refusal: int
    """The number of harmless requests that are completed, with up to `max_new_tokens`."""
    explain: int
    """The maximum length of an explanation in tokens; 0 for no explanations."""
    explain_prompts: int
    """The number of explanations for each harm type."""
    max_new_tokens: int
    batch_size: int
    batch_tokens: int
    device: Device


class UtilityJob(Job):
    """The utility tasks of a variant, and how they are run."""

    variant: str
    ablation: Ablation = "zero"
    """What the weights of the variant's mask are set to."""
    tasks: dict[str, str | None]
    """Tasks by name, with the digest of the content of a task of `folder`, or None for one of
    lm-eval's own."""
    folder: PortablePath
    limit: int | None
    """Maximum number of items of a task; all if None."""
    batch_size: int
    chat: bool
    """Whether each item is formatted by the model's chat template."""
    device: Device


class RetrainJob(Job):
    """How a model is fine-tuned in memory, and how it is measured during the training."""

    arm: str
    mask: str | None
    """The mask that is ablated before the training."""
    fixed: Literal["nothing", "zeroed", "others"]
    """The weights that training does not change: none, those that are ablated, or all others."""
    after: dict[str, str]
    """The masks of arms that ablate this arm's model after the training."""
    recipe: Recipe
    seeds: list[int]
    """Seeds of the order of examples; the model is trained once for each."""
    trained_on: list[str]
    """Behaviours whose train pairs are the training examples."""
    roles: dict[str, Role]
    at: list[int]
    """Steps after which the model is measured, in addition to the last step."""
    pairs: int | None
    prompts: int
    questions: SourceLocation | None
    """Open questions, which are answered before and after the training."""
    narrow: str | None
    """The domain of the questions that is trained on."""
    prefill: str
    max_new_tokens: int
    batch_size: int
    batch_tokens: int
    device: Device
    """Its precision is that of the weights; the recipe has that of the passes."""

    @property
    def masks(self) -> list[str]:
        """The masks that the job reads, in the order in which it gets their files."""
        return sorted({*self.after.values(), *([self.mask] if self.mask else [])})
