"""What is said before any verdict, of a limit on benign loss that was lifted or missed."""

import math

import polars as pl
import pytest

from lesion.tables.effects import LARGEST_LIMIT
from lesion.tables.limits import limit_notices
from lesion.tables.rows import MEASUREMENTS


def _said(
    limit: float = 0.1,
    validation: float = 0.08,
    test: tuple[float | None, ...] | None = (0.09, 0.07, 0.11),
) -> list[str]:
    sweep = pl.DataFrame(
        {
            "benign_nll": [0.7 + validation, 9.0],
            "benign_nll_unmodified": [0.7, 0.7],
            "chosen": [True, False],
        }
    )
    place = {"variant": "shared", "metric": "nll_added", "level": "total", "role": "benign"}
    rows = (
        []
        if test is None
        else [{**place, **dict(zip(("value", "low", "high"), test, strict=True))}]
    )
    return limit_notices(sweep, limit, pl.DataFrame(rows, schema=MEASUREMENTS))


def test_of_a_limit_that_is_kept_nothing_is_said() -> None:
    assert _said() == []
    assert _said(test=None) == []
    assert _said(limit=LARGEST_LIMIT, validation=LARGEST_LIMIT - 1e-9) == []
    # Not surely kept.
    assert _said(test=(0.08, 0.05, 0.15)) == []


@pytest.mark.parametrize("limit", [0.51, 1000.0, math.inf])
def test_a_limit_that_limits_nothing_was_lifted(limit: float) -> None:
    (said,) = _said(limit=limit)
    assert said.startswith("The limit on benign loss was lifted: `masks.max_benign_increase` is ")


@pytest.mark.parametrize("added", [0.2, math.nan])
def test_a_limit_missed_on_validation(added: float) -> None:
    (said,) = _said(validation=added)
    assert said.startswith("The limit on benign loss was missed: the chosen p and q add ")


@pytest.mark.parametrize(
    "test",
    [(0.3, 0.2, 0.4), (0.12, 0.09, 0.15), (math.nan,) * 3, (math.inf,) * 3, (None, None, None)],
)
def test_a_limit_missed_on_the_test_prompts(test: tuple[float | None, ...]) -> None:
    (said,) = _said(test=test)
    assert "missed: the shared mask adds " in said
    assert "of the test split, and `masks.max_benign_increase` is 0.1." in said


def test_both_are_said() -> None:
    assert len(_said(limit=0.6, test=(0.9, 0.8, 1.0))) == 2
