"""Which prompts the page shows side by side, and how. Pure.

Prompts are drawn by their hash, so that neither a person nor a result influences the choice.
"""

import hashlib
from itertools import chain, groupby, zip_longest
from operator import itemgetter
from typing import NamedTuple

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
    """Draw prompts of one model: harm types in turn, then as many (or one fewer) benign ones.

    From a harmfulness of `threshold` on, an answer is hidden whatever its prompt's role.
    """
    sides = [
        _under_one_attack(examples.filter(pl.col("role") != "benign")),
        _under_one_attack(examples.filter(role="benign")),
    ]
    harm, benign = map(_in_turn, sides)
    half = min(len(benign), count // 2)
    drawn = [*harm[: count - half], *benign][:count]
    table = pl.concat(sides)
    return [
        _example(table.filter(behaviour=behaviour, prompt=prompt), threshold, shown)
        for behaviour, prompt in drawn
    ]


def _under_one_attack(table: pl.DataFrame) -> pl.DataFrame:
    attacks = [attack for attack in _ATTACKS if attack in set(table["attack"])]
    return table.filter(attack=attacks[0]) if attacks else table.clear()


def _in_turn(table: pl.DataFrame) -> list[tuple[str, str]]:
    """(behaviour, prompt) in rounds: one of every behaviour a round, in the order of the hash."""
    prompts = table.select("behaviour", "prompt").unique().drop_nulls().rows()
    prompts.sort(key=lambda row: (row[0], hashlib.sha256(row[1].encode()).hexdigest()))
    by_behaviour = groupby(prompts, itemgetter(0))
    rounds = zip_longest(*([*rows] for _, rows in by_behaviour))
    return [row for row in chain.from_iterable(rounds) if row is not None]


def _example(rows: pl.DataFrame, threshold: float, shown: Headline) -> ShownPrompt:
    """A prompt with its answers: `rows` are the completions of every variant."""
    answers = []
    for variant in shown.columns.values():
        row = next(rows.filter(variant=variant).iter_rows(named=True), None)
        if row is None:
            answers.append(ShownAnswer(variant, NOTHING, "not measured"))
            continue
        scores = [
            *([] if row["role"] == "benign" else [f"harm {amount(row['harmfulness'], 'score')}"]),
            f"coherence {amount(row['coherence'], 'score')}",
            *(["refused"] if row["refused"] else []),
        ]
        text = visible(row["completion"] or "", LENGTH)
        answers.append(ShownAnswer(variant, text, ", ".join(scores)))
    behaviour, role, attack, prompt = rows.select("behaviour", "role", "attack", "prompt").row(0)
    hidden = role != "benign" or rows.filter(pl.col("harmfulness") >= threshold).height > 0
    return ShownPrompt(behaviour, role, attack, visible(prompt, LENGTH), hidden, answers)
