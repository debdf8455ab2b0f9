"""The config sections of training: trained models, and fine-tuning experiments in memory."""

from typing import Annotated, Literal, NamedTuple, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from lesion.study.renamed import with_new_arms
from lesion.study.types import (
    Count,
    Dtype,
    Name,
    Names,
    Number,
    Numbers,
    Positive,
    PositiveFloat,
    Section,
    Share,
    SourceText,
    ascending,
    several,
)

Answered = Literal["own", "refusal"]

FROZEN, ONLY, AFTER = "-frozen", "-only", "-after"
ARM_ENDINGS = (FROZEN, ONLY, AFTER)
"""Suffixes of an arm's name: zeros are kept during training, nothing else is trained, or ablation
follows training."""

Seeds = Numbers[Count]


class Lora(Section):
    """Low-rank adapters (peft) on every prunable matrix, including each of several stacked experts,
    are trained instead of all weights. A model in which a matrix cannot be adapted is an error
    before the first step.
    """

    rank: Positive = 16
    """Rank of the adapters."""
    alpha: Positive = 32
    """Scale of the adapters: their output is multiplied by alpha / rank."""


class Recipe(Section):
    """Settings of the optimiser (AdamW)."""

    steps: Positive
    """Number of optimiser steps."""
    learning_rate: PositiveFloat = 1e-5
    """Peak learning rate."""
    batch_size: Positive = 8
    """Examples per optimiser step."""
    accumulate: Positive = 1
    """Gradient accumulation: the number of parts that a batch is split into; more parts need less
    memory."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """Learning rate schedule after the warm-up."""
    warmup: Share = 0.0
    """Fraction of the steps over which the learning rate rises linearly to its peak."""
    weight_decay: Annotated[float, Field(ge=0), Number] = 0.0
    """AdamW's weight decay."""
    dtype: Dtype = "auto"
    """Precision of the forward and backward pass; weights and optimiser state are fp32. `auto` is
    bf16 on devices that compute it natively, otherwise fp32."""
    lora: Lora | None = None
    """Train adapters instead of all weights, and merge them into the weights at the end."""

    @model_validator(mode="after")
    def _equal_parts(self) -> Self:
        if self.batch_size % self.accumulate:
            raise ValueError("`accumulate` must divide `batch_size`")
        return self


class MixtureComponent(Section):
    """A part of a training mixture: examples of behaviours of the study, or rows of a file."""

    behaviours: Names = []
    """Behaviours whose train prompts are used."""
    answer: Answered = "own"
    """`own`: the responses of the behaviours' pairs, with their prefill. `refusal`: the texts of
    `refusals`, in turn. For DPO, this is the chosen response and the other one is rejected."""
    source: SourceText | None = None
    """A file of examples in place of behaviours: a name from `sources`, or an address."""
    prompt: str = "prompt"
    """Column of the prompts in the file."""
    response: str | None = None
    """Column of the responses in the file; for DPO, the chosen ones."""
    rejected: str | None = None
    """Column of the rejected responses in the file, for DPO."""
    text: str | None = None
    """Column of plain texts in the file, in place of prompts and responses; the loss is taken on
    every token."""
    limit: Positive | None = None
    """Maximum number of examples; all, if not given."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if bool(self.behaviours) == (self.source is not None):
            raise ValueError("give either `behaviours` or `source`")
        if self.source is not None and (self.response is None) == (self.text is None):
            raise ValueError("`source` needs the name of a column: either `response` or `text`")
        return self


class Train(Recipe):
    """How a model is trained from another one, or from scratch."""

    method: Literal["sft", "dpo"] = "sft"
    """`sft`: supervised fine-tuning. `dpo`: direct preference optimisation."""
    mixture: Annotated[list[MixtureComponent], Field(min_length=1)]
    """The parts of the training mixture, whose examples are shuffled together by the seed."""
    refusals: SourceText | None = None
    """A file of refusals, in a column `response`: a name from `sources`, or an address."""
    beta: PositiveFloat = 0.1
    """DPO's beta: the strength of the penalty for moving away from the initial model."""
    save_minutes: PositiveFloat = 10
    """Minutes between saved states, from which a killed training resumes."""
    seeds: Seeds = [0]
    """Seeds of the order of examples and of new weights. With several seeds, one model is trained
    for each, named `<model>-<seed>`; if the base has several seeds too, it starts from the base of
    the same seed."""


