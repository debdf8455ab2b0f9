"""Numbers as text."""

import math

import pytest

from lesion.tables.intervals import Estimate, difference_of
from lesion.tables.wording import Unit, amount, with_interval


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.7249, "nats", "0.72"),
        (0.0312, "nats", "0.031"),
        (-4e-8, "nats", "0.000"),
        (-0.0004, "nats", "−0.0004"),
        (0.000023, "score", "0.00002"),
        (-1.25, "score", "−1.25"),
        (0.0, "score", "0.00"),
        (0.81, "share", "81%"),
        (0.031, "share", "3.1%"),
        (3.9e-5, "share", "0.0039%"),
        (0.9996, "share", ">99%"),
        (1.0, "share", "100%"),
        (0.0, "share", "0%"),
        (-2.1e-17, "share", "0%"),
        (-0.12, "share", "−12%"),
        (-0.0304, "points", "−3.0"),
        (4139, "count", "4,139"),
        (1.84, "ratio", "1.8×"),
        (18.4, "ratio", "18×"),
        (float("nan"), "nats", "–"),
        (float("inf"), "ratio", "–"),
        (None, "count", "–"),
    ],
)
def test_amount(value: float | None, unit: Unit, text: str) -> None:
    assert amount(value, unit) == text


def test_written() -> None:
    assert with_interval(Estimate(0.72, 0.65, 0.8, 60), "nats") == "0.72 [0.65, 0.80]"
    assert with_interval(Estimate(0.02, -0.01, 0.05), "nats") == "0.020 [−0.010, 0.050]"
    # The value and its bounds have the same decimals.
    assert with_interval(Estimate(0.12, 0.07, 0.17), "nats") == "0.12 [0.07, 0.17]"
    assert with_interval(Estimate(4139), "count") == "4,139"
    assert with_interval(None, "nats") == "–"


def test_change_adds_the_distances_in_squares() -> None:
    gap = difference_of(Estimate(0.9, 0.6, 1.0, 8), Estimate(0.5, 0.4, 0.7, 10))
    assert gap == pytest.approx((0.4, 0.4 - math.hypot(0.3, 0.2), 0.4 + math.hypot(0.1, 0.1), 8))


def test_change_without_intervals_is_unclear() -> None:
    gap = difference_of(Estimate(0.1), Estimate(0.5))
    assert not gap.above_zero
    assert not gap.below_zero
