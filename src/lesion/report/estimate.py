"""A number with its interval: found in a table, compared, written out. Pure."""

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import polars as pl

from lesion.tables.intervals import ROUNDING

Unit = Literal["share", "points", "score", "nats", "ratio", "count"]

UNKNOWN = math.nan
NOTHING = "–"
"""Stands where there is no number."""


_NO_PERCENT = 1e-9
"""What the bound of an interval may lack of 0 by rounding; the smallest mask is far above it."""


class Estimate(NamedTuple):
    """A value, its interval (NaN where it has none) and the number of prompts behind it."""

    value: float
    low: float = UNKNOWN
    high: float = UNKNOWN
    n: int | None = None

    @property
    def above_zero(self) -> bool:
        """The whole interval lies above zero; false if there is none."""
        return self.low > 0

    @property
    def below_zero(self) -> bool:
        """The whole interval lies below zero; false if there is none."""
        return self.high < 0


def find(
    measurements: pl.DataFrame, variant: str, behaviour: str, metric: str, attack: str = "none"
) -> Estimate | None:
    """One measurement of one model, or None if it was not made."""
    row = _row(measurements, variant, behaviour, metric, attack)
    return None if row is None else estimate_of(row)


def detectable(
    measurements: pl.DataFrame, variant: str, behaviour: str, metric: str, attack: str = "none"
) -> float | None:
    """The true difference that the study would have told from none four times in five, if known."""
    row = _row(measurements, variant, behaviour, metric, attack)
    return None if row is None else row["detectable"]


def _row(
    measurements: pl.DataFrame, variant: str, behaviour: str, metric: str, attack: str
) -> dict[str, Any] | None:
    found = measurements.filter(
        "main",
        pl.col("value").is_not_null(),
        variant=variant,
        behaviour=behaviour,
        metric=metric,
        attack=attack,
    )
    return found.row(0, named=True) if found.height else None


def estimate_of(row: dict[str, object]) -> Estimate:
    """The estimate in a row with value, low, high and n; nulls are unknown."""

    def number(name: str) -> float:
        value = row[name]
        return float(value) if isinstance(value, int | float) else UNKNOWN

    n = row["n"]
    return Estimate(
        number("value"), number("low"), number("high"), int(n) if isinstance(n, int) else None
    )


def is_clear(row: Mapping[str, Any], confidence: float) -> bool:
    """Whether a difference among many is told from none.

    Args:
        row: of the measurements; by its p-value corrected for all that it is compared with.
        confidence: level of the intervals.
    """
    return row["p_adjusted"] is not None and row["p_adjusted"] < 1 - confidence


def change(before: Estimate, after: Estimate) -> Estimate:
    """`after − before`, with an interval from the two intervals alone.

    Each side's distance to its own bounds, added in squares (Newcombe's square-and-add, 1998).
    That takes the two for independent. They are of the same prompts and rise and fall together,
    so the true interval is narrower: this one errs towards "can't tell".
    """
    value = after.value - before.value
    below = math.hypot(after.value - after.low, before.high - before.value)
    above = math.hypot(after.high - after.value, before.value - before.low)
    counts = [one.n for one in (before, after) if one.n is not None]
    return Estimate(value, value - below, value + above, min(counts, default=None))


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
    """A share in percent to about two figures; what is not quite all of it is not called 100%."""
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


def interval(one: Estimate, unit: Unit, digits: int | None = None) -> str:
    """`[low, high]`, with `NOTHING` for a side that has no end; empty if it has none."""
    if math.isnan(one.low) and math.isnan(one.high):
        return ""
    digits = shared_digits(one) if digits is None else digits
    return f"[{amount(one.low, unit, digits)}, {amount(one.high, unit, digits)}]"


def written(one: Estimate | None, unit: Unit, digits: int | None = None) -> str:
    """`0.72 [0.65, 0.80]`, or `NOTHING`."""
    if one is None:
        return NOTHING
    digits = shared_digits(one) if digits is None else digits
    return f"{amount(one.value, unit, digits)} {interval(one, unit, digits)}".strip()


def shared_digits(one: Estimate) -> int:
    """Decimals that suit the value and both bounds alike."""
    bounds = [value for value in (one.value, one.low, one.high) if math.isfinite(value)]
    return _digits(max(map(abs, bounds), default=0.0))


def _digits(value: float) -> int:
    """Decimals that show a number, unless it is nothing but rounding."""
    if 0 < abs(value) < 0.0995:
        return (
            3
            if abs(value) >= 0.0005 or abs(value) < ROUNDING
            else -math.floor(math.log10(abs(value)))
        )
    return 2


def _signed(text: str) -> str:
    """A true minus, and none before a zero."""
    plain = text.lstrip("-")
    if not plain.strip("0.%"):
        return plain
    return f"−{plain}" if text.startswith("-") else text
