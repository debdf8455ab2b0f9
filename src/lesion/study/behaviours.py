"""The sections of a config that say what a behaviour is and which rows of a source belong to it."""

from datetime import date
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, model_validator

from lesion.study.types import (
    MIN_PROMPTS,
    Name,
    Positive,
    Role,
    Section,
    SourceText,
    ascending,
    several,
)


def _as_text(value: Any) -> Any:
    """The text of a value that YAML has read as a boolean, a number or a date."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, (int, float, date)) else value


Wanted = Annotated[str, BeforeValidator(_as_text, json_schema_input_type=str | float | bool)]


class Where(Section):
    """A filter on rows: a column, and the values that it must and must not have."""

    column: str
    """Column of the source that is compared."""
    equals: Wanted | None = None
    """Keep rows whose value equals this text, number or boolean."""
    first: Wanted | None = None
    """Keep rows whose list begins with this value."""
    contains: Wanted | None = None
    """Keep rows whose list or text contains this value."""
    lacks: Annotated[list[Wanted], BeforeValidator(several), AfterValidator(ascending)] = []
    """Leave out rows whose list or text contains one of these values, such as the prompts of one
    harm type that belong to another one too."""

    @model_validator(mode="after")
    def _one_condition(self) -> Self:
        count = sum(value is not None for value in (self.equals, self.first, self.contains))
        if count > 1 or not (count or self.lacks):
            raise ValueError("give at most one of `equals`, `first` and `contains`, or `lacks`")
        return self


class Behaviour(Section):
    """A behaviour to locate in the models."""

    role: Role
    """`harm`: a harm type, located and ablated. `matched`: harmless requests, each on the topic and
    in the form of a harmful one. `benign`: a capability to preserve. `refusal`: refusing harmful
    requests."""
    of: Name | None = None
    """For role `matched`: the harm type among whose prompts the harmful requests are. Both sides of
    a pair are in one split."""
    source: SourceText
    """Prompts: a name from `sources`, or an address such as `file:my/prompts.jsonl` (JSON lines, a
    JSON list, CSV, TSV, parquet, a PyRIT data set in YAML, or a folder that holds one table)."""
    prompt: str = "prompt"
    """Column of the prompts; `harmless`, if not given for role `matched`."""
    harmful: str | None = None
    """For role `matched`: the column of the harmful requests, or of their digests
    (`sha256:<hex>`); `harmful`, if not given."""
    response: str | None = None
    """Column of responses that are used instead of the model's own."""
    responses: SourceText | None = None
    """A file with a column `response` (of refusals, for example) whose rows are assigned to the
    prompts in turn: a name from `sources`, or an address."""
    where: Where | None = None
    """The filter for the rows of the source that belong to this behaviour; all, if not given."""
    limit: Positive | None = None
    """Take at most this many prompts, in the source's order."""

    @model_validator(mode="before")
    @classmethod
    def _columns_of_pairs(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("role") == "matched":
            return {"prompt": "harmless", "harmful": "harmful", **given}
        return given

    @model_validator(mode="after")
    def _one_response(self) -> Self:
        matched = self.role == "matched"
        if matched and self.of is None:
            raise ValueError("role `matched` requires `of`: the harm type of the harmful requests")
        if matched and not self.harmful:
            raise ValueError("`harmful` must name the column of the harmful requests")
        for key in ("of", "harmful"):
            if not matched and getattr(self, key) is not None:
                raise ValueError(f"`{key}` requires `role: matched`")
        for key in ("response", "responses"):
            if matched and getattr(self, key) is not None:
                raise ValueError(f"role `matched` takes no `{key}`: the model writes the answers")
        if self.response is not None and self.responses is not None:
            raise ValueError("give `response` or `responses`, not both")
        if self.limit is not None and self.limit < MIN_PROMPTS:
            raise ValueError(f"`limit` must leave at least {MIN_PROMPTS} prompts to split")
        return self
