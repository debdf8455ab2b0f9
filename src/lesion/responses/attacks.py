"""How a harmful prompt is presented to a model: alone, inside a template, or rewritten by a table.

A template is read as text and never executed: only PLACEHOLDER is replaced, and anything else in
braces, in the template or in a prompt, is left unchanged. Needs no torch.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lesion.io.formats import BadFile, LesionError
from lesion.io.texts import read_text, read_yaml
from lesion.pairs.rows import TABLES, location_of, read_rows, required_texts
from lesion.responses.jobs import AttackWords
from lesion.sources.fetch import locate
from lesion.study.plugins import Plugins

PLACEHOLDER = "{{ prompt }}"
"""The text that a template has in place of the prompt; it is itself the template of `direct`."""

_YAML = (".yaml", ".yml", ".prompt")
_RAW = re.compile(r"\{%-? *(?:end)?raw *-?%\}")
"""PyRIT's marks around raw text, whose braces its template engine leaves unchanged."""
_SPELT = re.compile(r"\{\{-?\s*prompt\s*-?\}\}")
_EVALUATED = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)
"""Expressions, statements and comments that PyRIT's template engine would evaluate."""

Wording = str | Mapping[str, str]
"""A text with PLACEHOLDER, or each prompt's own text."""


class Attack(NamedTuple):
    """How prompts are worded, the prefill of the answer, and what is done to the model."""

    wording: Wording
    prefill: str = ""
    own_prefix: int = 0
    """Tokens of the model's own answer that the prefill continues with."""
    ablated: bool = False
    """Whether the weights of refusal are zeroed."""


class BuiltAttack(NamedTuple):
    """An attack that needs no file."""

    wording: str
    prefilled: bool
    """Whether the answer is prefilled with `pairs.prefill`."""
    own_prefix: bool = False
    """Whether the answer is prefilled with the beginning of the model's own answer, as its pair has
    it: with the pair's prefill, and `responses.own_prefix` tokens of its response."""
    ablated: bool = False
    """Whether the weights of refusal (`responses.refusal_ablation`) are zeroed too."""


BUILT = {
    "direct": BuiltAttack(PLACEHOLDER, prefilled=False),
    "prefill": BuiltAttack(PLACEHOLDER, prefilled=True),
    "own-prefix": BuiltAttack(PLACEHOLDER, prefilled=False, own_prefix=True),
    "refusal-ablation": BuiltAttack(PLACEHOLDER, prefilled=False, ablated=True),
    "refusal-ablation-prefill": BuiltAttack(PLACEHOLDER, prefilled=True, ablated=True),
    "refusal-ablation-own-prefix": BuiltAttack(
        PLACEHOLDER, prefilled=False, own_prefix=True, ablated=True
    ),
}
"""The built-in attacks by the names of `responses.attacks`, which no template may have. A further
attack needs only an entry here."""
RESERVED_ATTACKS = ("none", "explanation")
"""Names of no attack that tables have in its place."""


def _accepted(name: str, loaded: Any) -> BuiltAttack:
    if not isinstance(loaded, BuiltAttack):
        raise TypeError("must name a `BuiltAttack` (lesion.responses.attacks)")
    if not isinstance(loaded.wording, str) or PLACEHOLDER not in loaded.wording:
        raise TypeError(f"has a wording without `{PLACEHOLDER}`, where the prompt is to go")
    return loaded


ATTACK_PLUGINS = Plugins("lesion.attacks", "attack", lambda: BUILT, _accepted, RESERVED_ATTACKS)
"""The attacks of plug-ins."""


def built_attack(name: str) -> BuiltAttack:
    """An attack of lesion or of a plug-in.

    Raises:
        PluginError: the plug-in is unusable.
    """
    return ATTACK_PLUGINS.get(name) or BUILT[name]


