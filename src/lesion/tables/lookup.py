"""Looking up numbers in the tables: a measurement, its interval, the size of a mask. Pure."""

import math
from collections.abc import Mapping
from typing import Any

import polars as pl

from lesion.tables.intervals import Estimate
from lesion.tables.rows import BEHAVIOUR, TOTAL


def measurement(
    measurements: pl.DataFrame,
    variant: str | None,
    metric: str,
    role: str = "harm",
    attack: str = "none",
) -> dict[str, Any] | None:
    """The row of one model's total over a role, by the primary judge; None if not measured."""
    rows = totals(measurements, role).filter(
        "main", pl.col("variant").eq_missing(variant), metric=metric, attack=attack
    )
    return rows.row(0, named=True) if rows.height else None


def totals(table: pl.DataFrame, role: str) -> pl.DataFrame:
    """The rows over all behaviours of a role."""
    return table.filter(level=TOTAL, role=role)


def find(
    measurements: pl.DataFrame,
    variant: str | None,
    metric: str,
    role: str = "harm",
    attack: str = "none",
) -> Estimate | None:
    """One total of one model, or None if it has no value."""
    row = measurement(measurements, variant, metric, role, attack)
    return None if row is None or row["value"] is None else estimate_of(row)


def estimate_of(row: Mapping[str, Any]) -> Estimate:
    """The estimate in a row with value, low, high and n; nulls are unknown."""
    value, low, high = (
        math.nan if row[name] is None else float(row[name]) for name in ("value", "low", "high")
    )
    return Estimate(value, low, high, row["n"])


def first_estimate(rows: pl.DataFrame) -> Estimate | None:
    """The estimate in the first of some rows, or None if there are none."""
    return estimate_of(rows.row(0, named=True)) if rows.height else None


def is_clear(row: Mapping[str, Any], confidence: float) -> bool:
    """Whether a row of MEASUREMENTS is significant, corrected for multiple comparisons."""
    return row["p_adjusted"] is not None and row["p_adjusted"] < 1 - confidence


def refusal_masks(measurements: pl.DataFrame) -> list[str]:
    """The masks of behaviours of role refusal that were zeroed, by name."""
    own = measurements.filter(level=BEHAVIOUR, role="refusal")["behaviour"]
    return sorted({*own} & {*measurements["variant"]})


def mask_sizes(where: pl.DataFrame) -> dict[str, int]:
    """The weights of each of one model's masks, by name."""
    sums = where.group_by("mask", maintain_order=True).agg(pl.col("weights").sum())
    return {str(mask): int(weights) for mask, weights in sums.rows()}


def mask_size(where: pl.DataFrame, mask: str) -> tuple[int, int]:
    """The weights of one model's mask, and the candidate weights; zeros if unknown."""
    sums = where.filter(mask=mask).select("weights", "candidates").sum().row(0)
    return int(sums[0]), int(sums[1])
