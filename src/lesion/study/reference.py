"""The config reference, generated from its schema: a Markdown page and a JSON schema."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from lesion.io.formats import atomic
from lesion.study import Study
from lesion.study.judges import JudgeSection, all_kinds
from lesion.study.types import section_of

PAGE = Path("docs/config.md")
SCHEMA = Path("workflow/schemas/config.schema.json")

_HEAD = """# Every key of a study

This page is generated from the schema by `lesion reference --write`; `config.yaml` is the default
study. Unknown keys, wrong types and values out of range are errors before anything runs.

"""


def schema_json() -> str:
    """The JSON schema of a study."""
    return json.dumps(Study.model_json_schema(), indent=1, sort_keys=True) + "\n"


def page() -> str:
    """The reference as Markdown, with one table for each section."""
    return _HEAD + "\n".join(_section("the study", Study))


def _section(title: str, kind: type[BaseModel]) -> Iterator[str]:
    yield f"## {title}\n"
    yield "| key | type | default | meaning |"
    yield "|---|---|---|---|"
    schema = kind.model_json_schema()["properties"]
    inner = []
    for name, field in kind.model_fields.items():
        section = section_of(field.annotation)
        if section is not None:
            inner.append((name, section))
        meaning = " ".join((field.description or "").split()).replace("|", r"\|")
        default = _default(field.default)
        yield f"| `{name}` | {_type(schema[name], section)} | {default} | {meaning} |"
    yield ""
    for name, section in inner:
        many = "<name>." if _is_mapping(kind, name) else ""
        for label, member in _kinds(section).items():
            yield from _section(f"{title}.{name}.{many}".strip(".") + label, member)


def _kinds(section: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """The concrete kinds of a section, by the suffix of their titles."""
    if section is not JudgeSection:
        return {"": section}
    return {f" of kind `{name}`": kind for name, kind in sorted(all_kinds().items())}


def _is_mapping(kind: type[BaseModel], name: str) -> bool:
    return getattr(kind.model_fields[name].annotation, "__origin__", None) is dict


def _default(value: Any) -> str:
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, BaseModel):
        return "as below"
    return f"`{json.dumps(value)}`"


def _type(schema: dict[str, Any], section: type[BaseModel] | None) -> str:
    if section is not None:
        kinds = {"object": "named sections", "array": "list of sections"}
        return kinds.get(schema.get("type", ""), "section")
    options = schema.get("anyOf", [schema])
    return " or ".join(_plain(option) for option in options)


def _plain(schema: dict[str, Any]) -> str:
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_plain(schema.get('items', {}))}"
    limits = [
        f"{sign} {schema[key]:g}"
        for key, sign in (("exclusiveMinimum", ">"), ("minimum", "≥"), ("exclusiveMaximum", "<"))
        if key in schema
    ]
    return " ".join(
        [str(schema.get("type", "any")), *([f"({', '.join(limits)})"] if limits else [])]
    )


def write(root: Path) -> list[Path]:
    """Write the page and the schema below `root`; return their paths."""
    for path, text in ((PAGE, page()), (SCHEMA, schema_json())):
        with atomic(root / path) as part:
            part.write_text(text, encoding="utf-8")
    return [root / PAGE, root / SCHEMA]
