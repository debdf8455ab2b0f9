"""The rows of the measurements, and functions that group their values."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import polars as pl

from lesion.tables.intervals import Bootstrap, Difference, Estimate, Paired, Values
from lesion.tables.metrics import METRICS

LEVEL = {"level": pl.String, "behaviour": pl.String, "role": pl.String}
"""`level` is `behaviour` for the prompts of one behaviour, and `total` for the unweighted mean over
all behaviours of a role; `behaviour` is then null."""
ESTIMATE = {"value": pl.Float64, "low": pl.Float64, "high": pl.Float64, "n": pl.Int64}
"""The columns of an `Estimate`."""

MEASUREMENTS = {
    "model": pl.String,
    "variant": pl.String,
    **LEVEL,
    "attack": pl.String,
    "judge": pl.String,
    "main": pl.Boolean,
    "metric": pl.String,
    "value": pl.Float64,
    "n": pl.Int64,
    "low": pl.Float64,
    "high": pl.Float64,
    "p_value": pl.Float64,
    "p_adjusted": pl.Float64,
    "detectable": pl.Float64,
    "seed": pl.Int64,
}
"""All numbers; `lesion.tables.columns` explains the columns."""

BEHAVIOUR, TOTAL = "behaviour", "total"
"""The values of `level`."""

UNMODIFIED, SHARED, RANDOM = "unmodified", "shared", "random"


def is_main(main: str) -> pl.Expr:
    """The column `main`: a metric's first judge or, for harm, the study's primary judge."""
    judged = [metric for metric in METRICS if metric.column]
    first = {metric.name: metric.judges[0] if metric.judges else main for metric in judged}
    judge = pl.col("metric").str.strip_suffix("_change").replace_strict(first, default=None)
    return (pl.col("judge") == judge.fill_null(pl.col("judge"))).alias("main")


Part = TypeVar("Part")
Row = dict[str, Any]
"""The columns of a row that are not null."""


def measurement_keys(
    variant: str | None, role: str, attack: str = "none", judge: str = "none"
) -> Row:
    """The keys of a measurement except the behaviour and the metric."""
    return {"variant": variant, "role": role, "attack": attack, "judge": judge}


def row(
    keys: Row, metric: str, estimate: Estimate | Difference, behaviour: str | None = None
) -> Row:
    """A row with its level; its behaviour is None in total."""
    level = TOTAL if behaviour is None else BEHAVIOUR
    own = {"level": level, "behaviour": behaviour, "metric": metric}
    return {**keys, **own, **estimate._asdict()}


def rows_by_behaviour(
    keys: Row,
    metric: str,
    parts: Mapping[str, Part],
    estimate: Callable[[list[Part]], Estimate | Difference],
) -> Iterator[Row]:
    """The row of each behaviour, then that of their unweighted total.

    `keys` are the columns that the rows have in common, `parts` the values of each behaviour.
    """
    for behaviour, values in parts.items():
        yield row(keys, metric, estimate([values]), behaviour)
    if parts:
        yield row(keys, metric, estimate(list(parts.values())))


def by_behaviour(table: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    """The rows of each behaviour, in the order of their names."""
    ordered = table.sort("behaviour", maintain_order=True)
    for (name,), own in ordered.group_by("behaviour", maintain_order=True):
        yield str(name), own


def groups(table: pl.DataFrame, column: str) -> dict[str, Values]:
    """Each behaviour's values of a column, float64 without nulls; empty behaviours are left out."""
    known = table.drop_nulls(column).with_columns(pl.col(column).cast(pl.Float64))
    return {name: own[column].to_numpy() for name, own in by_behaviour(known)}


def pairs(table: pl.DataFrame, unmodified: pl.DataFrame, column: str) -> dict[str, Paired]:
    """Each behaviour's values paired with the unmodified model's, joined by prompt."""
    on = ["behaviour", "prompt"]
    value = pl.col(column).cast(pl.Float64)
    sides = table.select(*on, after=value), unmodified.select(*on, before=value)
    both = sides[0].join(sides[1], on=on, maintain_order="left").drop_nulls()
    return {
        name: Paired(own["before"].to_numpy(), own["after"].to_numpy())
        for name, own in by_behaviour(both)
    }


def metric_rows(
    keys: Row,
    metric: str,
    table: pl.DataFrame,
    unmodified: pl.DataFrame,
    column: str,
    boot: Bootstrap,
) -> Iterator[Row]:
    """A metric of every behaviour and in total, and `<metric>_change` from the unmodified model.

    Both tables have behaviour, prompt and the column; Booleans and zeros and ones make rates. The
    unmodified model itself has no change.
    """
    yield from rows_by_behaviour(keys, metric, groups(table, column), boot.mean_or_rate)
    if keys["variant"] != UNMODIFIED:
        both = pairs(table, unmodified, column)
        yield from rows_by_behaviour(keys, f"{metric}_change", both, boot.paired_change)
