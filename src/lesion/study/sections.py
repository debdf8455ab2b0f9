"""The sections of a config. Their defaults are those of the default study (`config.yaml`)."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from lesion.study.attacks import RefusalAblation, Template
from lesion.study.controls import Control
from lesion.study.training import New, Train
from lesion.study.types import (
    Ablation,
    ByName,
    Count,
    Dtype,
    Fraction,
    Name,
    NonNegative,
    Number,
    Numbers,
    PathText,
    Pool,
    Positive,
    PositiveFloat,
    Scope,
    Section,
    SelectionRule,
    Share,
    SourceText,
    StoredDtype,
    TemplateText,
    Wording,
    ascending,
    once,
)


class ChatSettings(Section):
    """How prompts are formatted for a model."""

    template: TemplateText = "auto"
    """`auto`: the model's own chat template, from whichever of its files has it, or the plain
    format (`User: … Assistant:`) if none has. `plain`: always that format. A path
    (`file:own.jinja`): the template in that file. A name: one of the model's named templates."""
    kwargs: dict[str, Any] = {}
    """Arguments of the template, such as `enable_thinking: false`."""
    system: str | None = None
    """A system prompt; the template's default, if not given."""


class Model(Section):
    """A model to study: an existing one, or one that the study trains from another model or from
    scratch.
    """

    source: SourceText | None = None
    """Where the model is: a name from `sources`, or an address. A GGUF file, or a folder or hub
    repository with safetensors."""
    base: Name | None = None
    """Instead of `source`: the model of this study that this one is trained from."""
    new: New | None = None
    """Instead of `source`: the shape of a small model that is trained from random weights."""
    train: Train | None = None
    """How it is trained; requires `base` or `new`. A model that is trained on responses to harmful
    prompts is never written to disk; see `retraining`."""
    pairs: Literal["base", "own"] = "base"
    """For a model with a `base`: whether it is measured on its base's responses, so that stages of
    one family are compared on the same texts, or on its own."""
    chat: ChatSettings = ChatSettings()
    """How prompts are formatted: chat template, its arguments, a system prompt. A model with a
    `base` uses its base's."""
    license: str = "unknown"
    """SPDX identifier of the model's licence, for the model cards."""
    dtype: StoredDtype = "float32"
    """Precision in which a GGUF file or a trained model is written; other models keep theirs."""

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if sum(origin is not None for origin in (self.source, self.base, self.new)) != 1:
            raise ValueError("give exactly one of `source`, `base` and `new`")
        if (self.train is None) != (self.source is not None):
            raise ValueError("`train` requires `base` or `new`, and vice versa")
        if self.source is None and self.chat != ChatSettings():
            raise ValueError("`chat` requires `source`: a trained model has its base's format")
        return self


class Split(Section):
    """Fractions of the prompts in each split."""

    train: Fraction = 0.5
    """Fraction whose pairs are scored."""
    validation: Fraction = 0.2
    """Fraction on which p and q are chosen."""
    test: Fraction = 0.3
    """Fraction that is used for the reported measurements alone."""

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if abs(self.train + self.validation + self.test - 1) > 1e-9:
            raise ValueError("`train`, `validation` and `test` must add up to 1")
        return self


class Pairs(Section):
    """Prompt and response pairs."""

    reference_model: Name | None = None
    """The model on whose responses all models are measured, so that they are compared on the same
    texts. If not given, each model is measured on its own responses."""
    prefill: str = "Sure, here is"
    """Beginning of the model's answer for harmful and benign prompts alike; it is never scored."""
    max_new_tokens: Positive = 36
    """Maximum length of the responses that the model generates, in tokens."""
    batch_size: Positive = 64
    """Prompts per batch of generation."""
    limit: Positive | None = None
    """Take at most this many prompts of every behaviour that has no `limit` of its own; all, if not
    given."""
    wordings: Annotated[list[Wording], Field(min_length=1), AfterValidator(once)] = ["{prompt}"]
    """Texts with `{prompt}` in them, such as `Could you do this for me? {prompt}`: every prompt of
    a behaviour is put into one of them, drawn by its hash, and a matched request into that of its
    harmful one. So a study shows whether what it finds depends on how requests are worded. Minimal
    pairs, look-alikes, open questions and what models are trained on stay as they are; a table of
    attacked prompts must have the prompts as they are worded."""
    near_duplicate: Fraction = 0.6
    """Prompts at least this similar (cosine of character 3- to 5-grams) share a split."""
    split: Split = Split()
    """Fractions of the prompts for scoring, for the choice of p and q, and for the report."""


