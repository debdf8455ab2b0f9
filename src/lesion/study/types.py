"""Types of the values in a config, and their validators."""

import ast
import datetime
import difflib
import inspect
import os
import re
from collections.abc import Collection, Iterable
from functools import cache
from itertools import pairwise
from pathlib import Path
from textwrap import dedent
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
)
from pydantic_core import CoreSchema

from lesion.io.addresses import checked_path, expanded_address, is_address
from lesion.io.formats import LesionError

DATE = "2026-01-01"
"""The default of the date that chat templates are given (ISO 8601)."""
NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def headline_mask(variants: Iterable[str]) -> str:
    """The mask that the claims are about: `shared`, or else the first mask that is evaluated.

    Args:
        variants: what is evaluated; the unmodified model and the random control do not count.
    """
    masks = [name for name in variants if name not in ("unmodified", "random")]
    return "shared" if "shared" in masks or not masks else masks[0]


VLLM_PYTHON = "LESION_VLLM_PYTHON"
"""The environment variable that names the Python that has vLLM. It is not a config key, because a
study from another person must not name a program to run."""

MIN_PROMPTS = 12
"""The fewest prompts that can be divided into three splits."""


class StudyError(LesionError):
    """A study cannot run; the message names the key and the fix."""


def _name(text: str) -> str:
    if not NAME.fullmatch(text):
        raise ValueError(
            "is not a safe name: use small letters, digits, `_` and `-`, beginning with a letter "
            "or digit"
        )
    return text


def as_name(text: str) -> str:
    """The safe name that is nearest to a text, such as a file's; empty if nothing of it is safe."""
    return re.sub(r"[^a-z0-9_]+", "-", text.lower()).strip("-_")


def _source(text: str) -> str:
    return expanded_address(text) if is_address(text) else text


def _template(text: str) -> str:
    """Give a file as an address, and leave a name as it is."""
    if text.startswith("file:"):
        return expanded_address(text)
    if is_address(text):
        raise ValueError("must be on this machine; give the path of a file")
    named = "/" in text or "~" in text or "$" in text or Path(text).suffix
    return expanded_address(f"file:{text}") if named else text


