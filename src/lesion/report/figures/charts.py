"""The charts as Vega-Lite, made by Altair: data frame in, chart out; no text beside them.

Every name in a chart is given, because Altair would otherwise count them up over the process and
the same tables would not make the same bytes.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import altair as alt
import polars as pl

Chart = alt.LayerChart | alt.Chart

_GAP = " "
"""An empty column between harm types and benign behaviours."""

_DIVERGING = ["#3f1a6b", "#f5f5f5", "#7f3b08"]
_BLUES = ["#f2f5fa", "#6baed6", "#08306b"]
_DARK_FROM = 0.66
"""A cell this far along either half of the scale is half as light as white: white text on it is as
legible as black text, also when a dark page inverts the chart."""

_ROW = 32
_WIDE_ROW = 26
_LEGEND: dict[str, Any] = {"orient": "top", "direction": "horizontal", "gradientLength": 220}
_FONT = {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal"}
_INK = {"labelColor": "#222", "titleColor": "#222"}

CONFIG: dict[str, Any] = {
    "background": "transparent",
    "font": "system-ui, 'Liberation Sans', Arial, sans-serif",
    "view": {"stroke": None},
    "axis": {
        **_FONT,
        **_INK,
        "titlePadding": 8,
        "labelLimit": 130,
        "domainColor": "#666",
        "tickColor": "#666",
        "gridColor": "#ddd",
    },
    "legend": {**_FONT, **_INK, "titleLimit": 320},
}
"""The style of every chart: dark on a transparent ground. A dark page inverts it."""


class Axis(NamedTuple):
    """A side of a chart: the field that holds the names, its title, the names in order."""

    field: str
    title: str | None
    names: Sequence[str]


def apart(*groups: Sequence[str]) -> list[str]:
    """The groups' names in one line, with an empty place between two groups.

    Each place needs its own name, so the gaps are of different lengths.
    """
    filled = [group for group in groups if group]
    names: list[str] = []
    for place, group in enumerate(filled):
        names += [_GAP * place] * bool(place) + list(group)
    return names


def matrix_height(rows: int) -> int:
    """The height of a matrix in pixels, with its legend and its slanted labels."""
    return _ROW * rows + 165


def matrix_width(columns: int) -> int:
    """The width in pixels below which the values of a matrix do not fit into its cells."""
    return 44 * columns + 150


def transfer_chart(data: pl.DataFrame, x: Axis, y: Axis, confidence: float) -> Chart:
    """Heatmap of added NLL.

    Args:
        data: mask, behaviour, value (nats per token), text, interval, n.
        x: behaviours.
        y: masks.
        confidence: level of the intervals.
    """
    top = max(0.01, float(data.select(pl.col("value").abs().max()).item()))
    color = alt.Color(
        "value:Q",
        title="added NLL (nats per token)",
        scale=alt.Scale(domain=[-top, 0, top], range=_DIVERGING, interpolate="lab"),
        legend=alt.Legend(**_LEGEND),
    )
    tooltip = [
        alt.Tooltip("mask:N", title="mask zeroed"),
        alt.Tooltip("behaviour:N", title="responses of"),
        alt.Tooltip("value:Q", title="added NLL, nats per token", format=".3f"),
        alt.Tooltip("interval:N", title=f"{confidence:.0%} interval"),
        alt.Tooltip("n:Q", title="prompts"),
    ]
    return _matrix(data, x, y, color, _dark("datum.value", top), tooltip)


def overlap_chart(data: pl.DataFrame, x: Axis, y: Axis) -> Chart:
    """Heatmap of overlaps as multiples of chance, on a log scale around 1.

    Args:
        data: a, b, shared, expected, jaccard, ratio (null where nothing was expected), text,
            interval and p as texts.
        x: the masks `b`.
        y: the masks `a`.
    """
    known = data["ratio"].filter(data["ratio"] > 0)
    # A single pair at chance still needs a scale with two ends; no overlap is at the low end.
    top = max([2.0, *(max(value, 1 / value) for value in known)])
    shaded = data.with_columns(shade=pl.col("ratio").clip(1 / top, top))
    ticks = [tick for tick in (0.01, 0.1, 0.3, 1, 3, 10, 30, 100) if 1 / top <= tick <= top]
    color = alt.Color(
        "shade:Q",
        title="shared weights ÷ expected by the strict null (log)",
        scale=alt.Scale(type="log", domain=[1 / top, 1, top], range=_DIVERGING, interpolate="lab"),
        legend=alt.Legend(**_LEGEND, values=ticks),
    )
    tooltip = [
        alt.Tooltip("a:N", title="mask"),
        alt.Tooltip("b:N", title="and"),
        alt.Tooltip("shared:Q", title="shared weights", format=","),
        alt.Tooltip("expected:Q", title="expected (rows × columns)", format=",.1f"),
        alt.Tooltip("ratio:Q", title="times chance", format=".2f"),
        alt.Tooltip("interval:N", title="95% interval, over matrices"),
        alt.Tooltip("p:N", title="p of as many by chance"),
        alt.Tooltip("jaccard:Q", title="Jaccard", format=".4f"),
    ]
    return _matrix(shaded, x, y, color, _dark("log(datum.shade)", math.log(top)), tooltip)


def _dark(value: str, top: float) -> str:
    """Vega expression for a cell whose colour, on a scale from −top to top, is dark."""
    return f"abs({value}) > {_DARK_FROM * top:.6g}"


def _matrix(
    data: pl.DataFrame,
    x: Axis,
    y: Axis,
    color: alt.Color,
    white: str,
    tooltip: list[alt.Tooltip],
) -> alt.LayerChart:
    """A heatmap with `text` written in its cells, in white where the expression `white` holds."""
    base = alt.Chart(data).encode(
        x=alt.X(
            f"{x.field}:N",
            title=x.title,
            scale=alt.Scale(domain=list(x.names)),
            axis=alt.Axis(labelAngle=-40, ticks=False, domain=False),
        ),
        y=alt.Y(
            f"{y.field}:N",
            title=y.title,
            scale=alt.Scale(domain=list(y.names)),
            axis=alt.Axis(ticks=False, domain=False, labelPadding=6),
        ),
        tooltip=tooltip,
    )
    cells = base.mark_rect(stroke="#fff").encode(color=color)
    text = base.mark_text(fontSize=11).encode(
        text="text:N",
        color=alt.condition(white, alt.value("#fff"), alt.value("#111")),
    )
    return alt.LayerChart(layer=[cells, text], height=_ROW * len(y.names))


def where_height(modules: int) -> int:
    """The height of the layer and module heatmap in pixels, with its legend and its menu."""
    return _WIDE_ROW * modules + 130


def where_chart(data: pl.DataFrame, modules: Sequence[str], masks: Sequence[str]) -> Chart:
    """Heatmap of density by layer and module, with a menu of masks, the first one shown.

    Args:
        data: mask, layer, module, weights, candidates, density (weights per million).
        modules: along y, in order.
        masks: in the menu, in order.
    """
    menu = alt.binding_select(options=list(masks), name="mask ")
    color = alt.Color(
        "density:Q",
        title="weights in the mask per million",
        scale=alt.Scale(type="sqrt", range=_BLUES, domainMin=0),
        legend=alt.Legend(**_LEGEND, tickCount=4),
    )
    tooltip = [
        alt.Tooltip("module:N"),
        alt.Tooltip("layer:O"),
        alt.Tooltip("weights:Q", title="weights in the mask", format=","),
        alt.Tooltip("candidates:Q", title="of weights in this matrix", format=","),
        alt.Tooltip("density:Q", title="per million", format=",.1f"),
    ]
    layer = alt.X(
        "layer:O",
        title="layer (0 is next to the input)",
        axis=alt.Axis(labelOverlap=True, labelAngle=0),
    )
    chart: alt.Chart = (
        alt.Chart(data)
        .mark_rect(stroke="#fff", strokeWidth=0.5)
        .encode(
            x=layer,
            y=alt.Y("module:N", title=None, sort=list(modules)),
            color=color,
            tooltip=tooltip,
        )
        .transform_filter("datum.mask === mask")
        .add_params(alt.param(name="mask", value=masks[0], bind=menu))
        .properties(height=_WIDE_ROW * len(modules))
    )
    return chart