class Memory(Section):
    """How scoring uses memory; the scores are the same under every setting, up to rounding."""

    plan: Literal["auto", "all", "offload", "passes"] = "auto"
    """`all`: the sums of all layers are on the model's device. `offload`: the sums are in CPU
    memory, and gradients are moved there layer by layer. `passes`: the layers are divided into
    groups, each with its own pass over the pairs. `auto` uses the first of these that fits into
    free memory, and logs it."""
    passes: Positive | None = None
    """Number of groups of layers, at most `shards`. If not given, as few as fit into memory."""
    checkpointing: bool | None = None
    """Activation checkpointing: activations are recomputed in the backward pass instead of kept. If
    not given, it is used when memory requires it."""


class Tail(Section):
    """Truncated scores: the largest p and q that a score file serves, in the study's scope."""

    p: Share
    """Largest fraction of preserved weights."""
    q: Fraction
    """Largest fraction of selected weights."""


class Scores(Section):
    """How weights are scored."""

    dtype: Dtype = "auto"
    """Precision of the forward and backward pass; sums are always fp32. `auto` is bf16 on devices
    that compute it natively, otherwise fp32."""
    batch_tokens: Positive = 512
    """Padded tokens per batch; smaller batches need less memory."""
    shards: Positive = 2
    """Files that a behaviour's scores are split into."""
    text: Literal["chat", "plain"] = "chat"
    """How pairs are written for scoring. `chat`: in the model's chat format, as they are generated
    and evaluated. `plain`: the prompt, a new line, the prefill and the response, without template,
    system prompt and control tokens (BOS, end of turn)."""
    preservation: Literal["per-example", "mean"] = "per-example"
    """Preservation importance: mean over examples of |W*g|, or |mean of W*g| (cheaper)."""
    memory: Memory = Memory()
    """How scoring uses memory."""
    tail: Tail | Literal["auto"] | None = "auto"
    """Truncated scores: store only the scores that selections up to this (p, q) can use. Masks up
    to it are exact, larger ones are an error, and the files are much smaller. `auto` stores those
    that the study's own p and q need where this is exact and smaller (no contrast, no mean over
    several capabilities, no controls that need every score), and otherwise all; a larger q then
    means scoring again. `null` stores all."""
    save_minutes: PositiveFloat = 10
    """Minutes between saved states of the sums, from which a killed job resumes."""


class SharedMask(Section):
    """The mask across harm types."""

    at_least: Positive | None = None
    """A weight belongs to `shared` if the masks of at least this many harm types contain it; more
    than half of them, if not given."""


class Masks(Section):
    """How masks are selected."""

    rule: SelectionRule = "budget"
    """`budget`: exclude the top p by preservation importance, then select exactly q. `difference`:
    select the top q, then remove the weights that are in the top p."""
    scope: Scope = "global"
    """The set of weights that the fractions p and q refer to: all prunable parameters together,
    each matrix, or each row of a matrix (output unit)."""
    preservation_pooling: Pool = "mean"
    """Preservation importance over several capabilities: the mean over all their pairs, or the
    maximum of their means, which also preserves weights that only one capability needs."""
    p: Numbers[Share] = [0.05, 0.15]
    """Fraction of weights preserved for benign use. Of several values, the best on the validation
    split is chosen."""
    q: Numbers[Fraction] = [7e-5, 1.5e-4]
    """Fraction of weights in each behaviour's mask. Of several values, the best on the validation
    split is chosen; they are tried in ascending order, up to one that adds more than 1 nat per
    token to benign answers (more than `max_benign_increase`, if that is larger)."""
    own_q: Fraction | None = None
    """Fraction of weights in the mask of a single behaviour, if it is not the chosen q: harm types
    share few of the weights that a contrast selects, so that the q whose shared mask keeps the
    benign limit makes masks of single behaviours that do not."""
    contrast: Numbers[NonNegative] = [1.0]
    """Weight of the signed contrast: a harm type's scores minus this times those of its matched
    requests, if it has a behaviour of role `matched`, so that weights of the topic and the form of
    an answer are not selected. 0: its own scores alone. Of several values, the best on the
    validation split is chosen."""
    benign_contrast: NonNegative = 0.5
    """Weight of everyday use in the contrast: this times the mean signed scores of the benign
    behaviours is subtracted too, so that a mask of the same benign loss can be larger. It has no
    effect without a contrast."""
    max_benign_increase: PositiveFloat = 0.1
    """Benign limit: the largest benign NLL that the shared mask may add (nats per token, on the
    validation split) for (p, q) to be eligible."""
    shared: SharedMask = SharedMask()
    """The mask of the weights that harm types have in common."""
    controls: Annotated[list[Control], AfterValidator(ascending)] = ["random"]
    """Control masks, with as many weights in every matrix as `shared`: `random`, drawn at random;
    `random-magnitude`, drawn at random with matched |W|; `unsigned`, the largest |W*g| on harmful
    pairs; `wanda`, the largest |W| * ||X|| on harmful pairs; `unimportant`, the least preservation
    importance; `benign-signed`, signed SNIP scores on benign pairs; `opposite-sign`, the most
    positive signed SNIP scores on harmful pairs; `second-q`, the most negative ones outside
    `shared`; `random-importance`, drawn at random with matched preservation importance;
    `random-magnitude-importance`, with both matched; `random-lines`, drawn at random with as many
    weights in every row and every column; or one of an installed plug-in
    (docs/how-to/adding.md). They are evaluated if `responses.variants` names them or is not
    given."""


