"""The sections that train: models made of others, and fine-tuning in memory."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from lesion.study.types import (
    Dtype,
    Name,
    Positive,
    Section,
    Share,
    SourceText,
    ascending,
    several,
)

Answered = Literal["own", "refusal"]

FROZEN, AFTER = "-frozen", "-after"
ARM_ENDINGS = (FROZEN, AFTER)
"""Endings of an arm: its zeros stay, or it is ablated once it is trained."""

Seeds = Annotated[
    list[Annotated[int, Field(ge=0)]],
    Field(min_length=1),
    BeforeValidator(several),
    AfterValidator(ascending),
]


class Lora(Section):
    """Low-rank adapters (peft) on every candidate matrix, and on each of several stacked experts,
    instead of all weights. A model that can't have them all is refused before the first step.
    """

    rank: Positive = 16
    """Rank of the adapters."""
    alpha: Positive = 32
    """Adapters are scaled by alpha over rank."""


class Recipe(Section):
    """Settings of the optimiser (AdamW)."""

    steps: Positive
    """Optimiser steps."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-5
    """Peak learning rate."""
    batch_size: Positive = 8
    """Examples per optimiser step."""
    accumulate: Positive = 1
    """Gradient accumulation steps: parts of a batch whose gradients are added up; more parts need
    less memory."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """Learning rate schedule after the warm-up."""
    warmup: Share = 0.0
    """Fraction of the steps over which the learning rate rises linearly to its peak."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """AdamW's weight decay."""
    dtype: Dtype = "auto"
    """Precision of forward and backward; weights and optimiser are fp32. `auto` is bf16 where the
    device computes it natively."""
    lora: Lora | None = None
    """Train adapters instead of all weights, and add them to the weights at the end."""

    @model_validator(mode="after")
    def _equal_parts(self) -> Self:
        if self.batch_size % self.accumulate:
            raise ValueError("`accumulate` must divide `batch_size`")
        return self


class Lesson(Section):
    """A part of a training mixture: examples of behaviours of the study, or rows of a file."""

    behaviours: Annotated[list[Name], BeforeValidator(several), AfterValidator(ascending)] = []
    """Behaviours whose train prompts are used."""
    answer: Answered = "own"
    """`own`: the responses of the behaviours' pairs, with their prefill. `refusal`: one of
    `refusals`, in turn. DPO prefers this one to the other."""
    source: SourceText | None = None
    """Rows of a file instead: a name from `sources`, or an address."""
    prompt: str = "prompt"
    """Column of the file that holds prompts."""
    response: str | None = None
    """Column of the file with the wanted responses."""
    rejected: str | None = None
    """Column of the file with the unwanted ones, for DPO."""
    text: str | None = None
    """Column of the file with plain texts, trained on from their first token; instead of
    prompts."""
    limit: Positive | None = None
    """Maximum number of examples; all, if not given."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if bool(self.behaviours) == (self.source is not None):
            raise ValueError("give either `behaviours` or `source`")
        if self.source is not None and (self.response is None) == (self.text is None):
            raise ValueError("`source` needs either `response`, a column, or `text`")
        return self


class Train(Recipe):
    """How a model is trained from another one, or from scratch."""

    method: Literal["sft", "dpo"] = "sft"
    """Supervised fine-tuning on the wanted responses, or direct preference optimisation."""
    mixture: Annotated[list[Lesson], Field(min_length=1)]
    """The training mixture: examples of all its parts, in an order that the seed decides."""
    refusals: SourceText | None = None
    """File with a column `response`: the refusals of harmful prompts."""
    beta: Annotated[float, Field(gt=0)] = 0.1
    """DPO's beta: the strength of the penalty for moving away from the initial model."""
    save_minutes: Annotated[float, Field(gt=0)] = 10
    """Minutes between saved states, from which a killed training resumes."""
    seeds: Seeds = [0]
    """Seeds of the order of examples, and of new weights. With several there is a model for each,
    named `<model>-<seed>`, whose base is its base's of the same seed if that has several too."""


class New(Section):
    """A small Llama with random weights, and a tokenizer of the words it is trained on.

    Later training can teach it no other words.
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


def mask_of(arm: str) -> str:
    """The mask of an arm."""
    for ending in ARM_ENDINGS:
        if arm.endswith(ending):
            return arm.removesuffix(ending)
    return arm


class Retraining(Section):
    """Fine-tuning in memory, on harmful pairs too: nothing but numbers is kept of the models.

    Arms: `intact`, trained without ablation; `<mask>`, ablated first; `<mask>-frozen`, ablated
    first, and the zeros stay; `<mask>-after`, trained as `intact` and ablated at the end.
    """

    models: Annotated[list[Name], BeforeValidator(several), AfterValidator(ascending)] = []
    """The models that are trained; those that have a `source`, if none is named."""
    recipe: Recipe
    """How it is trained."""
    behaviours: Annotated[list[Name], BeforeValidator(several), AfterValidator(ascending)] = []
    """Behaviours whose train pairs are trained on; every harm type's, if none is named."""
    arms: Annotated[list[Name], Field(min_length=1), AfterValidator(ascending)] = [
        "intact",
        "shared",
    ]
    """What is compared; `intact` must be among them."""
    at: Annotated[
        list[Annotated[int, Field(ge=0)]], BeforeValidator(several), AfterValidator(ascending)
    ] = [0]
    """Steps after which the model is measured; the last one always is."""
    pairs: Positive | None = None
    """Test pairs of each behaviour whose NLL is measured each time; all, if not given."""
    prompts: Annotated[int, Field(ge=0)] = 0
    """Test prompts of each harm type that are completed each time under the prefill, and judged."""
    questions: SourceText | None = None
    """Open questions, answered before and after the training: a name from `sources`, or an address
    of a file with the columns `domain` and `prompt`."""
    narrow: Name | None = None
    """The domain of `questions` that is trained on; all others count as broad."""
    judge: Name | None = None
    """Which of `judgements.judges` judges the answers to the questions."""
    seeds: Seeds = [0]
    """Seeds of the order of examples; each is a training of its own."""

    @model_validator(mode="after")
    def _compared(self) -> Self:
        if "intact" not in self.arms:
            raise ValueError("`arms` must hold `intact`, which the others are compared with")
        if max(self.at, default=0) > self.recipe.steps:
            raise ValueError(f"`at` goes beyond the {self.recipe.steps} steps of `recipe`")
        if self.questions is not None and (self.judge is None or self.narrow is None):
            raise ValueError("`questions` need `judge` and `narrow`")
        if self.recipe.lora and any(arm.endswith(FROZEN) for arm in self.arms):
            raise ValueError("`lora` moves every weight a little: no arm can stay frozen")
        return self

    @property
    def trained(self) -> list[str]:
        """Arms that are trainings of their own."""
        return [arm for arm in self.arms if not arm.endswith(AFTER)]

    @property
    def masks(self) -> dict[str, str]:
        """Every arm's mask, but `intact`'s."""
        return {arm: mask_of(arm) for arm in self.arms if arm != "intact"}
