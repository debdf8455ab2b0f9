import polars as pl
import pytest

from lesion.formats import LesionError
from lesion.masks.run import SWEEP, choose

INTACT = (2.0, 1.0)


def _sweep(*points: tuple[float, float, int, float, float]) -> pl.DataFrame:
    """Points as (p, q, weights, added harm NLL, added benign NLL)."""
    rows = [
        (p, q, weights, INTACT[0] + harm, INTACT[1] + benign, *INTACT, 10, 10)
        for p, q, weights, harm, benign in points
    ]
    return pl.DataFrame(rows, schema=SWEEP, orient="row")


def test_the_most_harm_within_the_limit_wins() -> None:
    table = _sweep((0.1, 0.01, 5, 1.0, 0.1), (0.2, 0.01, 5, 2.0, 0.2), (0.2, 0.02, 9, 9.0, 0.5))
    assert choose(table, 0.3) == (0.2, 0.01)
    assert choose(table, 0.6) == (0.2, 0.02)
    assert choose(table, 0.15) == (0.1, 0.01)


def test_among_equals_the_smaller_p_then_q() -> None:
    points = [(p, q, 5, 1.0, 0.0) for p in (0.3, 0.1, 0.2) for q in (0.02, 0.01)]
    assert choose(_sweep(*points), 0.1) == (0.1, 0.01)


def test_an_empty_mask_is_never_chosen() -> None:
    table = _sweep((0.1, 0.01, 0, 0.0, 0.0), (0.2, 0.01, 3, -0.5, 0.0))
    assert choose(table, 0.1) == (0.2, 0.01)


def test_no_point_within_the_limit_is_an_error_with_the_least() -> None:
    table = _sweep((0.1, 0.01, 5, 1.0, 0.25), (0.2, 0.01, 5, 2.0, 0.5))
    with pytest.raises(LesionError, match=r"within 0\.1 nats \(least: 0\.250\)\. Add smaller"):
        choose(table, 0.1)