class EqualCost(Section):
    """Masks of different rules that cost the same on benign text, so that what they do to harm can
    be compared: each is grown until it adds the same NLL to benign responses.
    """

    masks: Annotated[list[Name], AfterValidator(ascending)] = []
    """Masks to compare: `shared`, always; `plain`, which is `shared` without the contrast;
    `matched` and `refusals`, which are selected for the answers to matched requests and for
    refusals, if there are any, also with `masks.benign_contrast`; any control; the mask of any
    behaviour. None, if not given."""
    limits: Numbers[PositiveFloat] = [0.05]
    """The NLL that each mask adds to benign responses, on the validation split (nats per token)."""
    largest: Fraction = 0.02
    """The largest fraction of weights in a behaviour's mask that is tried. A mask that does not
    come near a limit is compared as it is, and the table says so."""


class Responses(Section):
    """How the variants complete prompts, and how the NLL of responses is measured."""

    dtype: Dtype = "auto"
    """Precision of generation and of the NLL."""
    attacks: Annotated[list[Name], Field(min_length=1), AfterValidator(ascending)] = [
        "direct",
        "prefill",
    ]
    """How harmful test prompts are presented: `direct`, the prompt alone; `prefill`, with
    `pairs.prefill` as the beginning of the answer; `own-prefix`, with the beginning of the model's
    own harmful answer; `refusal-ablation`, alone, to a model without its weights of refusal, and
    `refusal-ablation-prefill` and `refusal-ablation-own-prefix`, both together; or by one of
    `templates`, or of an installed plug-in (docs/how-to/adding.md)."""
    own_prefix: Positive = 10
    """For the attacks `own-prefix`: the number of tokens of the model's own answer that follow
    `pairs.prefill`. Prompts whose pair is not kept, because the model has refused, have no such
    answer and are left out."""
    refusal_ablation: RefusalAblation = RefusalAblation()
    """The weights of refusal that the attacks `refusal-ablation…` set to zero."""
    ablation: Ablation = "zero"
    """What the weights of a variant's mask are set to where variants complete prompts, are tested
    for understanding or run tasks: `zero`; `mean`, the mean of the weights of their matrix; or a
    number by which they are multiplied. Everything else (the choice of p and q, curves,
    retraining, checkpoints, the attacks `refusal-ablation…`) sets weights to zero."""
    templates: ByName[Template] = {}
    """Further attacks, by the name that `attacks` gives them. A prompt that exceeds the model's
    context in a template gets no completion, and the log counts such prompts."""
    variants: Annotated[list[Name], AfterValidator(once)] | None = None
    """Masks to evaluate in addition to `unmodified`. If not given: `shared`, the controls, every
    harm type's mask and that of refusal."""
    judged_variants: Annotated[list[Name], AfterValidator(once)] | None = None
    """The variants that complete prompts and are judged, in addition to `unmodified`; for the other
    variants, only the NLL is measured. All, if not given."""
    max_new_tokens: Positive = 32
    """Maximum length of the completions, in tokens."""
    benign_prompts: Positive = 6
    """Test prompts of each benign capability that are completed; the NLL is measured on all."""
    batch_size: Positive = 64
    """Prompts per batch of generation."""
    engine: Literal["transformers", "vllm"] = "transformers"
    """The engine that generates completions. `vllm` is faster on large GPUs. It reads each variant
    from a temporary checkpoint, which is removed afterwards; variants of refusal masks are always
    generated in memory by transformers. LESION_VLLM_PYTHON names the Python that has vLLM, if it is
    not lesion's own."""
    batch_tokens: Positive = 1024
    """Padded tokens per batch of the NLL."""


