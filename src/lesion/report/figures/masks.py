"""Figures of one model's masks: their effects on behaviours, and their location."""

from collections.abc import Mapping
from itertools import zip_longest
from typing import Any

import altair as alt
import polars as pl

from lesion.report.figures import captions
from lesion.report.figures.charts import LEGEND, Axis, apart, matrix, matrix_width
from lesion.report.figures.figure import Figure, crossed, text_column, with_written
from lesion.tables.lookup import estimate_of, is_clear
from lesion.tables.rows import BEHAVIOUR, RANDOM, SHARED
from lesion.tables.wording import NOTHING, amount, interval, percent

_BUILT = (SHARED, "shared-all", RANDOM)
_BLUES = ["#f2f5fa", "#6baed6", "#08306b"]
_WIDE_ROW = 26


def transfer(measurements: pl.DataFrame, confidence: float) -> Figure | None:
    """The NLL that every mask adds to every behaviour; None if nothing was measured."""
    added = measurements.filter(
        pl.col("value").is_not_null(), level=BEHAVIOUR, metric="nll_added"
    ).rename({"variant": "mask"})
    harm, benign = (
        sorted(set(added.filter(role=role)["behaviour"])) for role in ("harm", "benign")
    )
    data = added.filter(pl.col("role").is_in(["harm", "benign"])).sort("mask", "behaviour")
    if not data.height:
        return None
    known = set(data["mask"])
    # Harm types first, then shared masks and controls, then the masks of other behaviours.
    order = dict.fromkeys((*harm, *_BUILT, *sorted(known - {*benign}), *benign))
    masks = [name for name in order if name in known]
    x = Axis("behaviour", "responses of: harm types, then benign behaviours", apart(harm, benign))
    y = Axis("mask", "mask zeroed", masks)

    def in_cell(row: dict[str, Any]) -> str:
        text = amount(row["value"], "nats", 2)
        return text if is_clear(row, confidence) else f"({text})"

    cells = data.select(
        *("mask", "behaviour", "value"),
        text_column(data, "text", in_cell),
        text_column(data, "interval", lambda row: interval(estimate_of(row), "nats")),
        "n",
    )
    top = max(0.01, float(data.select(pl.col("value").abs().max()).item()))
    tooltip = [
        alt.Tooltip("mask:N", title="mask zeroed"),
        alt.Tooltip("behaviour:N", title="responses of"),
        alt.Tooltip("value:Q", title="added NLL, nats per token", format=".3f"),
        alt.Tooltip("interval:N", title=f"{confidence:.0%} interval"),
        alt.Tooltip("n:Q", title="prompts"),
    ]
    return Figure(
        "transfer",
        "Does one harm type’s mask affect the others?",
        f"Heatmap of the NLL that zeroing each of {len(masks)} masks adds to held-out responses "
        f"of {len(harm)} harm types and {len(benign)} benign behaviours.",
        captions.filled(captions.TRANSFER, confidence=confidence),
        matrix(cells, x, y, ("value", "added NLL (nats per token)"), top, tooltip),
        165,
        crossed(with_written(data, "nats"), y, x, "mask zeroed"),
        matrix_width(len(harm) + len(benign)),
    )


def where(table: pl.DataFrame) -> Figure | None:
    """In which layers and modules the masks lie; None if no mask has a weight."""
    full = table.filter(pl.col("weights").sum().over("mask") > 0, pl.col("mask") != RANDOM)
    masks = sorted(set(full["mask"]), key=lambda name: (name not in _BUILT, name))
    if not masks:
        return None
    first = full.filter(mask=masks[0])
    modules = list(dict.fromkeys(first["module"]))
    layers = [str(layer) for layer in sorted(set(first["layer"]))]
    density = (1e6 * pl.col("weights") / pl.col("candidates")).round(2)
    data = full.select(
        *("mask", "layer", "module", "weights", "candidates"),
        density=pl.when(pl.col("candidates") > 0).then(density),
    )
    counts = first.with_columns(
        text_column(first, "written", lambda row: amount(row["weights"], "count"))
    )
    rows, columns = Axis("layer", None, layers), Axis("module", None, modules)
    return Figure(
        "where",
        "Where do the weights lie?",
        f"Heatmap of how densely the mask {masks[0]} lies in {len(modules)} modules of "
        f"{len(layers)} layers; other masks can be selected.",
        captions.filled(captions.WHERE),
        _where_chart(data, modules, masks),
        130,
        crossed(counts, rows, columns, f"layer ({masks[0]})"),
    )


def _where_chart(data: pl.DataFrame, modules: list[str], masks: list[str]) -> alt.Chart:
    """Heatmap of density by layer and module, with a menu of masks, the first one shown."""
    layer_axis = alt.Axis(labelOverlap=True, labelAngle=0)
    color = alt.Color(
        "density:Q",
        title="weights in the mask per million",
        scale=alt.Scale(type="sqrt", range=_BLUES, domainMin=0),
        legend=alt.Legend(**LEGEND, tickCount=4),
    )
    tooltip = [
        alt.Tooltip("module:N"),
        alt.Tooltip("layer:O"),
        alt.Tooltip("weights:Q", title="weights in the mask", format=","),
        alt.Tooltip("candidates:Q", title="of weights in this matrix", format=","),
        alt.Tooltip("density:Q", title="per million", format=",.1f"),
    ]
    menu = alt.binding_select(options=masks, name="mask ")
    chart: alt.Chart = (
        alt.Chart(data, height=_WIDE_ROW * len(modules))
        .mark_rect(stroke="#fff", strokeWidth=0.5)
        .encode(
            x=alt.X("layer:O", title="layer (0 is next to the input)", axis=layer_axis),
            y=alt.Y("module:N", title=None, sort=modules),
            color=color,
            tooltip=tooltip,
        )
        .transform_filter("datum.mask === mask")
        .add_params(alt.param(name="mask", value=masks[0], bind=menu))
    )
    return chart


def lines_table(lines: pl.DataFrame, shown: str) -> tuple[str, pl.DataFrame]:
    """The fullest rows beside the fullest columns of a mask, or of the first there is.

    Args:
        lines: the table.
        shown: the mask, if it is in the table.

    Returns:
        The mask's name, and the table as texts; both empty if no mask has any.
    """
    masks = lines["mask"].unique(maintain_order=True).to_list()
    if not masks:
        return "", pl.DataFrame()
    mask = shown if shown in masks else str(masks[0])
    rows, columns = (
        [_line(row) for row in lines.filter(mask=mask, axis=axis).iter_rows(named=True)]
        for axis in ("row", "column")
    )
    none = (NOTHING, NOTHING)
    pairs = enumerate(zip_longest(rows, columns, fillvalue=none), 1)
    names = ("rank", "row (output unit)", "row’s weights", "column (input)", "column’s weights")
    body = [(str(rank), *row, *column) for rank, (row, column) in pairs]
    return mask, pl.DataFrame(body, schema=names, orient="row")


def _line(row: Mapping[str, Any]) -> tuple[str, str]:
    """The location of a row or column, and its number of weights."""
    return (
        f"layer {row['layer']}, {row['module']}, {row['index']}",
        f"{row['weights']:,} ({percent(row['share'])})",
    )
