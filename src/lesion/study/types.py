"""Words, names and numbers that a config may hold."""

import datetime
import difflib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from lesion.io.addresses import AddressError, checked_path, expanded_address, is_address
from lesion.io.formats import LesionError

DATE = "2026-01-01"
"""The date that chat templates are given unless the study says another (ISO 8601)."""
NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
Control = Literal["random", "random-magnitude", "unsigned", "wanda", "unimportant", "benign-signed"]
"""Masks of the same size as `shared` in every matrix, chosen otherwise."""
BUILT_MASKS = ("shared", "shared-all", *get_args(Control))
"""Masks that the masks stage makes by itself; no behaviour may take their names."""

NEEDS_ALL_SCORES = frozenset({"unsigned", "unimportant", "benign-signed"})
"""Controls that truncated scores cannot make: the rank of a weight depends on scores that are not
stored."""

VLLM_PYTHON = "LESION_VLLM_PYTHON"
"""Environment variable: the Python that has vLLM. Not a key of the config: a study that someone
sends must not name a program to run."""

MIN_PROMPTS = 12
"""Below this a behaviour has no room for three splits."""


class StudyError(LesionError):
    """A study that cannot run, with the key and the fix."""


def _name(text: str) -> str:
    if not NAME.fullmatch(text):
        raise ValueError(
            "is not a safe name: use small letters, digits, `_` and `-`, beginning with a letter "
            "or digit"
        )
    return text


def _address(text: str) -> str:
    try:
        return expanded_address(text)
    except AddressError as error:
        raise ValueError(str(error)) from error


def _source(text: str) -> str:
    return _address(text) if is_address(text) else text


def _template(text: str) -> str:
    """A file as the address of one; a word as it is."""
    if text.startswith("file:"):
        return _address(text)
    if is_address(text):
        raise ValueError("must lie on this machine; give the path of a file")
    named = "/" in text or "~" in text or "$" in text or Path(text).suffix
    return _address(f"file:{text}") if named else text


def _path(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty; give a path")
    if text.startswith("file:"):
        raise ValueError("is a plain path; leave `file:` out")
    if _URL.match(text):
        raise ValueError("must lie on this machine or on a disk that is mounted; give a path")
    try:
        return checked_path(text)
    except AddressError as error:
        raise ValueError(str(error)) from error


def _results(text: str) -> str:
    found = _path(text)
    # Snakemake compares paths as texts. It knows no `//`, not even at the beginning.
    plain = re.sub("^//+", "/", os.path.normpath(found))
    # Read again by every job, in which a `~` in front would be filled in.
    return f"./{plain}" if plain.startswith("~") else plain


def several(value: Any) -> Any:
    """A single value means a list of that one value."""
    return list(value) if isinstance(value, (list, tuple)) else [value]


def iso_date(value: Any) -> str:
    """A day as ISO 8601 text; YAML reads one without quotes as a date."""
    try:
        return datetime.date.fromisoformat(str(value)).isoformat()
    except ValueError as error:
        raise ValueError("is not a date of the form 2026-01-31") from error


def ascending(values: list[Any]) -> list[Any]:
    """Sorted, each once: neither order nor repetition in the file decides anything."""
    return sorted(set(values))


def once(values: list[Any]) -> list[Any]:
    """In the order of the file, each once."""
    return list(dict.fromkeys(values))


def by_name(values: dict[str, Any]) -> dict[str, Any]:
    """The order in the file decides nothing, and must make nothing stale."""
    return dict(sorted(values.items()))


def without_null(values: Any) -> Any:
    """What a file laid over another one sets to null is left out."""
    if not isinstance(values, dict):
        return values
    return {name: value for name, value in values.items() if value is not None}


Name = Annotated[str, AfterValidator(_name)]
AddressText = Annotated[str, AfterValidator(_address)]
"""An address. The path of a `file:` is expanded here, and so are the paths of the types below:
once, on loading, so that what reads them, the results folder, params and messages agree."""
SourceText = Annotated[str, AfterValidator(_source)]
"""A name from `sources`, or an address."""
TemplateText = Annotated[str, AfterValidator(_template)]
"""`auto`, `plain`, the name of a chat template, or a file, which becomes an address."""
PathText = Annotated[str, AfterValidator(_path)]
"""A path of a file or folder that is read."""
ResultsText = Annotated[str, AfterValidator(_results)]
"""The path of a folder that Snakemake makes."""
Fraction = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
Role = Literal["harm", "benign", "refusal"]
Dtype = Literal["auto", "float32", "bfloat16"]
"""Of a computation; `auto` is bf16 where the device computes it natively, else fp32."""
StoredDtype = Literal["float32", "bfloat16", "float16"]
"""Of weights in a file."""
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
safetensors alone. `folder`: a folder of data. All others read rows or a text of a file, and a job
depends on these alone."""


class Section(BaseModel):
    """A part of the config: unknown keys are errors, and nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    @field_validator("*", mode="before")
    @classmethod
    def _number_is_no_truth_value(cls, value: Any, info: ValidationInfo) -> Any:
        """YAML takes `yes` and `on` for `true`, and pydantic takes `true` for 1."""
        kinds = _kinds(cls.model_fields[str(info.field_name)].annotation)
        given = value if isinstance(value, list) else [value]
        if (
            bool not in kinds
            and kinds & {int, float}
            and any(isinstance(one, bool) for one in given)
        ):
            raise ValueError("is a truth value, as YAML reads yes, no, on and off; give a number")
        return value


def _kinds(annotation: Any) -> set[Any]:
    """The types that are named in an annotation, outside of mappings."""
    if get_origin(annotation) is dict:
        return set()
    return (
        {annotation}.union(*map(_kinds, get_args(annotation)))
        if get_args(annotation)
        else {annotation}
    )


def nearest(wrong: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    """End an error message: the known name that was probably meant, or all there are."""
    close = difflib.get_close_matches(str(wrong), list(known), n=1, cutoff=0.5)
    return f". Did you mean `{close[0]}`?" if close else f". Known: {', '.join(known) or 'none'}."
