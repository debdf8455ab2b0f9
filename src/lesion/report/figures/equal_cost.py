"""What masks of different rules do to harm that cost the same on benign text."""

import altair as alt
import polars as pl

from lesion.report.equal_cost import mask_names
from lesion.report.figures import captions
from lesion.report.figures.charts import HUES, Axis, dots, legend_height, ordered
from lesion.report.figures.figure import Figure, crossed, with_written
from lesion.tables.rows import SHARED
from lesion.tables.wording import amount

_ROLES = {
    "harm_added": "harmful",
    "matched_added": "matched harmless",
    "benign_added": "benign",
}


def equal_cost(table: pl.DataFrame, confidence: float) -> Figure | None:
    """What each mask adds at the largest limit; None if no masks were compared.

    Args:
        table: a model's rows of `equal_cost`.
        confidence: of the intervals.
    """
    data = table.filter(
        pl.col("metric").is_in([*_ROLES]), limit=pl.col("limit").max()
    ).with_columns(role=pl.col("metric").replace_strict(_ROLES))
    if data.is_empty():
        return None
    names = mask_names(data["mask"])
    masks = [names[mask] for mask in ordered(data["mask"], SHARED, "plain", "matched")]
    data = data.with_columns(mask=pl.col("mask").replace(names))
    measured = set(data["role"])
    rows = Axis("mask", None, masks)
    roles = Axis("role", "responses", [role for role in _ROLES.values() if role in measured])
    shown = with_written(data.select("mask", "role", "value", "low", "high", "n"), "nats")
    limit = amount(data["limit"][0], "nats", 2)
    x = {"title": "added NLL (nats per token)", "axis": alt.Axis(format="~g")}
    return Figure(
        "equal-cost",
        "Do other masks do as much to harmful answers at the same cost?",
        f"Dots for {len(masks)} masks that were grown until they add {limit} to benign responses "
        "of the validation split, or come as near as they can, with intervals: what they add to "
        "harmful and to matched responses.",
        captions.filled(captions.EQUAL_COST, confidence=confidence, limit=limit),
        dots(shown, rows, roles, x, {}, HUES),
        96 + legend_height(roles.names),
        crossed(shown, rows, roles, "mask"),
    )
