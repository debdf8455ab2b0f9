"""The reference and the schema are what the code says, and the default config is explained."""

from collections.abc import Iterator
from typing import Any, Literal, get_args

import pytest
from pydantic import BaseModel, Field

from lesion.study import Study, load_study, read_config, reference
from lesion.study.judges import JUDGE_KINDS, JudgeSection
from lesion.study.types import Section
from lesion_testing import ROOT


def _sections(annotation: Any) -> list[type[BaseModel]]:
    """The sections in `Section`, `Section | None` and `dict[Name, Section]`."""
    if annotation is JudgeSection:
        return list(JUDGE_KINDS.values())
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [one for part in get_args(annotation) for one in _sections(part)]


def _keys(kind: type[BaseModel]) -> Iterator[tuple[str, str]]:
    """Every key of the schema, with its description."""
    schema = kind.model_json_schema()["properties"]
    for key, field in kind.model_fields.items():
        yield f"{kind.__name__}.{key}", schema[key].get("description", "")
        for section in _sections(field.annotation):
            yield from _keys(section)


def test_every_key_is_explained() -> None:
    keys = dict(_keys(Study))
    assert len(keys) > 100
    page = reference.config_page().replace(r"\|", "|")
    for key, description in keys.items():
        assert description, f"{key} has no docstring"
        assert " ".join(description.split()) in page, key


def _meanings(kind: type[BaseModel]) -> dict[str, str | None]:
    properties = kind.model_json_schema()["properties"]
    return {key: schema.get("description") for key, schema in properties.items()}


def test_a_docstring_is_that_of_its_own_key() -> None:
    class First(Section):
        kind: str
        """The kind."""
        size: int = 1
        """The size,
        in tokens."""

    class Second(First):
        kind: Literal["second"]
        other: int = Field(2, alias="another")
        """Found by neither name."""

    assert _meanings(First) == {"kind": "The kind.", "size": "The size,\nin tokens."}
    assert _meanings(Second) == {"kind": None, "size": "The size,\nin tokens.", "another": None}
    without_source = type("Third", (First,), {"__module__": "nowhere", "__annotations__": {}})
    assert _meanings(without_source) == _meanings(First)


def _defaults(given: Any, made: BaseModel, way: str = "") -> Iterator[str]:
    """The keys of a config that only repeat the schema's default."""
    for name, value in given.items():
        field, key = type(made).model_fields[name], f"{way}.{name}".strip(".")
        inner = getattr(made, name)
        if isinstance(inner, BaseModel):
            yield from _defaults(value, inner, key)
        elif not field.is_required() and field.default == inner:
            yield key


def test_the_default_study_says_only_what_it_changes() -> None:
    config = read_config(ROOT / "config.yaml")
    assert not list(_defaults(config, load_study(config)))
    config["masks"] = {"p": [0.05, 0.15]}
    config["threads"] = 1
    assert list(_defaults(config, load_study(config))) == ["masks.p", "threads"]


def test_every_key_that_there_is_stands_in_the_page() -> None:
    page = reference.config_page()
    for key in Study.model_json_schema()["properties"]:
        assert f"| `{key}` |" in page


@pytest.mark.parametrize(
    "row",
    [
        "| `mixture` | list of sections | required |",
        "| `device_map` | `auto` or null | `null` |",
        '| `preset` | one of `standard`, `quick`, `full`, `paper`, `none` | `"standard"` |',
        "| `checkpoints` | list of string |",
        "| `attacks` | list of string |",
        "| `controls` | list, each one of `random`, `random-magnitude`, ",
        "| `sources` | named values, each list of string |",
        "## `models.<name>.train.mixture[]`",
        "## `judgements.judges.<name>` of kind `rubric`",
        "| `models` | named sections | required |",
        "| `pairs` | section | as below |",
    ],
)
def test_types_are_shown_as_what_they_are(row: str) -> None:
    assert row in reference.config_page()
