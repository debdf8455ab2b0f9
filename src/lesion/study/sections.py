"""The sections of a config. Their defaults are those of the default study (`config.yaml`)."""

from datetime import date
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from lesion.study.training import New, Train
from lesion.study.types import (
    MIN_PROMPTS,
    Control,
    Dtype,
    Fraction,
    Name,
    PathText,
    Pool,
    Positive,
    Role,
    Scope,
    Section,
    SelectionRule,
    Share,
    SourceText,
    StoredDtype,
    TemplateText,
    ascending,
    by_name,
    once,
    several,
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
    """A model to study: an existing one, or one that is trained here from another or from
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
        if sum(one is not None for one in (self.source, self.base, self.new)) != 1:
            raise ValueError("give exactly one of `source`, `base` and `new`")
        if (self.train is None) != (self.source is not None):
            raise ValueError("`train` requires `base` or `new`, and vice versa")
        if self.source is None and self.chat != ChatSettings():
            raise ValueError("`chat` requires `source`: a trained model has its base's format")
        return self


def _as_text(value: Any) -> Any:
    """What YAML takes for a truth value, a number or a date, as the text that it was."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, (int, float, date)) else value


Wanted = Annotated[str, BeforeValidator(_as_text, json_schema_input_type=str | float | bool)]


class Where(Section):
    """A filter on rows: a column, and the value that it must have."""

    column: str
    """Column of the source that is compared."""
    equals: Wanted | None = None
    """Keep rows whose value is this: a text, a number, or true or false."""
    first: Wanted | None = None
    """Keep rows whose list begins with this."""
    contains: Wanted | None = None
    """Keep rows whose list, or text, contains this."""

    @model_validator(mode="after")
    def _one_condition(self) -> Self:
        given = [self.equals, self.first, self.contains]
        if sum(value is not None for value in given) != 1:
            raise ValueError("give exactly one of `equals`, `first` and `contains`")
        return self


class Behaviour(Section):
    """A behaviour of models that is to be located."""

    role: Role
    """`harm`: a harm type, located and ablated. `benign`: a capability to preserve. `refusal`:
    refusing harmful requests."""
    source: SourceText
    """Prompts: a name from `sources`, or an address such as `file:my/prompts.jsonl` (JSON lines, a
    JSON list, CSV, TSV, parquet, a PyRIT data set in YAML, or a folder that holds one table)."""
    prompt: str = "prompt"
    """Column that holds the prompts."""
    response: str | None = None
    """Column that holds responses to use instead of the model's own."""
    responses: SourceText | None = None
    """Address of a file with a `response` column whose rows are given to the prompts in turn
    (refusals, say)."""
    where: Where | None = None
    """Which rows of the source belong to this behaviour; all, if not given."""
    limit: Positive | None = None
    """Take at most this many prompts, in the source's order."""

    @model_validator(mode="after")
    def _one_response(self) -> Self:
        if self.response is not None and self.responses is not None:
            raise ValueError("give `response` or `responses`, not both")
        if self.limit is not None and self.limit < MIN_PROMPTS:
            raise ValueError(f"`limit` must leave at least {MIN_PROMPTS} prompts to split")
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
    texts; each on its own, if not given."""
    prefill: str = "Sure, here is"
    """Beginning of the model's answer, given for harm and benign alike; it is never scored."""
    max_new_tokens: Positive = 36
    """Maximum length of the responses that the model generates."""
    batch_size: Positive = 32
    """Prompts generated at once."""
    near_duplicate: Fraction = 0.6
    """Prompts at least this similar (cosine of character 3- to 5-grams) share a split."""
    split: Split = Split()
    """Fractions of the prompts that are scored, choose p and q, and are reported."""


class Memory(Section):
    """How scoring uses memory; whatever is chosen, the scores agree to rounding."""

    plan: Literal["auto", "all", "offload", "passes"] = "auto"
    """`all`: sums of all layers at once, on the model's device. `offload`: sums in CPU memory, to
    which gradients move layer by layer. `passes`: one pass over the pairs for each of several
    groups of layers. `auto` takes the first that fits into free memory, and logs it."""
    passes: Positive | None = None
    """Groups of layers, each with its own pass; at most `shards`. As few as fit, if not given."""
    checkpointing: bool | None = None
    """Activation checkpointing: recompute activations in the backward pass instead of keeping them;
    where memory needs it, if not given."""


class Tail(Section):
    """Truncated scores: the largest p and q that a score file serves, at the study's scope."""

    p: Share
    """Largest fraction preserved."""
    q: Fraction
    """Largest fraction selected."""


class Scores(Section):
    """How weights are scored."""

    dtype: Dtype = "auto"
    """Precision of forward and backward; sums are always fp32. `auto` is bf16 where the device
    computes it natively, else fp32."""
    batch_tokens: Positive = 512
    """Padded tokens in one batch; fewer need less memory."""
    shards: Positive = 2
    """Files that a behaviour's scores are split into."""
    preservation: Literal["per-example", "mean"] = "per-example"
    """Preservation importance: mean over examples of |W*g|, or |mean of W*g| (cheaper)."""
    memory: Memory = Memory()
    """How scoring spends memory."""
    tail: Tail | None = None
    """Store only the scores that selections up to this (p, q) can use: exact within it, refused
    beyond it, and a small part of the size for the small fractions of large models."""
    save_minutes: Annotated[float, Field(gt=0)] = 10
    """Minutes between saved states of the sums, from which a killed job resumes."""


class SharedMask(Section):
    """The mask across harm types."""

    at_least: Positive = 3
    """A weight belongs to `shared` if at least this many harm types' masks hold it."""


class Masks(Section):
    """How masks are selected."""

    rule: SelectionRule = "budget"
    """`budget`: exclude the top p by preservation importance, then take exactly q. `difference`:
    take the top q, then remove those in the top p."""
    scope: Scope = "global"
    """The weights that the fractions are of: all candidates, each matrix, or each output unit."""
    preservation_pooling: Pool = "mean"
    """Preservation importance over several capabilities: the mean over all their pairs, or the
    largest of their means (what one capability alone needs is preserved too)."""
    p: Annotated[list[Share], BeforeValidator(several), AfterValidator(ascending)] = [
        0.05,
        0.15,
    ]
    """Fraction of weights preserved for benign use; several values are tried on validation."""
    q: Annotated[list[Fraction], BeforeValidator(several), AfterValidator(ascending)] = [
        7e-5,
        1.5e-4,
    ]
    """Fraction of weights each behaviour's mask takes; several values are tried on validation."""
    max_benign_increase: Annotated[float, Field(gt=0)] = 0.1
    """Limit on the benign NLL that the shared mask adds (nats per token, validation) when p and q
    are chosen."""
    shared: SharedMask = SharedMask()
    """The mask of what harm types have in common."""
    controls: Annotated[list[Control], AfterValidator(ascending)] = ["random"]
    """Masks with as many weights in every matrix as `shared`: `random`; `random-magnitude`, random
    of the same |W|; `unsigned`, the largest |W*g| on harm; `wanda`, the largest |W| * ||X|| on
    harm; `unimportant`, the least preservation importance; `benign-signed`, the same method pointed
    at benign pairs. Evaluated if named in `responses.variants`, or left out there."""


class Template(Section):
    """An attack that rewrites prompts."""

    source: SourceText
    """Its words: a name from `sources`, or an address. A PyRIT jailbreak (YAML) or a text with
    `{{ prompt }}` where the prompt goes, and nothing else replaced; or a table (JSONL, CSV,
    parquet) with columns `prompt` and `attacked`, one row for each harmful test prompt."""
    prefill: str = ""
    """Beginning of the answer; empty, if not given."""


class Responses(Section):
    """What the variants are asked."""

    dtype: Dtype = "auto"
    """Precision of generation and of evaluation."""
    attacks: Annotated[list[Name], Field(min_length=1), AfterValidator(ascending)] = [
        "direct",
        "prefill",
    ]
    """How harmful test prompts are put: `direct`, bare; `prefill`, with the answer begun by
    `pairs.prefill`; or in the words of one of `templates`."""
    templates: Annotated[dict[Name, Template], AfterValidator(by_name)] = {}
    """Attacks of your own, by the name that `attacks` calls them. What they make of a prompt may
    not fit the model's context; such a prompt gets no completion, and is counted in the log."""
    variants: Annotated[list[Name], AfterValidator(once)] | None = None
    """Masks to evaluate beside `intact`; `shared`, the controls and every harm type's own, if not
    given."""
    judged_variants: Annotated[list[Name], AfterValidator(once)] | None = None
    """Those of the variants that complete prompts and are judged, beside `intact`; of the others
    only the NLL is measured. All, if not given."""
    max_new_tokens: Positive = 32
    """Maximum length of the completions."""
    benign_prompts: Positive = 6
    """Test prompts of each benign capability that are completed; the NLL is measured on all."""
    batch_size: Positive = 64
    """Prompts generated at once."""
    engine: Literal["transformers", "vllm"] = "transformers"
    """What generates the variants' completions. `vllm` is faster on large GPUs and reads each
    variant from a checkpoint beside its answers, removed at once (a refusal mask's stays in
    memory); LESION_VLLM_PYTHON names the Python that has vLLM, if it is another than lesion's."""
    batch_tokens: Positive = 1024
    """Padded tokens in one batch of the NLL."""


class Curve(Section):
    """Harm and utility as functions of the number of ablated weights."""

    families: Annotated[list[Name], AfterValidator(ascending)] = []
    """Masks of which several sizes are made: `shared`, `shared-all`, any control, any behaviour's
    own. None, if not given."""
    sizes: Annotated[
        list[Annotated[float, Field(gt=0)]],
        Field(min_length=1),
        BeforeValidator(several),
        AfterValidator(ascending),
    ] = [0.5, 1.0, 2.0, 4.0, 8.0]
    """Their sizes, as multiples of the chosen q. A control has as many weights as `shared` has
    there."""
    seeds: Positive = 1
    """Draws of the random controls, of which the mean is shown."""
    max_pairs: Positive | None = 2
    """Test pairs of each behaviour whose NLL is measured at each size; null for all."""
    prompts: Positive = 6
    """Test prompts of each harm type that are completed at each size."""
    completions: bool = False
    """Complete harmful prompts under the prefill at every size, so that they can be judged."""


class Understanding(Section):
    """Whether a variant still detects harm and explains it, and whether it refuses too much."""

    minimal_pairs: SourceText | None = None
    """Minimal pairs of a harmful request and a harmless one that looks like it: a name from
    `sources`, or an address of a file with the columns `harm`, `harmful` and `harmless`. Nothing of
    this section is measured, if not given."""
    limit: Positive | None = None
    """Take at most this many pairs, in the file's order."""
    explain: Annotated[int, Field(ge=0)] = 32
    """Maximum length of the explanations why a harmful test prompt is harmful, which are judged
    too; 0 asks for none."""
    explain_prompts: Positive = 2
    """Test prompts of each harm type that are explained."""
    variants: Annotated[list[Name], AfterValidator(once)] | None = None
    """Masks to ask beside `intact`; those of the responses, if not given."""
    over_refusal: Annotated[int, Field(ge=0)] = 12
    """Harmless requests of the minimal pairs that are answered, to see how many are refused."""


class Utility(Section):
    """What variants can still do, measured by tasks of the lm-evaluation-harness."""

    tasks: Annotated[list[str], AfterValidator(ascending)] = []
    """Tasks, groups or tags by name: those of `folder`, or lm-eval's own (`arc_easy`, `hellaswag`,
    `mmlu`, …), whose data is on the Hugging Face hub. None, if not given."""
    folder: PathText = "studies/tasks"
    """Folder of own tasks: YAML files as lm-eval takes them, with their data beside them."""
    limit: Positive | None = None
    """Items of each task at most; all, if not given."""
    batch_size: Positive = 32
    """Items or choices at once; more, if they are short."""
    chat: bool = False
    """Give each item as a user's turn in the model's chat template. Without it, the bare text is
    continued, which is lm-eval's default and how most published numbers are made."""
    variants: Annotated[list[Name], AfterValidator(once)] | None = None
    """Masks to examine beside `intact`; those of `responses.variants`, if not given."""


class Tables(Section):
    """Statistics."""

    resamples: Annotated[int, Field(ge=100)] = 2000
    """Bootstrap resamples behind the intervals of means and differences."""
    confidence: Fraction = 0.95
    """Level of every interval."""


class Report(Section):
    """The page."""

    examples: Annotated[int, Field(ge=0)] = 6
    """Prompts shown with the intact and the pruned model's answer."""
