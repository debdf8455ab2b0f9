"""Do harm types share more weights with each other than with benign use? One finding. Pure."""

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from lesion.report.verdicts import Finding
from lesion.tables.claims.claim import Conclusion
from lesion.tables.intervals import Estimate
from lesion.tables.wording import amount

ALL_BUT_FEW = 0.9
"""Share of pairs of harm types that must clearly share more for a plain yes: at 95% confidence a
true effect may be missed now and then."""


class SharedWeights(NamedTuple):
    """What two masks have in common: weights, and how many times the strict null's expectation."""

    weights: int
    times: Estimate


def sharing(harm: Sequence[SharedWeights], benign: Sequence[SharedWeights]) -> Finding:
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
        return Finding(question, Conclusion.UNCLEAR, sentence)
    typical = median(one.times.value for one in other)
    above = sum(one.times.low > typical for one in own)
    below = sum(one.times.high < typical for one in own)
    answer = _sharing(above / len(own), below / len(own))
    facts = f"Two harm types share {_typical(own)}; a harm and a benign mask {_typical(other)}."
    sure = (
        f"Of {len(own)} pairs of harm types, {above} have an interval wholly above the other "
        f"median and {below} wholly below it."
    )
    return Finding(question, answer, f"{facts} {sure}{_by_count(own, other, answer)}")


def _typical(pairs: Sequence[SharedWeights]) -> str:
    times = amount(median(one.times.value for one in pairs), "ratio")
    weights = amount(median(one.weights for one in pairs), "count")
    return f"{weights} weights, {times} chance under the strict null (medians of {len(pairs)})"


def _sharing(above: float, below: float) -> Conclusion:
    if above >= ALL_BUT_FEW:
        return Conclusion.YES
    if below >= ALL_BUT_FEW:
        return Conclusion.NO
    return Conclusion.PARTLY if above > below else Conclusion.UNCLEAR


def _by_count(
    own: Sequence[SharedWeights], other: Sequence[SharedWeights], answer: Conclusion
) -> str:
    """Why two numbers seem to disagree, where they do."""
    larger = median(one.weights for one in own) > median(one.weights for one in other)
    if answer in (Conclusion.YES, Conclusion.PARTLY) or not larger:
        return ""
    return " Their larger count goes with favouring the same rows and columns."
