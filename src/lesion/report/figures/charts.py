"""The shapes of charts as Vega-Lite, made by Altair: matrices, points with intervals, lines.

Every name in a chart is given, because Altair would otherwise count them up over the process and
the same tables would not make the same bytes.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import altair as alt
import polars as pl

from lesion.tables.rows import RANDOM

Chart = alt.LayerChart | alt.Chart

_DIVERGING = ["#3f1a6b", "#f5f5f5", "#7f3b08"]
_DARK_FROM = 0.66
"""A cell this far along either half of the scale is half as light as white: white text on it is as
legible as black text, also when a dark page inverts the chart."""
HUES = ("#d55e00", "#0072b2", "#009e73", "#b0578d", "#333333", "#8a6d00", "#6a51a3")
"""Okabe and Ito's colours (2008), which colour-blind readers can distinguish; those too light for a
white ground are darker here. Shapes vary too, with a different period."""
PLAIN = "#555555"
"""The unmodified model, which the others are compared with."""
_SHAPES = (
    *("circle", "square", "diamond", "triangle-up", "cross"),
    *("triangle-down", "triangle-left", "triangle-right"),
)

_ROW = 32
_DOT_ROW = 20
LEGEND: dict[str, Any] = {"orient": "top", "direction": "horizontal", "gradientLength": 220}
_TEXT = {
    "labelFontSize": 12,
    "titleFontSize": 12,
    "titleFontWeight": "normal",
    "labelColor": "#222",
    "titleColor": "#222",
}

CONFIG: dict[str, Any] = {
    "background": "transparent",
    "font": "system-ui, 'Liberation Sans', Arial, sans-serif",
    "view": {"stroke": None},
    "axis": {
        **_TEXT,
        "titlePadding": 8,
        "labelLimit": 130,
        "domainColor": "#666",
        "tickColor": "#666",
        "gridColor": "#ddd",
    },
    "legend": {**_TEXT, "titleLimit": 320},
}
"""The style of every chart: dark on a transparent ground. A dark page inverts it."""


class Axis(NamedTuple):
    """A side or a legend of a chart: the field that holds names, its title, the names in order."""

    field: str
    title: str | None
    names: Sequence[str]


def apart(*groups: Sequence[str]) -> list[str]:
    """The groups' names in one line, with an empty cell between two groups.

    Each empty cell needs its own name, so the gaps are of different lengths.
    """
    names: list[str] = []
    for number, group in enumerate(filter(None, groups)):
        names += [" " * number] * bool(number) + list(group)
    return names


def ordered(names: Iterable[str], *first: str) -> list[str]:
    """The distinct names: those of `first`, the others by name, and the random control last."""
    known = set(names)
    others = sorted(known - {*first, RANDOM})
    return [name for name in (*first, *others, RANDOM) if name in known]


def matrix(
    data: pl.DataFrame,
    x: Axis,
    y: Axis,
    value: tuple[str, str],
    top: float,
    tooltip: list[alt.Tooltip],
    ticks: Sequence[float] = (),
) -> Chart:
    """A heatmap with texts in its cells.

    Args:
        data: the fields of both sides, of the value and of the tooltip, and `text`.
        x: the columns.
        y: the rows.
        value: the field of the shade, and its title.
        top: the end of the scale: from −top to top or, on a log scale, from 1/top to top.
        tooltip: of a cell.
        ticks: of the legend of a log scale; the scale is linear if there are none.
    """
    field, title = value
    base = alt.Chart(data).encode(
        x=_side(alt.X, x, labelAngle=-40), y=_side(alt.Y, y, labelPadding=6), tooltip=tooltip
    )
    if ticks:
        scale: dict[str, Any] = {"type": "log", "domain": [1 / top, 1, top]}
        legend, shade, darkest = {**LEGEND, "values": ticks}, f"log(datum.{field})", math.log(top)
    else:
        scale, legend = {"domain": [-top, 0, top]}, LEGEND
        shade, darkest = f"datum.{field}", top
    color = alt.Color(
        f"{field}:Q",
        title=title,
        scale=alt.Scale(**scale, range=_DIVERGING, interpolate="lab"),
        legend=alt.Legend(**legend),
    )
    is_dark = f"abs({shade}) > {_DARK_FROM * darkest:.6g}"
    text_color = alt.condition(is_dark, alt.value("#fff"), alt.value("#111"))
    layers = [
        base.mark_rect(stroke="#fff").encode(color=color),
        base.mark_text(fontSize=11).encode(text="text:N", color=text_color),
    ]
    return alt.LayerChart(layer=layers, height=_ROW * len(y.names))


def _side(channel: Any, axis: Axis, **style: Any) -> Any:
    """A side of a chart that has names in place of numbers."""
    return channel(
        f"{axis.field}:N",
        title=axis.title,
        scale=alt.Scale(domain=list(axis.names)),
        axis=alt.Axis(ticks=False, domain=False, **style),
    )


def matrix_width(columns: int) -> int:
    """The width in pixels below which the values of a matrix do not fit into its cells."""
    return 44 * columns + 150


def dots(
    data: pl.DataFrame,
    rows: Axis,
    groups: Axis,
    x: Mapping[str, Any],
    about: Mapping[str, str],
    hues: Sequence[str] = HUES,
    chance: str = "",
) -> Chart:
    """Points with intervals: rows down, and in each a line for every group.

    Args:
        data: the fields of rows and groups, value, low, high, written, n, and those of `about`.
        rows: in order; `, ` breaks a label in two lines.
        groups: in the order of the legend, whose title is the axis's.
        x: title, scale and axis of the value.
        about: further fields for the tooltip, with their titles.
        hues: of the groups.
        chance: the row in which ½ is chance, and is marked.
    """
    across = _DOT_ROW * len(groups.names)
    # Two short lines leave more room on a phone than one long line.
    y = _side(alt.Y, rows, labelExpr="split(datum.label, ', ')", labelPadding=6)
    color, shape = named_marks(groups, hues)
    offset = alt.YOffset(f"{groups.field}:N", scale=alt.Scale(domain=list(groups.names)))
    tooltip = [
        alt.Tooltip(f"{groups.field}:N", title=groups.title),
        alt.Tooltip(f"{rows.field}:N"),
        *(alt.Tooltip(f"{field}:N", title=title) for field, title in about.items()),
        alt.Tooltip("written:N", title="value"),
        alt.Tooltip("n:Q", title="prompts"),
    ]
    value = alt.X("value:Q", **x)
    base = alt.Chart(data).encode(y=y, yOffset=offset, color=color)
    layers = [
        base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", **x), x2="high:Q"),
        base.mark_point(filled=True, size=80, opacity=1).encode(
            x=value, shape=shape, tooltip=tooltip
        ),
    ]
    if chance:
        even = alt.Chart(pl.DataFrame({rows.field: [chance], "value": [0.5]}))
        tick = even.mark_tick(thickness=1.5, color="#666", bandSize=across)
        layers.insert(0, tick.encode(x=value, y=y))
    return alt.LayerChart(layer=layers, height=across * len(rows.names))


def stacked_bars(
    data: pl.DataFrame, rows: Axis, parts: Axis, title: str, hues: Sequence[str]
) -> Chart:
    """Horizontal bars of shares that add up to one.

    Args:
        data: the fields of rows and parts, `start` and `end` of each part, written, n.
        rows: in order; of a name, the words after `|` are shown.
        parts: in the order of the legend, whose title is the axis's.
        title: of the horizontal axis.
        hues: of the parts.
    """
    color, _ = named_marks(parts, hues)
    bars = alt.Chart(data).mark_bar(stroke="#fff", strokeWidth=0.5)
    shares = bars.encode(
        y=_side(alt.Y, rows, labelExpr="split(datum.label, '|')[1]", labelPadding=6),
        x=alt.X(
            "start:Q",
            title=title,
            scale=alt.Scale(domain=[0, 1]),
            axis=alt.Axis(format="%", values=[0, 0.25, 0.5, 0.75, 1]),
        ),
        x2="end:Q",
        color=color,
        tooltip=[
            alt.Tooltip(f"{parts.field}:N", title=parts.title),
            alt.Tooltip("written:N", title="share"),
            alt.Tooltip("n:Q", title="prompts"),
        ],
    )
    return alt.LayerChart(layer=[shares], height=_DOT_ROW * len(rows.names))


def lines(
    base: alt.Chart, shape: alt.Shape, order: str, tooltip: list[alt.Tooltip], stroke: float = 1.5
) -> list[Chart]:
    """A line through points in the order of a field, such as `weights:Q`, and the points.

    `base` has the data with both sides and the colour.
    """
    return [
        base.mark_line(strokeWidth=stroke).encode(order=order),
        base.mark_point(filled=True, size=70, opacity=1).encode(shape=shape, tooltip=tooltip),
    ]


def named_marks(groups: Axis, hues: Sequence[str] = HUES) -> tuple[alt.Color, alt.Shape]:
    """A hue and a shape for each name, which share one legend of two names per line."""
    legend: dict[str, Any] = {
        "title": groups.title,
        "legend": alt.Legend(orient="top", columns=2, labelLimit=150),
    }
    field, names = f"{groups.field}:N", list(groups.names)
    return (
        alt.Color(field, scale=alt.Scale(domain=names, range=hues), **legend),
        alt.Shape(field, scale=alt.Scale(domain=names, range=_SHAPES), **legend),
    )


def legend_height(names: Sequence[str]) -> int:
    """The height in pixels of the names in a legend of two names per line."""
    return 18 * math.ceil(len(names) / 2)
