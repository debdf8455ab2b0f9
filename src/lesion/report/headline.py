"""The before/after table: the rows that the page and the terminal both show. Polars in and out."""

from collections.abc import Callable
from typing import NamedTuple

import polars as pl

from lesion.tables.intervals import Estimate
from lesion.tables.lookup import find, mask_size
from lesion.tables.metrics import Metric, ShownRow, shown_rows
from lesion.tables.read import Headline
from lesion.tables.rows import UNMODIFIED
from lesion.tables.wording import Unit

HEADLINE = {
    "model": pl.String,
    "key": pl.String,
    "group": pl.String,
    "label": pl.String,
    "note": pl.String,
    "unit": pl.String,
    "column": pl.String,
    "variant": pl.String,
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "n": pl.Int64,
}


Measure = Callable[[pl.DataFrame, pl.DataFrame, str, str], Estimate | None]
"""A function of one model's measurements, its `where`, a variant, and the mask whose circuit is
counted, to a number."""


class _Row(NamedTuple):
    key: str
    group: str
    label: str
    note: str
    unit: Unit
    measure: Measure


def headline(measurements: pl.DataFrame, where: pl.DataFrame, shown: Headline) -> pl.DataFrame:
    """The before/after rows of every model.

    Args:
        measurements: the study's measurements.
        where: how many weights of each mask, and how many candidates, lie in each matrix.
        shown: the masks of the columns.

    Returns:
        A table of HEADLINE, one row for each model, row (`key`) and column. `value` is null where
        nothing was measured; `low` and `high` also where a number is a count; `n` counts prompts,
        or weights where the row counts weights.
    """
    rows = [
        (model, *row[:5], column, variant, *(number or (None, None, None, None)))
        for model in sorted({*measurements["model"], *where["model"]})
        for measured, masks in [(measurements.filter(model=model), where.filter(model=model))]
        for row in _rows()
        for column, variant in shown.columns.items()
        for number in [row.measure(measured, masks, variant, shown.mask)]
    ]
    return pl.DataFrame(rows, schema=HEADLINE, orient="row").with_columns(
        pl.when(pl.col(pl.Float64).is_finite()).then(pl.col(pl.Float64))
    )


def _zeroed(
    _measured: pl.DataFrame, where: pl.DataFrame, variant: str, _mask: str
) -> Estimate | None:
    weights, candidates = mask_size(where, variant)
    if variant == UNMODIFIED:
        return Estimate(0)
    return Estimate(weights) if candidates else None


def _circuit_left(
    _measured: pl.DataFrame, where: pl.DataFrame, variant: str, mask: str
) -> Estimate | None:
    """Share of the mask's weights that a variant still has.

    A control of `k` random weights in a matrix of `N` shares `k·l/N` with a mask of `l` weights on
    average; the tables do not say which ones.
    """
    size, _ = mask_size(where, mask)
    if not size:
        return None
    if variant == mask:
        return Estimate(0.0, n=size)
    if variant == UNMODIFIED:
        return Estimate(1.0, n=size)
    if not mask_size(where, variant)[1]:
        return None
    both = where.filter(mask=mask).join(where.filter(mask=variant), on=["layer", "module"])
    met = both.select((pl.col("weights") * pl.col("weights_right") / pl.col("candidates")).sum())
    return Estimate(1 - float(met.item()) / size, n=size)


def _metric(metric: Metric, shown: ShownRow) -> Measure:
    place = (metric.name, shown.role, shown.attack)
    return lambda measured, _where, variant, _mask: find(measured, variant, *place)


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
            "share of the mask's weights not zeroed; expected value for the random control",
            "share",
            _circuit_left,
        ),
        _Row(
            "zeroed",
            "Circuit integrity",
            "Weights zeroed",
            "number of weights set to zero",
            "count",
            _zeroed,
        ),
    ]