def attack_of(words: AttackWords) -> Attack:
    """The attack that a job's specification describes.

    Raises:
        BadFile: see `read_wording`, and `lesion.sources.locate`.
    """
    wording = words.wording
    text = wording if isinstance(wording, str) else read_wording(locate(wording))
    return Attack(text, words.prefill, words.own_prefix, words.ablated)


def read_wording(path: Path) -> Wording:
    """Read a template, rendered as by PyRIT's engine but for PLACEHOLDER, or a table's texts by
    prompt.

    Args:
        path: a PyRIT jailbreak (YAML, key `value`), a table (JSONL, CSV, parquet) with columns
            `prompt` and `attacked`, or any other text in UTF-8.

    Raises:
        BadFile: the file is none of these, has no PLACEHOLDER, has other parameters than the
            prompt, or gives a prompt two texts.
    """
    if path.is_dir():
        raise BadFile(f"{path}: is a folder. Give the one file that holds the template.")
    kind = path.suffix.lower()
    if kind in TABLES:
        return _read_table(path)
    text = _value(path) if kind in _YAML else read_text(path)
    if PLACEHOLDER not in text:
        raise BadFile(
            f"{path}: has no `{PLACEHOLDER}`. Write exactly this where the prompt is to go."
        )
    # Editors and YAML end the text with a newline that is not part of the template.
    return text.removesuffix("\n")


def _value(path: Path) -> str:
    template = read_yaml(path)
    value = template.get("value") if isinstance(template, dict) else None
    if not isinstance(value, str):
        raise BadFile(f"{path}: has no text under the key `value`, as a PyRIT template does.")
    if template.get("data_type") not in (None, "text"):
        raise BadFile(f"{path}: its `data_type` is {template['data_type']}, and not text.")
    parameters = template.get("parameters") or []
    names = map(str, parameters if isinstance(parameters, list) else [parameters])
    # The marks begin and end raw text in turn, so PyRIT's engine evaluates every other part.
    parts = _RAW.split(value)
    parts[::2] = [_SPELT.sub(PLACEHOLDER, part) for part in parts[::2]]
    read = "".join(parts[::2]).replace(PLACEHOLDER, "")
    evaluated = [*names, *map(_short, _EVALUATED.findall(read))]
    others = list(dict.fromkeys(name for name in evaluated if name != "prompt"))
    if others:
        raise BadFile(
            f"{path}: needs {', '.join(others)} in addition to the prompt. Fill them in in a copy "
            "of the template, or use another template."
        )
    return "".join(parts)


def _read_table(path: Path) -> dict[str, str]:
    columns = ("prompt", "attacked")
    rows = read_rows(path, columns)
    prompts, attacked = (required_texts(rows, column, path) for column in columns)
    wording: dict[str, str] = {}
    for row, (prompt, text) in enumerate(zip(prompts, attacked, strict=True)):
        # The prompts of a behaviour are stripped too.
        name = prompt.strip()
        if wording.setdefault(name, text) != text:
            raise BadFile(
                f"{location_of(path, row)}: gives two texts for the prompt {_short(name)}. "
                "Keep one."
            )
    return wording


def apply_attack(name: str, attack: Attack, prompts: Sequence[str]) -> list[str]:
    """The user's turn of each harmful prompt under an attack; `name` is for errors.

    Raises:
        LesionError: a prompt is missing in the attack's table.
    """
    wording = attack.wording
    if isinstance(wording, str):
        return [wording.replace(PLACEHOLDER, prompt) for prompt in prompts]
    missing = [prompt for prompt in prompts if prompt not in wording]
    if missing:
        raise LesionError(
            f"`responses.templates.{name}`: its table lacks {len(missing)} of {len(prompts)} "
            f"harmful test prompts, such as {_short(missing[0])}. Add them, or remove `{name}` "
            "from `responses.attacks`."
        )
    return [wording[prompt] for prompt in prompts]


def _short(prompt: str) -> str:
    return repr(prompt if len(prompt) <= 60 else prompt[:59] + "…")
