"""The rows of the measurements, and functions that group their values."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np
import polars as pl

from lesion.tables.intervals import Bootstrap, Difference, Estimate, Values, rate, rate_change
from lesion.tables.metrics import METRICS

MEASUREMENTS = {
    "model": pl.String,
    "variant": pl.String,
    "level": pl.String,
    "behaviour": pl.String,
    "role": pl.String,
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
"""`level` is `behaviour` for the prompts of one behaviour, and `total` for the unweighted mean over
all behaviours of a role; `behaviour` is then null. `variant` is null where each harm type's own
mask was zeroed. `main` is true for the primary judge of a metric, and for metrics without a judge.
Only differences have a p-value and a minimum detectable effect (see `Difference`); `p_adjusted` is
corrected (Benjamini and Hochberg) over all rows of the same metric, judge and attack of a model."""

BEHAVIOUR, TOTAL = "behaviour", "total"
"""The values of `level`."""

UNMODIFIED, SHARED, RANDOM = "unmodified", "shared", "random"


def is_main(main: str) -> pl.Expr:
    """The column `main`: a metric's first judge or, for harm, the study's primary judge."""
    judged = [metric for metric in METRICS if metric.column]
    first = {metric.name: metric.judges[0] if metric.judges else main for metric in judged}
    judge = pl.col("metric").str.strip_suffix("_change").replace_strict(first, default=None)
    return (pl.col("judge") == judge.fill_null(pl.col("judge"))).alias("main")


class Row(NamedTuple):
    """A measurement of one model."""

    variant: str | None
    behaviour: str | None
    role: str
    attack: str
    judge: str
    metric: str
    value: float
    n: int | None
    low: float
    high: float
    p_value: float | None = None
    detectable: float | None = None


class RowKey(NamedTuple):
    """The keys of a measurement except the behaviour."""

    variant: str | None
    role: str
    attack: str = "none"
    judge: str = "none"


class Paired(NamedTuple):
    """The values of the same prompts before (unmodified) and after, in the same order."""

    before: Values
    after: Values


One = TypeVar("One")


def level_of(behaviour: str | None) -> str:
    """The level of a row, given its behaviour."""
    return TOTAL if behaviour is None else BEHAVIOUR


def row(place: RowKey, behaviour: str | None, metric: str, one: Estimate | Difference) -> Row:
    """The row of a measurement."""
    extra = (one.p_value, one.detectable) if isinstance(one, Difference) else (None, None)
    return Row(
        place.variant,
        behaviour,
        place.role,
        place.attack,
        place.judge,
        metric,
        *(one.value, one.n, one.low, one.high),
        *extra,
    )


def groups(table: pl.DataFrame, column: str) -> dict[str, Values]:
    """Each behaviour's values of a column, float64 without nulls; empty behaviours are left out.

    Args:
        table: `behaviour` and the column; rows of one role.
        column: numbers or Booleans.
    """
    known = table.filter(pl.col(column).is_not_null()).sort("behaviour", maintain_order=True)
    return {
        str(name): group[column].cast(pl.Float64).to_numpy()
        for (name,), group in known.group_by("behaviour", maintain_order=True)
    }


def pairs(table: pl.DataFrame, unmodified: pl.DataFrame, column: str) -> dict[str, Paired]:
    """Each behaviour's values paired with the unmodified model's, joined by prompt."""
    place = ["behaviour", "prompt"]
    both = (
        table.select(*place, column)
        .join(unmodified.select(*place, before=column), on=place, maintain_order="left")
        .drop_nulls()
        .sort("behaviour", maintain_order=True)
    )
    return {
        str(name): Paired(*(group[one].cast(pl.Float64).to_numpy() for one in ("before", column)))
        for (name,), group in both.group_by("behaviour", maintain_order=True)
    }


def with_total(
    parts: Mapping[str, One], estimate: Callable[[Sequence[One]], Estimate | Difference]
) -> Iterator[tuple[str | None, Estimate | Difference]]:
    """Each behaviour's estimate, then the unweighted total, whose name is None."""
    for name, values in parts.items():
        yield name, estimate([values])
    if parts:
        yield None, estimate(list(parts.values()))


def metric_rows(
    place: RowKey,
    metric: str,
    table: pl.DataFrame,
    unmodified: pl.DataFrame | None,
    column: str,
    boot: Bootstrap,
) -> Iterator[Row]:
    """A metric of every behaviour and in total, and its change from the unmodified model.

    Args:
        place: the keys of the measurement.
        metric: its name; the change is called `<metric>_change`.
        table: behaviour, prompt and the column, of one variant, role, attack and judge. Booleans
            and zeros and ones make rates.
        unmodified: the unmodified model's table; None for the unmodified model itself.
        column: the values.
        boot: the bootstrap.
    """
    for name, one in with_total(groups(table, column), partial(mean_of, boot=boot)):
        yield row(place, name, metric, one)
    if unmodified is None:
        return
    both = pairs(table, unmodified, column)
    for name, one in with_total(both, partial(change_of, boot=boot)):
        yield row(place, name, f"{metric}_change", one)


def mean_of(parts: Sequence[Values], boot: Bootstrap) -> Estimate:
    """The unweighted mean of the groups' means; a rate if all values are zeros and ones."""
    return rate(parts, boot.confidence) if _whole(parts) else boot.mean(parts)


def change_of(parts: Sequence[Paired], boot: Bootstrap) -> Difference:
    """The unweighted mean of the groups' mean differences; of rates if both sides are binary.

    Both sides are checked, since one may be binary by chance: a score that is always 0 is a score.
    """
    before, after = [one.before for one in parts], [one.after for one in parts]
    if _whole([*before, *after]):
        return rate_change(before, after, boot.confidence)
    return boot.change([one.after - one.before for one in parts])


def _whole(parts: Sequence[Values]) -> bool:
    return all(bool(np.isin(one, (0, 1)).all()) for one in parts)
