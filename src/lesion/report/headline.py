"""The before/after table: the rows that the page and the terminal both show. Polars in and out."""

from collections.abc import Callable
from typing import NamedTuple

import polars as pl

from lesion.tables.intervals import Estimate
from lesion.tables.lookup import find, mask_size
from lesion.tables.metrics import Metric, Shown, shown_rows
from lesion.tables.wording import Unit

VARIANTS = ("intact", "shared", "random")
"""Columns of the table: before, after, and the control that zeroes as many weights at random."""

HEADLINE = {
    "model": pl.String,
    "key": pl.String,
    "group": pl.String,
    "label": pl.String,
    "note": pl.String,
    "unit": pl.String,
    "variant": pl.String,
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "n": pl.Int64,
}


Measure = Callable[[pl.DataFrame, pl.DataFrame, str], Estimate | None]
"""From one model's measurements and `where`, and a variant, to a number."""


class _Row(NamedTuple):
    key: str
    group: str
    label: str
    note: str
    unit: Unit
    measure: Measure


def headline(measurements: pl.DataFrame, where: pl.DataFrame) -> pl.DataFrame:
    """The before/after rows of every model.

    Args:
        measurements: the study's measurements.
        where: how many weights of each mask, and how many candidates, lie in each matrix.

    Returns:
        A table of HEADLINE, one row for each model, row (`key`) and variant of VARIANTS. `value`
        is null where nothing was measured; `low` and `high` also where a number is a count; `n`
        counts prompts, or weights where the row counts weights.
    """
    shown = _rows()
    rows = [
        _line(model, row, variant, row.measure(measured, masks, variant))
        for model in sorted({*measurements["model"], *where["model"]})
        for measured, masks in [(measurements.filter(model=model), where.filter(model=model))]
        for row in shown
        for variant in VARIANTS
    ]
    return pl.DataFrame(rows, schema=HEADLINE, orient="row").with_columns(
        pl.when(pl.col(pl.Float64).is_finite()).then(pl.col(pl.Float64))
    )


def _line(model: str, row: _Row, variant: str, one: Estimate | None) -> tuple[object, ...]:
    value, low, high, n = one or (None, None, None, None)
    return (model, row.key, row.group, row.label, row.note, row.unit, variant, value, low, high, n)


def _zeroed(_measured: pl.DataFrame, where: pl.DataFrame, variant: str) -> Estimate | None:
    weights, candidates = mask_size(where, variant)
    if variant == "intact":
        return Estimate(0)
    return Estimate(weights) if candidates else None


def _circuit_left(_measured: pl.DataFrame, where: pl.DataFrame, variant: str) -> Estimate | None:
    """Share of the shared mask's weights that a variant still has.

    The random mask takes as many weights of each matrix as the shared one, so in a matrix of N it
    meets `k·k/N` of them on average; the tables do not say which.
    """
    size, _ = mask_size(where, "shared")
    if not size:
        return None
    if variant == "shared":
        return Estimate(0.0, n=size)
    if variant == "intact":
        return Estimate(1.0, n=size)
    if not mask_size(where, "random")[1]:
        return None
    place = ["layer", "module"]
    both = where.filter(mask="shared").join(where.filter(mask="random"), on=place)
    met = both.select((pl.col("weights") * pl.col("weights_right") / pl.col("candidates")).sum())
    return Estimate(1 - float(met.item()) / size, n=size)


def _metric(metric: Metric, shown: Shown) -> Measure:
    behaviour = f"all-{shown.role}"
    return lambda measured, _where, variant: find(
        measured, variant, behaviour, metric.name, shown.attack
    )


def _rows() -> list[_Row]:
    return [
        *(
            _Row(
                shown.key, shown.group, shown.label, shown.note, metric.unit, _metric(metric, shown)
            )
            for metric, shown in shown_rows()
        ),
        _Row(
            "circuit",
            "Circuit integrity",
            "Circuit left",
            "share of the shared mask's weights not zeroed; for the random control, expected",
            "share",
            _circuit_left,
        ),
        _Row(
            "zeroed",
            "Circuit integrity",
            "Weights zeroed",
            "how many weights were set to zero",
            "count",
            _zeroed,
        ),
    ]
