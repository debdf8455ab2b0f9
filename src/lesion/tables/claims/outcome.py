"""A number against the smallest effect that counts: supported, not supported, or can't tell. Pure.

A claim is supported, or not supported, where the whole interval lies on one side of the smallest
effect that counts (`lesion.tables.effects`); else it is "can't tell", which is not "no". "Can't
tell" it is, too, where there is nothing to lose, as where the intact model hardly refuses; where
nothing varies, since an interval without a width is no certainty; where few prompts are behind it;
and, in place of "supported", where a claim rests on something that the study does not keep, as on
its limit on benign loss.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lesion.tables.effects import FEWEST
from lesion.tables.intervals import Estimate, difference_of, equal_draws, is_still

SUPPORTED, NOT_SUPPORTED, CANNOT_TELL = "supported", "not supported", "can't tell"


class Number(NamedTuple):
    """A number that a claim is compared with; what is not known of it is NaN.

    Where it has no end on a side, that bound is infinite. `draws` are as many prompts of one kind
    as would leave as much to chance: `n`, where all behaviours have as many.
    """

    value: float
    low: float
    high: float
    n: int
    draws: float


class Evidence(NamedTuple):
    """A number, and the side of a threshold on which it supports the claim."""

    number: Number
    threshold: float
    above: bool = True
    unusable: str = ""
    """Why the number says nothing, wherever its interval lies."""
    doubt: str = ""
    """Why it cannot support the claim, though it may speak against it."""
    scale: float = 1.0
    """The size of the numbers that it is made of."""


def outcome_of(evidence: Evidence) -> tuple[str, str]:
    """The outcome, and the sentence that goes with "can't tell"; empty if none does."""
    one = evidence.number
    why = evidence.unusable or _unusable(one, evidence.scale)
    if why:
        return CANNOT_TELL, why
    # Of NaN all are false.
    above = math.isfinite(one.low) and one.low > evidence.threshold
    below = math.isfinite(one.high) and one.high < evidence.threshold
    if not above and not below:
        return CANNOT_TELL, ""
    if above != evidence.above:
        return NOT_SUPPORTED, ""
    if evidence.doubt:
        return CANNOT_TELL, evidence.doubt
    if not math.isfinite(one.value):
        return CANNOT_TELL, "The number is infinite: the model gave something no chance at all."
    return SUPPORTED, ""


def _unusable(one: Number, scale: float) -> str:
    if math.isnan(one.value):
        return "There is no number: the model gave none, or it is not known."
    if one.draws < FEWEST:
        return (
            f"Too few prompts are behind it (n = {one.n}, or too few of one behaviour) for its "
            "interval to be believed."
        )
    if math.isfinite(one.value) and (math.isnan(one.low) or math.isnan(one.high)):
        return "An end of its interval is not known."
    if is_still(one.low, one.high, scale):
        return (
            f"The {one.n} prompts all give the same, to rounding. An interval without a width is "
            "no certainty: nothing is known of how the number varies."
        )
    return ""


def number_of(row: Mapping[str, Any], sizes: Sequence[int]) -> Number:
    """A row's number, behind which there are so many prompts of each behaviour."""
    value, low, high = (
        math.nan if row[name] is None else row[name] for name in ("value", "low", "high")
    )
    # Of one prompt every resample is the same: the interval leaves out how much it would vary.
    draws = equal_draws(sizes) if min(sizes) > 1 else 1.0
    return Number(value, low, high, row["n"], draws)


def gap_of(first: Number | None, second: Number | None) -> Number | None:
    """`first − second`, of different prompts; None if one was not measured."""
    if first is None or second is None:
        return None
    gap = difference_of(Estimate(*first[:4]), Estimate(*second[:4]))
    if is_still(first.low, first.high) or is_still(second.low, second.high):
        # How far a side varies is not known, and so not of the difference.
        gap = gap._replace(low=gap.value, high=gap.value)
    return Number(*gap[:3], first.n + second.n, min(first.draws, second.draws))
