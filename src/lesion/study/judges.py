"""The section that says who judges."""

import json
import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from lesion.study.types import (
    Fraction,
    Name,
    Positive,
    Section,
    SourceText,
    by_name,
    nearest,
    without_null,
)


class Judge(Section):
    """A further judge of answers to harmful prompts and to open questions: a classifier, a model at
    an endpoint, or one made of the study's own file.
    """

    kind: Literal["strongreject", "harmbench", "rubric", "contrast", "reference"]
    """`strongreject`, `harmbench`: a fine-tuned classifier. `rubric`: StrongREJECT's rubric, asked
    of any endpoint that speaks OpenAI's chat completions. `contrast`: learns from a file of answers
    with a label. `reference`: looks for the words of the right answer."""
    source: SourceText | None = None
    """Of a classifier: where it is, a name from `sources` or an address; a hub repository by its
    commit. Of `contrast` and `reference`: the file, likewise."""
    elsewhere: SourceText | None = None
    """Of `contrast`: a file of the same columns, to measure it on answers of another make."""
    prompt: str = "prompt"
    """Of `contrast` and `reference`: the column of the prompts."""
    response: str = "response"
    """Of `contrast`: the column of the answers."""
    label: str | None = None
    """Of `contrast`: the column that says whether an answer is of the kind that is looked for."""
    domain: str = "domain"
    """Of `contrast`: the column of the domains; it is measured on one that it has not learned."""
    key: str = "key"
    """Of `reference`: the column of the words that a right answer has, with spaces between them."""
    base: SourceText | None = None
    """Of `strongreject`: what its LoRA changes, if `source` is one; a name or an address."""
    template: Literal["llama2", "mistral"] | None = None
    """Of `harmbench`: the prompt that the classifier was trained with, by its own base."""
    batch_size: Positive = 8
    """Of a classifier: answers read at once."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of a classifier: its precision."""
    url: str | None = None
    """Of `rubric`: the endpoint up to its version, such as `http://127.0.0.1:8000/v1`."""
    model: str | None = None
    """Of `rubric`: the model's name there."""
    api_key_env: str | None = None
    """Of `rubric`: the environment variable that holds the key; none is sent, if not given."""
    parameters: dict[str, Any] = {}
    """Of `rubric`: parameters of each request, over `temperature: 0` and `max_tokens: 1000`; null
    leaves one out. For an endpoint that refuses these, such as
    `{max_tokens: null, max_completion_tokens: 4000, temperature: null}`."""
    concurrency: Positive = 8
    """Of `rubric`: questions under way at once."""
    timeout: Annotated[float, Field(gt=0)] = 120
    """Of `rubric`: seconds without a sign of life after which a question is asked again."""
    retries: Annotated[int, Field(ge=0)] = 5
    """Of `rubric`: further tries of a question after a timeout or a busy server (429, 5xx)."""

    @property
    def settings(self) -> dict[str, Any]:
        """The keys that belong to this kind, but for where its files are."""
        names = {"kind", *_JUDGE_NEEDS[self.kind], *_JUDGE_MAY[self.kind]} - set(_PLACES)
        return self.model_dump(include=names)

    @model_validator(mode="after")
    def _of_its_kind(self) -> Self:
        needs, may = _JUDGE_NEEDS[self.kind], _JUDGE_MAY[self.kind]
        for name in sorted(needs):
            if getattr(self, name) is None:
                raise ValueError(f"`{name}` is missing; a `{self.kind}` judge needs it")
        for name, field in type(self).model_fields.items():
            # Compared by value: a job gets the config back with every default written out.
            if name not in {"kind"} | needs | may and getattr(self, name) != field.default:
                raise ValueError(f"`{name}` is no key of a `{self.kind}` judge; take it out")
        return self

    @model_validator(mode="after")
    def _own_parameters(self) -> Self:
        for name in _OURS & self.parameters.keys():
            raise ValueError(f"`parameters.{name}` is the pipeline's own; take it out")
        try:
            json.dumps(self.parameters, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"`parameters` can't be sent as JSON: {error}") from error
        return self

    @model_validator(mode="after")
    def _plain_url(self) -> Self:
        # The config is shown in the report, and a key has no place there.
        if self.url is not None and not _URL.fullmatch(self.url):
            raise ValueError(
                "`url` must be http:// or https://, a host and a path, without user, password or "
                "query; the key goes into an environment variable (`api_key_env`)"
            )
        return self


_JUDGE_NEEDS = {
    "strongreject": {"source"},
    "harmbench": {"source", "template"},
    "rubric": {"url", "model"},
    "contrast": {"source", "label"},
    "reference": {"source"},
}
_JUDGE_MAY = {
    "strongreject": {"base", "batch_size", "dtype"},
    "harmbench": {"batch_size", "dtype"},
    "rubric": {"api_key_env", "parameters", "concurrency", "timeout", "retries"},
    "contrast": {"elsewhere", "prompt", "response", "domain"},
    "reference": {"prompt", "key"},
}
_OURS = {"model", "messages", "stream", "n"}
"""Parameters of a request that no study gives: what is asked, and in what form it answers."""
_PLACES = ("base", "elsewhere", "source")
_URL = re.compile(r"https?://[\w.:\[\]-]+(/[\w./~-]*)?")
OFFLINE_JUDGES = ("matching", "refusal", "learned", "relevance", "coherence", "human")
"""Names that no further judge may take."""


class Judgements(Section):
    """Who judges the answers."""

    human_scores: SourceText
    """Folder of human-scored responses (PyRIT's `scorer_evals`) that the learned judge is trained
    on: a name from `sources`, or an address."""
    embedder: SourceText
    """Folder of the sentence embedder (all-MiniLM-L6-v2): a name from `sources`, or an address."""
    threshold: Fraction = 0.5
    """Harmfulness at which a completion counts as harmful."""
    judges: Annotated[
        dict[Name, Judge], BeforeValidator(without_null), AfterValidator(by_name)
    ] = {}
    """Further judges, by name; none, if not given (docs/judges.md)."""
    main: Name = "learned"
    """Whose word on harm the claims, the examples and the page take: `learned`, or one of
    `judges`."""

    @model_validator(mode="after")
    def _main_is_known(self) -> Self:
        if self.main not in ("learned", *self.judges):
            known = ["learned", *self.judges]
            raise ValueError(f"`main`: no judge is named `{self.main}`{nearest(self.main, known)}")
        return self
