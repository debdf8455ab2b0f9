"""The config reference, generated from its schema: a Markdown page and a JSON schema."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_origin

from pydantic import BaseModel

from lesion.io.bundle import portable
from lesion.io.formats import atomic
from lesion.study import Study
from lesion.study.judges import JudgeSection, our_kinds
from lesion.study.types import section_of

PAGE = Path("docs/config.md")
SCHEMA = Path("workflow/schemas/config.schema.json")

_HEAD = """# Every key of a study

This page is generated from the schema by `lesion reference --write`; `config.yaml` is the default
study. A study needs `models` and `behaviours` of role `harm`; what else it does not give is that of
its `preset`, and then the default below. Unknown keys, wrong types and values out of range are
errors before anything runs.

"""


def schema_json() -> str:
    """The JSON schema of a study."""
    return json.dumps(portable(Study.model_json_schema()), indent=1, sort_keys=True) + "\n"


def page() -> str:
    """The reference as Markdown, with one table for each section."""
    return _HEAD + "\n".join(section_tables("the study", Study))


def section_tables(title: str, kind: type[BaseModel]) -> Iterator[str]:
    """Lines of Markdown: a table of the keys of a section, and of each section within."""
    yield f"## {title}\n"
    yield "| key | type | default | meaning |"
    yield "|---|---|---|---|"
    schema = kind.model_json_schema()["properties"]
    for name, field in kind.model_fields.items():
        meaning = " ".join((field.description or "").split()).replace("|", r"\|")
        if field.is_required():
            default = "required"
        elif isinstance(field.default, BaseModel):
            default = "as below"
        else:
            default = f"`{json.dumps(field.default)}`"
        text = _type(schema[name], section_of(field.annotation))
        yield f"| `{name}` | {text} | {default} | {meaning} |"
    yield ""
    for name, field in kind.model_fields.items():
        section = section_of(field.annotation)
        inner = f"{title}.{name}"
        if get_origin(field.annotation) is dict:
            inner += ".<name>"
        if section is JudgeSection:
            for name_of_kind, judge in sorted(our_kinds().items()):
                yield from section_tables(f"{inner} of kind `{name_of_kind}`", judge)
        elif section is not None:
            yield from section_tables(inner, section)


def _type(schema: dict[str, Any], section: type[BaseModel] | None) -> str:
    if section is not None:
        kinds = {"object": "named sections", "array": "list of sections"}
        return kinds.get(schema.get("type", ""), "section")
    return _plain(schema)


def _plain(schema: dict[str, Any]) -> str:
    if "const" in schema:
        return f"`{schema['const']}`"
    if "anyOf" in schema:
        return " or ".join(map(_plain, schema["anyOf"]))
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_plain(schema.get('items', {}))}"
    limits = [
        f"{sign} {schema[key]:g}"
        for key, sign in (("exclusiveMinimum", ">"), ("minimum", "≥"), ("exclusiveMaximum", "<"))
        if key in schema
    ]
    kind = str(schema.get("type", "any"))
    return f"{kind} ({', '.join(limits)})" if limits else kind


def write(root: Path) -> list[Path]:
    """Write the page and the schema below `root`; return their paths."""
    for path, text in ((PAGE, page()), (SCHEMA, schema_json())):
        with atomic(root / path) as part:
            part.write_text(text, encoding="utf-8")
    return [root / PAGE, root / SCHEMA]
