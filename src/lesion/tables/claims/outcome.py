"""A number against the smallest effect that counts: supported, not supported, or can't tell. Pure.

A claim is supported, or not supported, if the whole interval lies on one side of the smallest
effect that counts (`lesion.tables.effects`); otherwise it is "can't tell", which is not "no". The
outcome is also "can't tell" if there is nothing to lose (the unmodified model hardly refuses, say),
if nothing varies (an interval of zero width is no certainty), or if there are too few prompts. It
replaces "supported" if the study violates an assumption of the claim, such as its limit on benign
loss.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from lesion.tables.effects import FEWEST, FEWEST_OF_ONE
from lesion.tables.intervals import Estimate, difference_of, equal_draws, is_still

SUPPORTED, NOT_SUPPORTED, CANNOT_TELL = "supported", "not supported", "can't tell"


def together(outcomes: Iterable[str]) -> str:
    """The joint outcome of several numbers or claims; "can't tell" if there are none."""
    distinct = set(outcomes)
    if NOT_SUPPORTED in distinct:
        return NOT_SUPPORTED
    return SUPPORTED if distinct == {SUPPORTED} else CANNOT_TELL


class Number(NamedTuple):
    """A number that a claim is compared with; unknown parts are NaN.

    An unbounded side of the interval is infinite. `draws` is the effective number of prompts: as
    many prompts of a single behaviour would have the same variance. It equals `n` if all behaviours
    have equally many.
    """

    value: float
    low: float
    high: float
    n: int
    draws: float
    smallest: int | None = None
    """Prompts of the behaviour that has the fewest, if that is known."""


class Evidence(NamedTuple):
    """A number, and the side of a threshold on which it supports the claim."""

    number: Number
    threshold: float
    above: bool = True
    unusable: str = ""
    """Why the number is unusable, wherever its interval lies."""
    doubt: str = ""
    """Why the number cannot support the claim, although it may refute it."""
    scale: float = 1.0
    """The magnitude of the numbers that it is computed from."""


def outcome_of(evidence: Evidence) -> tuple[str, str]:
    """The outcome, and the reason for "can't tell"; empty if the interval alone decides."""
    number = evidence.number
    why = evidence.unusable or _unusable(number, evidence.scale)
    if why:
        return CANNOT_TELL, why
    # Comparisons with NaN are false.
    above = math.isfinite(number.low) and number.low > evidence.threshold
    below = math.isfinite(number.high) and number.high < evidence.threshold
    if not above and not below:
        return CANNOT_TELL, ""
    if above != evidence.above:
        return NOT_SUPPORTED, ""
    if evidence.doubt:
        return CANNOT_TELL, evidence.doubt
    if not math.isfinite(number.value):
        why = "The number is infinite: the model gave some token a probability of zero."
        return CANNOT_TELL, why
    return SUPPORTED, ""


def _unusable(number: Number, scale: float) -> str:
    if math.isnan(number.value):
        return "The number is not available: the model gave NaN, or the value is unknown."
    if number.draws < FEWEST:
        return _too_few(number)
    if math.isfinite(number.value) and (math.isnan(number.low) or math.isnan(number.high)):
        return "One bound of the interval is unknown."
    if is_still(number.low, number.high, scale):
        return (
            f"All {number.n} prompts give the same value, up to rounding. An interval of zero "
            "width is no certainty: the variance of the number is unknown."
        )
    return ""


def _too_few(number: Number) -> str:
    few = "There are too few prompts for a reliable interval"
    if number.n >= FEWEST and number.smallest is not None and number.smallest < FEWEST_OF_ONE:
        return (
            f"{few}: one behaviour has {number.smallest} of the {number.n}, and each needs "
            f"{FEWEST_OF_ONE}."
        )
    if number.n >= FEWEST:
        return (
            f"{few}: the {number.n} tell no more than {number.draws:.1f} of one behaviour would, "
            f"and it needs {FEWEST}."
        )
    return f"{few}: {number.n}, and it needs {FEWEST}, with {FEWEST_OF_ONE} of each behaviour."


def number_of(row: Mapping[str, Any], sizes: Sequence[int]) -> Number:
    """A row's number, given the number of prompts of each behaviour, if it is known."""
    value, low, high = (
        math.nan if row[name] is None else row[name] for name in ("value", "low", "high")
    )
    # Resamples of n prompts of a behaviour show (n - 1) / n of its variance: nothing of a single
    # one's, and too little of two's or three's.
    sizes = sizes or [row["n"]]
    draws = equal_draws(sizes) if min(sizes) >= FEWEST_OF_ONE else 1.0
    return Number(value, low, high, row["n"], draws, min(sizes))


def number_over(row: Mapping[str, Any], draws: int | None = None) -> Number:
    """The number of a row that has `fewest`, the prompts of the behaviour with the fewest.

    Args:
        row: of a table with the columns of an estimate and `fewest`.
        draws: the effective number of prompts, if it is not `n`.
    """
    own = number_of(row, [row["n"] if draws is None else draws])
    enough = row["fewest"] >= FEWEST_OF_ONE
    return own._replace(draws=own.draws if enough else 1.0, smallest=row["fewest"])


def gap_of(first: Number | None, second: Number | None) -> Number | None:
    """`first − second`, measured on different prompts; None if either was not measured."""
    if first is None or second is None:
        return None
    gap = difference_of(Estimate(*first[:4]), Estimate(*second[:4]))
    if is_still(first.low, first.high) or is_still(second.low, second.high):
        # The variance of one side is unknown, and so is that of the difference.
        gap = gap._replace(low=gap.value, high=gap.value)
    draws, known = min(first.draws, second.draws), (first.smallest, second.smallest)
    smallest = min((size for size in known if size is not None), default=None)
    return Number(*gap[:3], first.n + second.n, draws, smallest)