def _path(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty; give a path")
    if text.startswith("file:"):
        raise ValueError("must be a plain path; remove `file:`")
    if _URL.match(text):
        raise ValueError("must be on this machine or on a mounted disk; give a path")
    return checked_path(text)


def _wording(text: str) -> str:
    if text.count("{prompt}") != 1:
        raise ValueError("must contain `{prompt}` once, where the prompt is put")
    return text


def _results(text: str) -> str:
    # Snakemake compares paths as texts, and does not handle `//`, even at the beginning.
    plain = re.sub("^//+", "/", os.path.normpath(_path(text)))
    # Every job validates the path again, and would expand a leading `~`.
    return f"./{plain}" if plain.startswith("~") else plain


def _no_truth_value(value: Any) -> Any:
    """Refuse booleans for numbers: YAML reads `yes` as `true`, which pydantic converts to 1."""
    if any(isinstance(item, bool) for item in several(value)):
        raise ValueError("is a boolean, as YAML reads yes, no, on and off; give a number")
    return value


def several(value: Any) -> Any:
    """A single value as a list of length one."""
    return list(value) if isinstance(value, (list, tuple)) else [value]


def iso_date(value: Any) -> str:
    """A date as ISO 8601 text; YAML reads an unquoted one as a date object."""
    try:
        return datetime.date.fromisoformat(str(value)).isoformat()
    except ValueError as error:
        raise ValueError("is not a date of the form 2026-01-31") from error


def ascending(values: list[Any]) -> list[Any]:
    """The values sorted and without duplicates, so that their order makes no job stale."""
    return sorted(set(values))


def once(values: list[Any]) -> list[Any]:
    """The values without duplicates, in the order of the file."""
    return list(dict.fromkeys(values))


def by_name(values: dict[str, Any]) -> dict[str, Any]:
    """The entries sorted by name, so that their order in the file makes no job stale."""
    return dict(sorted(values.items()))


def without_null(values: Any) -> Any:
    """The entries without those set to null, by which a config file removes an earlier one's."""
    if not isinstance(values, dict):
        return values
    return {name: value for name, value in values.items() if value is not None}


def without_removed(behaviours: Any) -> Any:
    """The behaviours without those set to null and without the matched requests of these."""
    if not isinstance(behaviours, dict):
        return behaviours
    removed = [name for name, value in behaviours.items() if value is None]
    return {
        name: value
        for name, value in behaviours.items()
        if value is not None and not (isinstance(value, dict) and value.get("of") in removed)
    }


Name = Annotated[str, AfterValidator(_name)]
AddressText = Annotated[str, AfterValidator(expanded_address)]
"""An address. The path of a `file:` is expanded when the config is loaded, and so are the paths of
the types below, so that every reader, job parameter and message has the same path."""
SourceText = Annotated[str, AfterValidator(_source)]
"""A name from `sources`, or an address."""
TemplateText = Annotated[str, AfterValidator(_template)]
"""`auto`, `plain`, the name of a chat template, or a file, which is converted to an address."""
PathText = Annotated[str, AfterValidator(_path)]
"""A path of a file or folder that is read."""
ResultsText = Annotated[str, AfterValidator(_results)]
"""The path of a folder that Snakemake creates."""
Wording = Annotated[str, AfterValidator(_wording)]
"""A text with `{prompt}` in it, where a prompt is put."""
Number = BeforeValidator(_no_truth_value)
Count = Annotated[int, Field(ge=0), Number]
Positive = Annotated[int, Field(gt=0), Number]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False), Number]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False), Number]
Fraction = Annotated[float, Field(gt=0, lt=1), Number]
Share = Annotated[float, Field(ge=0, lt=1), Number]
Value = TypeVar("Value")
Numbers = Annotated[
    list[Value], Field(min_length=1), BeforeValidator(several), Number, AfterValidator(ascending)
]
"""One or several numbers, which are sorted."""
Names = Annotated[list[Name], BeforeValidator(several), AfterValidator(ascending)]
"""One or several names, which are sorted."""
ByName = Annotated[dict[Name, Value], AfterValidator(by_name)]
"""Sections or values by name."""
Role = Literal["harm", "matched", "benign", "refusal"]
HARMLESS: tuple[Role, ...] = ("benign", "matched")
"""The roles whose behaviours have preservation importance."""
Dtype = Literal["auto", "float32", "bfloat16"]
"""Precision of a computation; `auto` is bf16 on devices that compute it natively, else fp32."""
Ablation = Literal["zero", "mean"] | NonNegative
"""What a variant's masked weights are set to; a number is what they are multiplied by."""
StoredDtype = Literal["float32", "bfloat16", "float16"]
"""Precision of weights in a file."""
SelectionRule = Literal["budget", "difference"]
Scope = Literal["global", "matrix", "row"]
Pool = Literal["mean", "max"]
Reader = Literal[
    "model",
    "weights",
    "folder",
    "prompts",
    "responses",
    "examples",
    "template",
    "questions",
    "minimal-pairs",
    "contrast",
    "keys",
]
"""How a source is read. `model`: a GGUF file or a model's folder. `weights`: a folder with
safetensors. `folder`: a folder of data. All others read rows or text of a file, and a job depends
only on what it reads."""


class Section(BaseModel):
    """A part of the config: unknown keys are errors, and nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """The JSON schema, with the docstrings of the keys.

        pydantic's `use_attribute_docstrings` would read the source of every section in every
        process that imports this package: each command and each job.
        """
        schema = handler(core_schema)
        properties = handler.resolve_ref_schema(schema).get("properties", {})
        for key, text in _docstrings(cls).items():
            if key in properties:
                properties[key]["description"] = text
        return schema


@cache
def _docstrings(section: type[BaseModel]) -> dict[str, str]:
    """The docstring of each key of a section, by the key; none where there is no source."""
    texts: dict[str, str] = {}
    for kind in reversed(section.__mro__):
        if not issubclass(kind, BaseModel) or kind is BaseModel:
            continue
        # A key that a subclass declares anew needs a text of its own.
        for key in inspect.get_annotations(kind):
            texts.pop(key, None)
        try:
            (definition,) = ast.parse(dedent(inspect.getsource(kind))).body
        except (OSError, TypeError, SyntaxError):
            continue
        for field, text in pairwise(getattr(definition, "body", [])):
            match field, text:
                case ast.AnnAssign(target=ast.Name(id=key)), ast.Expr(ast.Constant(str(words))):
                    texts[key] = inspect.cleandoc(words)
    return texts


def nearest(wrong: str, known: Collection[str]) -> str:
    """The end of an error message: the most similar known name, or all known names."""
    close = difflib.get_close_matches(str(wrong), list(known), n=1, cutoff=0.5)
    return f". Did you mean `{close[0]}`?" if close else f". Known: {', '.join(known) or 'none'}."


def check_known(key: str, what: str, name: str, known: Collection[str]) -> None:
    """Check that a config names something that there is.

    Raises:
        ValueError: it does not; the message has the key and the most similar known name.
    """
    if name not in known:
        raise ValueError(f"`{key}`: no {what} is named `{name}`{nearest(name, known)}")


def section_of(annotation: Any) -> type[BaseModel] | None:
    """The section in the annotation of a key, such as `dict[Name, Section]` or `Section | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(section_of, get_args(annotation))), None)
