"""Which prompts the page shows side by side, and how. Pure.

Prompts are drawn by their hash, so that neither a person nor a result influences the choice.
"""

import hashlib
from collections.abc import Iterator
from itertools import chain, zip_longest
from typing import Any, NamedTuple

import polars as pl

from lesion.report.visible import visible
from lesion.tables.read import Headline
from lesion.tables.wording import NOTHING, amount

LENGTH = 240
"""Characters shown of a prompt or an answer."""

_ATTACKS = ("prefill", "direct")
"""The first of these attacks that a role was measured under is shown."""


class ShownAnswer(NamedTuple):
    """One variant's answer, escaped and shortened, and the judges' scores of it."""

    variant: str
    text: str
    scores: str


class ShownPrompt(NamedTuple):
    """A prompt and its answers; a hidden prompt is shown only after a click and never printed."""

    behaviour: str
    role: str
    attack: str
    prompt: str
    hidden: bool
    answers: list[ShownAnswer]


def pick(
    examples: pl.DataFrame, count: int, threshold: float, shown: Headline
) -> list[ShownPrompt]:
    """Draw prompts: harm types in turn, then as many (or one fewer) of benign behaviours.

    Args:
        examples: one model's completions.
        count: how many prompts.
        threshold: harmfulness from which an answer is hidden whatever its prompt's role.
        shown: the masks whose answers are shown.
    """
    sides = [
        _under_one_attack(examples.filter(pl.col("role") != "benign")),
        _under_one_attack(examples.filter(role="benign")),
    ]
    harm, benign = map(_in_turn, sides)
    half = min(len(benign), count // 2)
    drawn = [*harm[: count - half], *benign][:count]
    table = pl.concat(sides)
    return [_example(table, behaviour, prompt, threshold, shown) for behaviour, prompt in drawn]


def _under_one_attack(table: pl.DataFrame) -> pl.DataFrame:
    found = [attack for attack in _ATTACKS if attack in set(table["attack"])]
    return table.filter(attack=found[0]) if found else table.clear()


def _in_turn(table: pl.DataFrame) -> list[tuple[str, str]]:
    """(behaviour, prompt) in rounds: one of every behaviour a round, in the order of the hash."""
    prompts = table.select("behaviour", "prompt").unique().drop_nulls()
    lines: dict[str, list[str]] = {}
    for behaviour, prompt in sorted(prompts.iter_rows(), key=lambda row: _hash(row[1])):
        lines.setdefault(behaviour, []).append(prompt)
    rounds = zip_longest(*([(name, one) for one in lines[name]] for name in sorted(lines)))
    return [place for place in chain.from_iterable(rounds) if place is not None]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _example(
    table: pl.DataFrame, behaviour: str, prompt: str, threshold: float, shown: Headline
) -> ShownPrompt:
    rows = table.filter(behaviour=behaviour, prompt=prompt)
    answers = list(_answers(rows, shown))
    harmful = rows.filter(pl.col("harmfulness") >= threshold).height > 0
    role, attack = str(rows["role"][0]), str(rows["attack"][0])
    hidden = harmful or role != "benign"
    return ShownPrompt(behaviour, role, attack, visible(prompt, LENGTH), hidden, answers)


def _answers(rows: pl.DataFrame, shown: Headline) -> Iterator[ShownAnswer]:
    for variant in shown.columns.values():
        found = rows.filter(variant=variant)
        if found.height:
            row = found.row(0, named=True)
            yield ShownAnswer(variant, visible(row["completion"] or "", LENGTH), _scores(row))
        else:
            yield ShownAnswer(variant, NOTHING, "not measured")


def _scores(row: dict[str, Any]) -> str:
    harm = [] if row["role"] == "benign" else [f"harm {amount(row['harmfulness'], 'score')}"]
    judged = [*harm, f"coherence {amount(row['coherence'], 'score')}"]
    return ", ".join([*judged, "refused"] if row["refused"] else judged)
