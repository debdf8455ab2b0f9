"""The reference and the schema are what the code says, and the default config is explained."""

import difflib
from collections.abc import Iterator, Mapping
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from lesion.study import Study, reference
from lesion_testing import ROOT


@pytest.mark.parametrize(
    ("path", "made"), [(reference.PAGE, reference.page), (reference.SCHEMA, reference.schema_json)]
)
def test_the_written_reference_is_the_codes(path: Any, made: Any) -> None:
    file = ROOT / path
    written = file.read_text(encoding="utf-8") if file.exists() else ""
    diff = difflib.unified_diff(
        written.splitlines(), made().splitlines(), f"{path} (written)", f"{path} (from the code)"
    )
    assert written == made(), "\n".join([f"run `make reference`: {path} is not up to date", *diff])


def _sections(annotation: Any) -> list[type[BaseModel]]:
    """The sections in `Section`, `Section | None` and `dict[Name, Section]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [one for part in get_args(annotation) for one in _sections(part)]


def _keys(config: Mapping[str, Any], kind: type[BaseModel]) -> Iterator[tuple[str, str]]:
    """Every key of a config that the schema knows, with its description."""
    for key, value in config.items():
        field = kind.model_fields[key]
        yield f"{kind.__name__}.{key}", field.description or ""
        for section in _sections(field.annotation):
            named = "dict" in str(field.annotation)
            for inner in value.values() if named else [value]:
                yield from _keys(inner, section)


def test_every_key_of_the_default_study_is_explained() -> None:
    config = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    keys = dict(_keys(config, Study))
    assert len(keys) > 40
    page = reference.page()
    for key, description in keys.items():
        assert description, f"{key} has no docstring in study.py"
        assert " ".join(description.split()) in page, key


def test_every_key_that_there_is_stands_in_the_page() -> None:
    page = reference.page()
    for key in Study.model_json_schema()["properties"]:
        assert f"| `{key}` |" in page
