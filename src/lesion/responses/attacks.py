"""How a harmful prompt is put to a model: bare, in a template's words, or in given ones.

A template is read as text and never run: only PLACEHOLDER is replaced, and whatever else stands
in braces, in the template or in a prompt, stays as it is. Needs no torch.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

from lesion.formats import BadFile, LesionError
from lesion.pairs.prompts import read_rows

PLACEHOLDER = "{{ prompt }}"
"""What a template holds in the prompt's place; by itself, the template of a bare prompt."""

_TABLES = (".csv", ".jsonl", ".parquet")
_YAML = (".yaml", ".yml")
_RAW = re.compile(r"\{%-? *(end)?raw *-?%\}")
"""PyRIT's marks around braces that its own engine is to leave alone."""

Wording = str | Mapping[str, str]
"""A text with PLACEHOLDER, or each prompt's own text."""


class Attack(NamedTuple):
    """In what words prompts are put, and what the answer is made to begin with."""

    wording: Wording
    prefill: str = ""


def read_wording(path: Path) -> Wording:
    """Read a template or a table of attacked prompts.

    Args:
        path: a PyRIT jailbreak (YAML, key `value`), a table (JSONL, CSV, parquet) with columns
            `prompt` and `attacked`, or any other text.

    Returns:
        The text with PLACEHOLDER, as PyRIT's engine would render it but for the prompt; or the
        table's texts by prompt.

    Raises:
        BadFile: it is none of these, has no PLACEHOLDER, needs more than a prompt, or gives a
            prompt two texts.
    """
    if path.is_dir():
        raise BadFile(f"{path}: is a folder. Give the one file that holds the template.")
    if path.suffix.lower() in _TABLES:
        return _read_table(path)
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix.lower() in _YAML:
            text = _value(path, text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise BadFile(f"{path}: could not be read: {error}") from error
    if PLACEHOLDER not in text:
        raise BadFile(
            f"{path}: has no `{PLACEHOLDER}`, in these very letters, where the prompt is to go."
        )
    # The line's end that an editor or YAML puts there belongs to the file.
    return text.removesuffix("\n")


def _value(path: Path, text: str) -> str:
    # The C loader, where there is one, is ten times as fast.
    template = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
    value = template.get("value") if isinstance(template, dict) else None
    if not isinstance(value, str):
        raise BadFile(f"{path}: has no text under the key `value`, as a PyRIT template does.")
    others = [one for one in template.get("parameters") or [] if one != "prompt"]
    if others:
        raise BadFile(
            f"{path}: needs {', '.join(map(str, others))} beside the prompt. Put them into a copy "
            "of it, or take another template."
        )
    return _RAW.sub("", value)


def _read_table(path: Path) -> dict[str, str]:
    rows = read_rows(path, ("prompt", "attacked"))
    found: dict[str, str] = {}
    for prompt, attacked in rows.select("prompt", "attacked").drop_nulls().iter_rows():
        # The prompts of a behaviour are stripped too.
        name, text = str(prompt).strip(), str(attacked)
        if found.setdefault(name, text) != text:
            raise BadFile(f"{path}: gives two texts for the prompt {_short(name)}. Keep one.")
    return found


def put(name: str, attack: Attack, prompts: Sequence[str]) -> list[str]:
    """The user's turn of each prompt under an attack.

    Args:
        name: of the attack, for errors.
        attack: its words.
        prompts: harmful prompts.

    Raises:
        LesionError: the attack's table lacks one.
    """
    wording = attack.wording
    if isinstance(wording, str):
        return [wording.replace(PLACEHOLDER, prompt) for prompt in prompts]
    missing = [prompt for prompt in prompts if prompt not in wording]
    if missing:
        raise LesionError(
            f"`responses.templates.{name}`: its table lacks {len(missing)} of {len(prompts)} "
            f"harmful test prompts, such as {_short(missing[0])}. Add them, or take `{name}` from "
            "`responses.attacks`."
        )
    return [wording[prompt] for prompt in prompts]


def _short(prompt: str) -> str:
    return repr(prompt if len(prompt) <= 60 else prompt[:59] + "…")