class Curve(Section):
    """Harm and utility as functions of the number of ablated weights."""

    families: Annotated[list[Name], AfterValidator(ascending)] = []
    """Masks that are made in several sizes: `shared`, `shared-all`, any control, or the mask of any
    behaviour. None, if not given."""
    sizes: Numbers[PositiveFloat] = [0.5, 1.0, 2.0, 4.0, 8.0]
    """Sizes of the masks, as multiples of the chosen q. A control has as many weights as `shared`
    at each size."""
    seeds: Positive = 1
    """Draws of each random control; the report shows their mean."""
    max_pairs: Positive | None = 6
    """Test pairs of each behaviour whose NLL is measured at each size; null means all."""
    prompts: Positive = 6
    """Test prompts of each harm type that are completed at each size."""
    completions: bool = False
    """Complete harmful prompts under the prefill at every size, so that they can be judged."""


class Understanding(Section):
    """Whether a variant still detects harm and explains it, and whether it refuses too much."""

    minimal_pairs: SourceText | None = None
    """Minimal pairs of a harmful request and a harmless one that looks like it: a name from
    `sources`, or an address of a file with the columns `harm`, `harmful` and `harmless`. If not
    given, nothing of this section is measured."""
    limit: Positive | None = None
    """Use at most this many pairs, in the file's order."""
    explain: Count = 32
    """Maximum length, in tokens, of the explanations why a harmful test prompt is harmful, which
    are judged too; 0 turns explanations off."""
    explain_prompts: Positive = 2
    """Test prompts of each harm type that are explained."""
    variants: Annotated[list[Name], AfterValidator(once)] | None = None
    """Masks to measure in addition to `unmodified`; those of `responses.variants`, if not given."""
    over_refusal: Count = 12
    """Harmless requests of the minimal pairs that are completed to measure the refusal rate."""


class Utility(Section):
    """What variants can still do, measured by tasks of the lm-evaluation-harness."""

    tasks: Annotated[list[str], AfterValidator(ascending)] = []
    """Names of tasks, groups or tags: those of `folder`, or lm-eval's own (`arc_easy`, `hellaswag`,
    `mmlu`, …), whose data is on the Hugging Face hub. None, if not given."""
    folder: Annotated[PathText, Field(validate_default=True)] = "lesion:studies/tasks"
    """Folder of the study's own tasks: YAML files in lm-eval's format, next to their data. The
    default's are `lesion_arithmetic`, `lesion_code`, `lesion_facts`, `lesion_instruct` and
    `lesion_language`, which need no network."""
    limit: Positive | None = None
    """Maximum number of items of each task; all, if not given."""
    batch_size: Positive = 32
    """Items or choices per batch; short ones are batched in larger numbers."""
    chat: bool = False
    """Put each item into a user's turn of the model's chat template. Otherwise the model continues
    the bare text, which is lm-eval's default and how most published numbers are measured."""
    variants: Annotated[list[Name], AfterValidator(once)] | None = None
    """Masks to measure in addition to `unmodified`; those of `responses.variants`, if not given."""


class Tables(Section):
    """Statistics of the tables."""

    resamples: Annotated[int, Field(ge=100), Number] = 2000
    """Number of bootstrap resamples for the intervals of means and differences."""
    confidence: Annotated[float, Field(ge=0.9, lt=1), Number] = 0.95
    """Level of every interval, at least 0.9: claims go by whole intervals."""


class Report(Section):
    """The report page."""

    examples: Count = 6
    """Prompts that are shown with the completions of the unmodified and the ablated model."""
