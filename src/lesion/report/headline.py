"""The before/after table of the page, the terminal and the model card. Polars in and out."""

import polars as pl

from lesion.tables.intervals import Estimate
from lesion.tables.lookup import find, mask_size
from lesion.tables.metrics import shown_rows
from lesion.tables.read import Headline
from lesion.tables.rows import UNMODIFIED

HEADLINE = {
    **dict.fromkeys(("key", "group", "label", "note", "unit", "column", "variant"), pl.String),
    **dict.fromkeys(("value", "low", "high"), pl.Float64),
    "n": pl.Int64,
}

_NOTHING = (None, None, None, None)
_LEFT = (
    *("left", "Ablation", "Weights of the mask left"),
    "share of the mask's weights not zeroed; expected value for the random control",
    "share",
)
_ZEROED = (
    *("zeroed", "Ablation", "Weights zeroed"),
    *("number of weights set to zero", "count"),
)


def headline(
    measurements: pl.DataFrame, where: pl.DataFrame, shown: Headline, *, compliance: bool = False
) -> pl.DataFrame:
    """The before/after rows of one model.

    Args:
        measurements: the model's measurements.
        where: how many weights of each mask, and how many candidates, lie in each matrix.
        shown: the masks of the columns.
        compliance: whether judged harm may only be compliance, and is called that.

    Returns:
        A table of HEADLINE, one row for each row of the page (`key`) and column. Rows of the page
        without any number are left out (`unmeasured`). `value` is null where a column has none;
        `low` and `high` also where a number is a count; `n` counts prompts, or weights where the
        row counts weights.
    """
    if measurements.is_empty() and where.is_empty():
        return pl.DataFrame(schema=HEADLINE)
    rows: list[tuple[object, ...]] = []
    for metric, row in shown_rows():
        for column, variant in shown.columns.items():
            number = find(measurements, variant, metric.name, row.role, row.attack)
            texts = (row.key, row.group, *row.named(compliance), metric.unit, column, variant)
            rows.append((*texts, *(number or _NOTHING)))
    for column, variant in shown.columns.items():
        number = _weights_left(where, variant, shown.mask)
        rows.append((*_LEFT, column, variant, *(number or _NOTHING)))
    for column, variant in shown.columns.items():
        rows.append((*_ZEROED, column, variant, *(_zeroed(where, variant) or _NOTHING)))
    table = pl.DataFrame(rows, schema=HEADLINE, orient="row").with_columns(
        pl.when(pl.col(pl.Float64).is_finite()).then(pl.col(pl.Float64))
    )
    return table.filter(pl.col("value").is_not_null().any().over("key"))


def unmeasured(table: pl.DataFrame, *, compliance: bool = False) -> list[str]:
    """The labels of the measurements that a table of `headline` has no row of."""
    return [
        row.named(compliance)[0] for _, row in shown_rows() if row.key not in table["key"].to_list()
    ]


def _zeroed(where: pl.DataFrame, variant: str) -> Estimate | None:
    weights, candidates = mask_size(where, variant)
    if variant == UNMODIFIED:
        return Estimate(0)
    return Estimate(weights) if candidates else None


def _weights_left(where: pl.DataFrame, variant: str, mask: str) -> Estimate | None:
    """Share of the mask's weights that a variant still has.

    A control of `k` random weights in a matrix of `N` shares `k·l/N` with a mask of `l` weights on
    average; the tables do not say which ones.
    """
    size, _ = mask_size(where, mask)
    if not size:
        return None
    if variant in (mask, UNMODIFIED):
        return Estimate(0.0 if variant == mask else 1.0, n=size)
    if not mask_size(where, variant)[1]:
        return None
    both = where.filter(mask=mask).join(where.filter(mask=variant), on=["layer", "module"])
    met = both.select((pl.col("weights") * pl.col("weights_right") / pl.col("candidates")).sum())
    return Estimate(1 - float(met.item()) / size, n=size)
