"""What is asked of the table of claims, and how a row of it answers. Pure."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from lesion.report.estimate import Estimate, Unit, amount, detectable, estimate_of
from lesion.report.inputs import Inputs
from lesion.report.words import Answer, Verdict

ANSWERS = {
    "supported": Answer.YES,
    "not supported": Answer.NO,
    "can't tell": Answer.UNCLEAR,
}
"""Of the table's verdicts."""

RULE = "Less than {} counts as no effect."
"""What a claim of an effect needs."""

_MEASURED = {
    "nll_added": ("all-harm", "none"),
    "harmfulness_change": ("all-harm", "prefill"),
    "accuracy_change": ("all-utility", "none"),
    "detect_auroc_change": ("all-harm", "none"),
    "coherence_change": ("all-explanation", "explanation"),
    "refusal_rate_change": ("all-harm", "direct"),
}
"""Behaviour and attack of the statistics that stand in the measurements as they are."""

_UNIT_WORDS: dict[Unit, str] = {"points": " points", "nats": " nats per token"}

Sentence = Callable[[Estimate, Inputs], str]
"""From a claim's number and one model's tables to what it says."""


class Question(NamedTuple):
    """What is asked of a row of the table of claims."""

    topic: str
    claim: int
    statistic: str
    variant: str
    question: str
    unit: Unit
    sentence: Sentence
    missing: str
    """What would have to be in the config for an answer."""
    rule: str = ""
    """What the claim needs, with a place for the threshold."""
    opposite: Answer = Answer.NO
    """The answer where the effect is the opposite one, and counts."""
    answers: dict[str, Answer] = ANSWERS


def verdict(asked: Question, found: Inputs) -> Verdict:
    """The answer of one model's table of claims, or what would have to be measured for one.

    Args:
        asked: the question.
        found: the model's tables.
    """
    rows = found.claims.filter(
        claim=asked.claim, statistic=asked.statistic, variant=asked.variant
    ).rows(named=True)
    if not rows:
        place = (asked.topic, asked.claim, asked.statistic, asked.variant)
        return Verdict(asked.question, Answer.UNMEASURED, asked.missing, *place)
    return answered(asked, rows[0], found)


def answered(asked: Question, row: dict[str, Any], found: Inputs) -> Verdict:
    """The answer that a row of the table of claims gives.

    Args:
        asked: the question.
        row: of the table of claims.
        found: the tables of its model.
    """
    place = (asked.topic, asked.claim, asked.statistic, asked.variant)
    one = estimate_of(row)
    answer = asked.answers[row["verdict"]]
    if answer is Answer.NO and one.low > abs(row["threshold"]):
        answer = asked.opposite
    bound = _with_unit(abs(row["threshold"]), asked.unit)
    sentence = f"{asked.sentence(one, found)} {asked.rule.format(bound)}".rstrip()
    if answer is Answer.UNCLEAR:
        sentence = f"{sentence} {_why_unclear(asked, row, found)}"
    number = (row["value"], row["low"], row["high"], row["n"])
    return Verdict(asked.question, answer, sentence, *place, *number)


def _why_unclear(asked: Question, row: dict[str, Any], found: Inputs) -> str:
    if row["why"]:
        return str(row["why"])
    one = estimate_of(row)
    if math.isnan(one.low) or math.isnan(one.high):
        return "The interval has no end on one side."
    bound = _with_unit(row["threshold"], asked.unit)
    return f"The interval includes {bound}{_seen(asked, found)}."


def _seen(asked: Question, found: Inputs) -> str:
    """What a study of this size could have seen."""
    if asked.statistic not in _MEASURED:
        return ""
    behaviour, attack = _MEASURED[asked.statistic]
    least = detectable(found.measurements, asked.variant, behaviour, asked.statistic, attack)
    if least is None:
        return ""
    return (
        f"; a true difference of {_with_unit(least, asked.unit)} would have been told from none "
        "four times in five"
    )


def _with_unit(value: float, unit: Unit) -> str:
    return f"{amount(value, unit)}{_UNIT_WORDS.get(unit, '')}"
