"""What the numbers say, in one sentence a question. Pure; every rule is one function.

An answer is only given where the interval excludes the other one. Otherwise it is "can't tell",
which is not "no": the study was too small, or the effect is. The answers to the study's questions
are those of the table of claims (`lesion.report.verdicts`).
"""

import unicodedata
from collections.abc import Sequence
from enum import StrEnum
from statistics import median
from typing import NamedTuple

from lesion.report.estimate import (
    NOTHING,
    Estimate,
    Unit,
    amount,
    interval,
    shared_digits,
)

ALL_BUT_FEW = 0.9
"""Share of pairs of harm types that must clearly share more for a plain yes: at 95% confidence a
true effect may be missed now and then."""

WEAKLY_ALIGNED = 0.5
"""A model that refuses fewer direct harmful requests than this has little refusal to lose."""


class Answer(StrEnum):
    """What a verdict comes to."""

    YES = "yes"
    PARTLY = "in part"
    NO = "no"
    UNCLEAR = "can't tell"
    LOWERS = "lowers"
    RAISES = "raises"
    UNMEASURED = "not measured"


class Verdict(NamedTuple):
    """A question, its answer, and the sentence with the number, its interval and n.

    The number itself stands after them where it has a row in the table of claims.
    """

    question: str
    answer: Answer
    sentence: str
    topic: str = ""
    claim: int | None = None
    """Its number in the list of the method's claims."""
    statistic: str = ""
    variant: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None


def figure(one: Estimate, unit: Unit, after: str = "") -> str:
    """`0.31 nats per token [0.25, 0.38], n = 60`, with `after` for the words behind the number."""
    digits = shared_digits(one)
    count = "" if one.n is None else f", n = {one.n}"
    value = f"{amount(one.value, unit, digits)}{after}"
    return f"{value} {interval(one, unit, digits)}".rstrip() + count


class Shared(NamedTuple):
    """What two masks have in common: weights, and how many times the strict null's expectation."""

    weights: int
    times: Estimate


def sharing(harm: Sequence[Shared], benign: Sequence[Shared]) -> Verdict:
    """Do harm types share more weights with each other than with benign behaviours?

    By the strict enrichment, in which rows and columns that both masks favour count for nothing.
    "Yes" needs nearly every pair of harm types to lie surely above the median of the others, "no"
    nearly every one surely below it; "in part" is that more lie surely above than below.

    Args:
        harm: every two harm types.
        benign: every harm type with every benign behaviour.
    """
    question = "Do harm types share more weights with each other than with benign use?"
    own, other = (
        [one for one in pairs if one.times.value >= 0]  # What nothing was expected of is NaN.
        for pairs in (harm, benign)
    )
    if not own or not other:
        sentence = "There are not both pairs of harm types and pairs of harm and benign to compare."
        return Verdict(question, Answer.UNCLEAR, sentence)
    typical = median(one.times.value for one in other)
    above = sum(one.times.low > typical for one in own)
    below = sum(one.times.high < typical for one in own)
    answer = _sharing(above / len(own), below / len(own))
    facts = f"Two harm types share {_typical(own)}; a harm and a benign mask {_typical(other)}."
    sure = (
        f"Of {len(own)} pairs of harm types, {above} have an interval wholly above the other "
        f"median and {below} wholly below it."
    )
    return Verdict(question, answer, f"{facts} {sure}{_by_count(own, other, answer)}")


def _typical(pairs: Sequence[Shared]) -> str:
    times = amount(median(one.times.value for one in pairs), "ratio")
    weights = amount(median(one.weights for one in pairs), "count")
    return f"{weights} weights, {times} chance under the strict null (medians of {len(pairs)})"


def _sharing(above: float, below: float) -> Answer:
    if above >= ALL_BUT_FEW:
        return Answer.YES
    if below >= ALL_BUT_FEW:
        return Answer.NO
    return Answer.PARTLY if above > below else Answer.UNCLEAR


def _by_count(own: Sequence[Shared], other: Sequence[Shared], answer: Answer) -> str:
    """Why two numbers seem to disagree, where they do."""
    larger = median(one.weights for one in own) > median(one.weights for one in other)
    if answer in (Answer.YES, Answer.PARTLY) or not larger:
        return ""
    return " Their larger count goes with favouring the same rows and columns."


def probability(p: float | None) -> str:
    """A p-value as text: 0.03, or `< 0.001`, below which an approximate tail has no digits."""
    if p is None:
        return NOTHING
    return "< 0.001" if p < 0.001 else f"{p:.2g}"


def alignment_note(refused: Estimate | None) -> str | None:
    """A warning where the intact model hardly refuses; None where it does, or is not known."""
    if refused is None or refused.value >= WEAKLY_ALIGNED:
        return None
    return (
        f"Of direct harmful requests the intact model refuses {figure(refused, 'share')}. It is "
        "weakly aligned: the safety evaluation has little to lose here, and what holds for this "
        "model need not hold for a strongly aligned one."
    )


def visible(text: str, limit: int | None = None) -> str:
    """Model output made safe to look at: shortened, and nothing in it invisible.

    Control characters, direction overrides and other format characters can hide or reorder text;
    they are written out as `⟨U+202E⟩`. Escaping for HTML is the template's work, not done here.

    Args:
        text: any text.
        limit: characters of it to keep; the rest becomes an ellipsis.
    """
    kept = text if limit is None or len(text) <= limit else text[:limit].rstrip() + "…"
    return "".join(map(_shown, kept))


_HIDDEN = ("C", "Zl", "Zp")
"""Unicode categories that show nothing: control, format, private, unassigned; line separators."""


def _shown(character: str) -> str:
    if character == "\n" or not unicodedata.category(character).startswith(_HIDDEN):
        return character
    return f"⟨U+{ord(character):04X}⟩"
