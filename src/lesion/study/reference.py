"""The reference of a study's keys, made of their schema: a Markdown page and a JSON schema."""

import json
from collections.abc import Iterator
from typing import Any, get_origin

from pydantic import BaseModel

from lesion.io.bundle import portable
from lesion.study import Study
from lesion.study.judges import JudgeSection, our_kinds
from lesion.study.types import section_of

_HEAD = """# Every key of a study

This page is generated from the schema by `lesion reference --write`; `config.yaml` is the default
study. A study needs `models` and `behaviours` of role `harm`; what else it does not give is that of
its `preset`, and then the default below. Unknown keys, wrong types and values out of range are
errors before anything runs.

A section is a mapping of keys, explained in the table of its name; `<name>` stands for a name that
you choose, and `[]` for each section of a list. "One of" lists all values that are allowed.

"""


def schema_json() -> str:
    """The JSON schema of a study."""
    return json.dumps(portable(Study.model_json_schema()), indent=1, sort_keys=True) + "\n"


def config_page() -> str:
    """The reference as Markdown, with one table for each section."""
    return _HEAD + "\n".join(section_tables("", Study))


def section_tables(title: str, kind: type[BaseModel]) -> Iterator[str]:
    """Lines of Markdown: a table of the keys of a section, and of each section within."""
    yield f"## `{title}`\n" if title else "## The study\n"
    yield "| key | type | default | meaning |"
    yield "|---|---|---|---|"
    schema = kind.model_json_schema()["properties"]
    for name, field in kind.model_fields.items():
        meaning = " ".join(schema[name].get("description", "").split()).replace("|", r"\|")
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
        inner = f"{title}.{name}".lstrip(".") + _PARTS.get(get_origin(field.annotation), "")
        if section is JudgeSection:
            for name_of_kind, judge in sorted(our_kinds().items()):
                yield from section_tables(f"{inner}` of kind `{name_of_kind}", judge)
        elif section is not None:
            yield from section_tables(inner, section)


_PARTS: dict[Any, str] = {dict: ".<name>", list: "[]"}
"""How one of several sections is named."""


def _type(schema: dict[str, Any], section: type[BaseModel] | None) -> str:
    if section is not None:
        kinds = {"object": "named sections", "array": "list of sections"}
        return kinds.get(schema.get("type", ""), "section")
    return _plain(schema)


def _plain(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        options = [_plain(option) for option in schema["anyOf"]]
        return " or ".join(dict.fromkeys(options))
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return f"one of {', '.join(f'`{value}`' for value in schema['enum'])}"
    kind = str(schema.get("type", "any value"))
    if kind == "array":
        items = schema.get("items", {})
        return f"list{', each' if 'enum' in str(items) else ' of'} {_plain(items)}"
    if kind == "object":
        values = schema.get("additionalProperties")
        return (
            f"named values, each {_plain(values)}" if isinstance(values, dict) else "named values"
        )
    limits = [
        f"{sign} {schema[key]:g}"
        for key, sign in (
            ("exclusiveMinimum", ">"),
            ("minimum", "≥"),
            ("exclusiveMaximum", "<"),
            ("maximum", "≤"),
        )
        if key in schema
    ]
    return f"{kind} ({', '.join(limits)})" if limits else kind
