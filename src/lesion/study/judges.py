"""The config section of the judges: one pydantic model for every kind of judge.

A kind is a subclass of `JudgeSection`, defined here or in a module of `lesion.judgements.kinds`;
that package also registers how a judge of each kind is built.
"""

import json
import re
from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import (
    BeforeValidator,
    GetJsonSchemaHandler,
    SerializeAsAny,
    ValidationError,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError

from lesion.study.plugins import PluginError, Plugins
from lesion.study.types import (
    ByName,
    Count,
    Dtype,
    Fraction,
    Name,
    Positive,
    PositiveFloat,
    Reader,
    Section,
    SourceText,
    check_known,
    nearest,
    without_null,
)

JUDGE_KINDS: dict[str, type["JudgeSection"]] = {}
"""The section of every kind of judge that was imported, by the kind's name."""


class JudgeSection(Section):
    """A further judge of completions of harmful prompts and open questions: a classifier, a model
    at an endpoint, or a judge that is trained on a file of the study.
    """

    files: ClassVar[Mapping[str, Reader]] = {}
    """The keys that name a source, and how each source is read."""
    embeds: ClassVar[bool] = False
    """Whether the judge needs the sentence embedder."""

    kind: str
    """The kind of judge; it determines the other keys."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        for kind in get_args(cls.model_fields["kind"].annotation):
            other = JUDGE_KINDS.get(kind, cls)
            if (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
                raise TypeError(f"the kind of judge `{kind}` is that of {other.__module__} already")
            JUDGE_KINDS[kind] = cls

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        if cls is not JudgeSection:
            return super().__get_pydantic_json_schema__(core_schema, handler)
        ours = dict(sorted(our_kinds().items()))
        of_plugin = {"type": "string", "not": {"enum": list(ours)}}
        return {
            "oneOf": [
                *(
                    section.__get_pydantic_json_schema__(section.__pydantic_core_schema__, handler)
                    for section in ours.values()
                ),
                {"type": "object", "properties": {"kind": of_plugin}, "required": ["kind"]},
            ]
        }

    @model_validator(mode="before")
    @classmethod
    def _own_keys(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        kind, own = values.get("kind"), cls.model_fields
        for name in sorted(own):
            if own[name].is_required() and values.get(name) is None:
                raise ValueError(f"`{name}` is missing; a `{kind}` judge needs it")
        others = {name for section in JUDGE_KINDS.values() for name in section.model_fields}
        for name in values:
            if name not in own and name in others:
                raise ValueError(f"`{name}` is not a key of a `{kind}` judge; remove it")
            if name not in own:
                raise ValueError(f"`{name}`: unknown key{nearest(str(name), own)}")
        return values


class ClassifierSection(JudgeSection):
    """A fine-tuned classifier."""

    source: SourceText
    """The classifier: a name from `sources`, or an address; a hub repository by its commit."""
    batch_size: Positive = 8
    """Completions per batch."""
    dtype: Dtype = "auto"
    """Precision of the classifier."""


class StrongRejectSection(ClassifierSection):
    """StrongREJECT's fine-tuned classifier."""

    files = {"base": "weights", "source": "weights"}

    kind: Literal["strongreject"]
    """StrongREJECT's classifier."""
    base: SourceText | None = None
    """The base model, if `source` is a LoRA adapter: a name from `sources`, or an address."""


class HarmBenchSection(ClassifierSection):
    """HarmBench's fine-tuned classifier."""

    files = {"source": "weights"}

    kind: Literal["harmbench"]
    """HarmBench's classifier."""
    template: Literal["llama2", "mistral"]
    """The prompt format that the classifier was trained with, named after its base model."""


class RubricSection(JudgeSection):
    """StrongREJECT's rubric, applied by a model at an endpoint of OpenAI's chat completions API."""

    kind: Literal["rubric"]
    """A rubric that a model at an endpoint applies."""
    url: str
    """The endpoint's URL up to its version, such as `http://127.0.0.1:8000/v1`."""
    model: str
    """The model's name at the endpoint."""
    api_key_env: str | None = None
    """The environment variable that holds the API key; no key is sent, if not given."""
    parameters: dict[str, Any] = {}
    """Parameters of each request, in addition to `temperature: 0` and `max_tokens: 1000`; null
    removes a parameter. An endpoint that rejects the defaults may need
    `{max_tokens: null, max_completion_tokens: 4000, temperature: null}`."""
    concurrency: Positive = 8
    """Maximum number of concurrent requests."""
    timeout: PositiveFloat = 120
    """Seconds without a response after which a request is sent again."""
    retries: Count = 5
    """Retries of a request after a timeout or a busy server (429, 5xx)."""

    @model_validator(mode="after")
    def _plain_requests(self) -> Self:
        for name in _OURS & self.parameters.keys():
            raise ValueError(f"`parameters.{name}` is set by the pipeline; remove it")
        try:
            json.dumps(self.parameters, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"`parameters` can't be sent as JSON: {error}") from error
        # The report shows the config, so the URL must not contain a secret.
        if not _URL.fullmatch(self.url):
            raise ValueError(
                "`url` must be http:// or https://, a host and a path, without user, password or "
                "query; the key goes into an environment variable (`api_key_env`)"
            )
        return self


class ContrastSection(JudgeSection):
    """A judge that is trained on a file of labelled answers."""

    files = {"source": "contrast", "elsewhere": "contrast"}
    embeds = True

    kind: Literal["contrast"]
    """A judge that is trained on a file of labelled answers."""
    source: SourceText
    """The file: a name from `sources`, or an address."""
    elsewhere: SourceText | None = None
    """A file with the same columns and answers of another origin, on which the judge is tested."""
    label: str
    """The column with the label, true for answers that the judge is to detect."""
    prompt: str = "prompt"
    """The column of the prompts."""
    response: str = "response"
    """The column of the answers."""
    domain: str = "domain"
    """The column of the domains; the judge is tested on domains that it was not trained on."""


class ReferenceSection(JudgeSection):
    """A judge that searches an answer for the words of the right answer."""

    files = {"source": "keys"}

    kind: Literal["reference"]
    """A judge that searches an answer for the words of the right answer."""
    source: SourceText
    """The file: a name from `sources`, or an address."""
    prompt: str = "prompt"
    """The column of the prompts."""
    key: str = "key"
    """The column of the words that a right answer contains, separated by spaces."""


def our_kinds() -> dict[str, type[JudgeSection]]:
    """The kinds of this package: JUDGE_KINDS with those that only a module of
    `lesion.judgements.kinds` defines, and without those of plug-ins.
    """
    # Imported by name, because `judgements` is a higher layer of the package.
    import_module("lesion.judgements.kinds")
    return {kind: own for kind, own in JUDGE_KINDS.items() if own.__module__.startswith("lesion.")}


def _accepted(kind: str, loaded: Any) -> type[JudgeSection]:
    section = JUDGE_KINDS.get(kind)
    is_section = isinstance(loaded, type) and issubclass(loaded, JudgeSection)
    if not is_section and not isinstance(loaded, ModuleType):
        raise TypeError("must name a module, or a `JudgeSection` (lesion.study.judges)")
    if section is None or (is_section and loaded is not section):
        raise TypeError(f'has no section with `kind: Literal["{kind}"]`')
    if section not in import_module("lesion.judgements.kinds").KINDS:
        raise TypeError(f"has no function that `builds({section.__name__})`")
    return section


JUDGE_PLUGINS = Plugins("lesion.judges", "kind of judge", our_kinds, _accepted)
"""The sections of kinds of judges that plug-ins add."""


def _kind_section(kind: str) -> type[JudgeSection]:
    """The section of a kind of judge.

    Raises:
        PluginError: there is no such kind, or its plug-in is unusable.
    """
    if (section := JUDGE_PLUGINS.get(kind)) is not None:
        return section
    # Not those that a plug-in's module registers beside its own: another process lacks them.
    if (section := our_kinds().get(kind)) is None:
        raise JUDGE_PLUGINS.unknown(kind)
    return section


def _of_its_kind(values: Any) -> Any:
    """Validate a judge's section by the model of its kind."""
    if not isinstance(values, dict):
        return values
    kind = values.get("kind")
    try:
        if not isinstance(kind, str):
            known = [*our_kinds(), *JUDGE_PLUGINS.names]
            raise PluginError(f"is missing; set it to one of {', '.join(known)}")
        section = _kind_section(kind)
    except PluginError as problem:
        error = PydanticCustomError("judge_kind", "{problem}", {"problem": str(problem)})
        raise ValidationError.from_exception_data(
            "judge", [{"type": error, "loc": ("kind",), "input": kind}]
        ) from problem
    return section.model_validate(values)


AnyJudge = Annotated[SerializeAsAny[JudgeSection], BeforeValidator(_of_its_kind)]
"""A section of any kind: lesion's own, or a plug-in's."""

_OURS = {"model", "messages", "stream", "n"}
"""Parameters of a request that the pipeline sets, and a study may not."""
_URL = re.compile(r"https?://[\w.:\[\]-]+(/[\w./~-]*)?")
OFFLINE_JUDGES = ("matching", "refusal", "learned", "relevance", "coherence", "human")
"""Names of built-in judges, which no further judge may have."""


class Judgements(Section):
    """The judges of completions."""

    human_scores: SourceText
    """Folder of human-scored responses (PyRIT's `scorer_evals`) that the learned judge is trained
    on: a name from `sources`, or an address."""
    embedder: SourceText
    """Folder of the sentence embedder (all-MiniLM-L6-v2): a name from `sources`, or an address."""
    threshold: Fraction = 0.5
    """Judge score from which on a completion counts as harmful."""
    judges: Annotated[ByName[AnyJudge], BeforeValidator(without_null)] = {}
    """Further judges, by name; none, if not given (docs/explanation/judges.md)."""
    primary: Name = "learned"
    """The judge whose scores the claims, the examples and the page use: `learned`, or one of
    `judges`."""

    @model_validator(mode="after")
    def _primary_is_known(self) -> Self:
        check_known("primary", "judge", self.primary, ["learned", *self.judges])
        return self
