"""Numbers and their intervals as text. Pure."""

import math
from typing import Literal

from lesion.tables.intervals import ROUNDING, Estimate

Unit = Literal["share", "points", "score", "nats", "ratio", "count"]

NOTHING = "–"
"""The text where there is no number."""

_NO_PERCENT = 1e-9
"""The distance from 0 that a bound may have by rounding; the smallest mask is far larger."""


def amount(value: float | None, unit: Unit, digits: int | None = None) -> str:
    """A number as text: 0.72, 81%, 3.1%, 4,139, 12×.

    Args:
        value: the number; None or NaN gives `NOTHING`.
        unit: a share is written in percent, a difference of two shares in points (hundredths), a
            ratio with ×.
        digits: decimals of a score or of nats; by size if not given.
    """
    if value is None or not math.isfinite(value):
        return NOTHING
    if unit == "share":
        return percent(value)
    if unit == "points":
        return _signed(f"{100 * value:.1f}")
    if unit == "count":
        return f"{value:,.0f}"
    if unit == "ratio":
        return f"{value:.{1 if abs(value) < 10 else 0}f}×"
    return _signed(f"{value:.{_digits(value) if digits is None else digits}f}")


def percent(share: float) -> str:
    """A share in percent to about two digits; a share just below 1 is not rounded to 100%."""
    value = 100 * share
    if value == 100 or abs(value) < _NO_PERCENT:
        return f"{value:.0f}%".lstrip("-")
    if abs(value) < 0.1:
        return _signed(f"{value:.2g}%")
    if abs(value) < 10:
        return _signed(f"{value:.1f}%")
    if 99.5 <= value < 100:
        return ">99%"
    return _signed(f"{value:.0f}%")


def interval(estimate: Estimate, unit: Unit, digits: int | None = None) -> str:
    """`[low, high]`, with `NOTHING` for an unbounded side; empty if both are unknown."""
    if math.isnan(estimate.low) and math.isnan(estimate.high):
        return ""
    digits = shared_digits(estimate) if digits is None else digits
    return f"[{amount(estimate.low, unit, digits)}, {amount(estimate.high, unit, digits)}]"


def mask_words(mask: str) -> str:
    """`the shared mask`, or the mask of another name in a sentence."""
    return "the shared mask" if mask == "shared" else f"the mask {mask}"


def with_interval(estimate: Estimate | None, unit: Unit, digits: int | None = None) -> str:
    """`0.72 [0.65, 0.80]`, or `NOTHING`."""
    if estimate is None:
        return NOTHING
    digits = shared_digits(estimate) if digits is None else digits
    return f"{amount(estimate.value, unit, digits)} {interval(estimate, unit, digits)}".strip()


def with_unit(value: float, unit: Unit) -> str:
    """The number with its unit: `0.31 nats per token`."""
    return f"{amount(value, unit)}{unit_word(unit)}"


def unit_word(unit: Unit) -> str:
    """The words that follow a number, with a space before them; empty if it has no unit."""
    return {"points": " points", "nats": " nats per token"}.get(unit, "")


def figure(estimate: Estimate, unit: Unit, after: str = "") -> str:
    """`0.31 nats per token [0.25, 0.38], n = 60`, with `after` following the number."""
    digits = shared_digits(estimate)
    count = "" if estimate.n is None else f", n = {estimate.n}"
    value = f"{amount(estimate.value, unit, digits)}{after}"
    return f"{value} {interval(estimate, unit, digits)}".rstrip() + count


def shared_digits(estimate: Estimate) -> int:
    """The number of decimals that suits the value and both bounds."""
    bounds = [
        value for value in (estimate.value, estimate.low, estimate.high) if math.isfinite(value)
    ]
    return _digits(max(map(abs, bounds), default=0.0))


def _digits(value: float) -> int:
    """The number of decimals that shows a number, unless it is only a rounding error."""
    if 0 < abs(value) < 0.0995:
        return (
            3
            if abs(value) >= 0.0005 or abs(value) < ROUNDING
            else -math.floor(math.log10(abs(value)))
        )
    return 2


def _signed(text: str) -> str:
    """The text with a true minus sign, and no sign before a zero."""
    plain = text.lstrip("-")
    if not plain.strip("0.%"):
        return plain
    return f"−{plain}" if text.startswith("-") else text
