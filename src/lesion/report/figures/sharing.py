"""Do harm types share more weights with each other than with benign use? One finding. Pure."""

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from lesion.report.verdicts import Finding
from lesion.tables.claims.claim import Conclusion
from lesion.tables.intervals import Estimate
from lesion.tables.wording import amount

ALL_BUT_FEW = 0.9
"""The share of harm-type pairs that must clearly share more for the answer "yes". It is below 1,
since 95% intervals miss a true effect now and then."""


class SharedWeights(NamedTuple):
    """The number of weights that two masks share, also as a multiple of the strict null model."""

    weights: int
    times: Estimate


def sharing(harm: Sequence[SharedWeights], benign: Sequence[SharedWeights]) -> Finding:
    """Do harm types share more weights with each other than with benign behaviours?

    The strict enrichment decides; it discounts rows and columns that both masks favour.
    "Yes" means that the intervals of nearly all pairs of harm types lie above the median of the
    other pairs, "no" that nearly all lie below it, and "in part" that more lie above than below.

    Args:
        harm: all pairs of harm types.
        benign: all pairs of a harm type and a benign behaviour.
    """
    question = "Do harm types share more weights with each other than with benign use?"
    own, other = (
        [one for one in pairs if one.times.value >= 0]  # NaN if none were expected.
        for pairs in (harm, benign)
    )
    if not own or not other:
        sentence = (
            "The tables lack pairs of two harm types, or pairs of a harm and a benign behaviour."
        )
        return Finding(question, Conclusion.UNCLEAR, sentence)
    typical = median(one.times.value for one in other)
    above = sum(one.times.low > typical for one in own)
    below = sum(one.times.high < typical for one in own)
    answer = _sharing(above / len(own), below / len(own))
    facts = (
        f"Two harm types share {_typical(own)}; a harm and a benign mask share {_typical(other)}."
    )
    sure = (
        f"Of {len(own)} pairs of harm types, {above} have an interval that lies entirely above "
        f"the other median, and {below} have one that lies entirely below it."
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
    """Why count and ratio seem to disagree, if they do."""
    larger = median(one.weights for one in own) > median(one.weights for one in other)
    if answer in (Conclusion.YES, Conclusion.PARTLY) or not larger:
        return ""
    return " Their larger count is explained by the same favoured rows and columns."