def of_seed(name: str, seed: int) -> str:
    """The name of the model that a model of several seeds is replaced by for one of them."""
    return f"{name}-{seed}"


class New(Section):
    """A small Llama with random weights, and a tokenizer of the words that it is trained on.

    Its vocabulary is fixed: later training cannot add words.
    """

    layers: Positive = 4
    """Transformer blocks."""
    width: Positive = 128
    """Hidden size."""
    heads: Positive = 4
    """Attention heads."""
    inner: Positive = 384
    """Intermediate size of the MLPs."""
    context: Positive = 256
    """Maximum sequence length."""


class Arm(NamedTuple):
    """A model that is trained in memory: its mask, and when the mask is zeroed."""

    mask: str | None
    lesioned: Literal["before", "after", "frozen", "only"] | None


def arm_of(name: str) -> Arm:
    """The mask of an arm, and when it is zeroed; its name is how a config writes both."""
    if name == "unmodified":
        return Arm(None, None)
    if name.endswith(AFTER):
        return Arm(name.removesuffix(AFTER), "after")
    if name.endswith(ONLY):
        return Arm(name.removesuffix(ONLY), "only")
    frozen = name.endswith(FROZEN)
    return Arm(name.removesuffix(FROZEN), "frozen" if frozen else "before")


class Retraining(Section):
    """Fine-tuning in memory, which may use harmful pairs: the models are never written to disk.

    Arms: `unmodified`, trained without ablation; `<mask>`, ablated before training;
    `<mask>-frozen`, ablated before training with the weights kept at zero; `<mask>-only`, ablated
    before training of these weights alone, as by an attacker who knows the mask; `<mask>-after`,
    trained like `unmodified` and ablated after training.
    """

    models: Names = []
    """The models that are trained; all that have a `source`, if not given."""
    recipe: Recipe
    """Settings of the optimiser."""
    behaviours: Names = []
    """Behaviours whose train pairs are the training examples; all harm types, if not given."""
    arms: Annotated[
        list[Name], BeforeValidator(with_new_arms), Field(min_length=1), AfterValidator(ascending)
    ] = ["shared", "unmodified"]
    """The arms that are compared; `unmodified` must be among them."""
    at: Annotated[list[Count], BeforeValidator(several), Number, AfterValidator(ascending)] = [0]
    """Steps after which the model is measured, in addition to the last step."""
    pairs: Positive | None = None
    """Test pairs of each behaviour whose NLL is measured at these steps; all, if not given."""
    prompts: Count = 0
    """Test prompts of each harm type that are completed under the prefill at these steps, and
    judged."""
    questions: SourceText | None = None
    """Open questions, answered before and after the training: a name from `sources`, or an address
    of a file with the columns `domain` and `prompt`."""
    narrow: Name | None = None
    """The domain of `questions` that is trained on; all other domains count as broad."""
    judge: Name | None = None
    """The judge of the answers to the questions, named in `judgements.judges`."""
    seeds: Seeds = [0]
    """Seeds of the order of examples; every arm is trained once for each."""

    @model_validator(mode="after")
    def _compared(self) -> Self:
        if "unmodified" not in self.arms:
            raise ValueError("`arms` must contain `unmodified`, which the others are compared with")
        if max(self.at, default=0) > self.recipe.steps:
            raise ValueError(f"`at` exceeds the {self.recipe.steps} steps of `recipe`")
        if self.questions is not None and (self.judge is None or self.narrow is None):
            raise ValueError("`questions` requires `judge` and `narrow`")
        if self.recipe.lora and any(arm.endswith(FROZEN) for arm in self.arms):
            raise ValueError(
                "`lora` changes every weight, so zeros cannot be kept: remove `lora` or the arms "
                f"that end with `{FROZEN}`"
            )
        for key in ("lora", "weight_decay"):
            if getattr(self.recipe, key) and any(arm.endswith(ONLY) for arm in self.arms):
                raise ValueError(
                    f"`{key}` changes every weight, and arms that end with `{ONLY}` train only the "
                    f"zeroed ones: remove `{key}` or these arms"
                )
        return self

    @property
    def trained(self) -> list[str]:
        """Arms with a training of their own; the others are ablations of the arm `unmodified`."""
        return [arm for arm in self.arms if not arm.endswith(AFTER)]

    @property
    def masks(self) -> dict[str, str]:
        """The mask of every arm except `unmodified`."""
        return {arm: mask for arm in self.arms if (mask := arm_of(arm).mask) is not None}
