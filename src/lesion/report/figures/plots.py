"""Charts of points and lines as Vega-Lite: the curve, the sweep, points with intervals."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import polars as pl

from lesion.report.figures.charts import Axis, Chart

Sides = dict[str, Any]
"""Title, scale and axis of a side of a chart."""
Tooltips = Mapping[str, str]
"""Fields of a tooltip and their titles."""

_HEIGHT = 320
_TICKS = (-3.0, -1.0, -0.3, -0.1, -0.03, 0.0, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
HUES = ("#d55e00", "#0072b2", "#009e73", "#b0578d", "#333333", "#8a6d00", "#6a51a3")
"""Okabe and Ito's colours (2008), which colour-blind readers can distinguish; those too light for a
white ground are darker here. Shapes vary too, with a different period."""
PLAIN = "#555555"
"""The unmodified model, which the others are compared with."""
SHAPES = (
    *("circle", "square", "diamond", "triangle-up", "cross"),
    *("triangle-down", "triangle-left", "triangle-right"),
)
_DOT_ROW = 20


def _added(data: pl.DataFrame, field: str, title: str, constant: float) -> Any:
    """An axis, linear up to a constant and logarithmic beyond, since losses span four decades."""
    low, high = data.select(pl.min(field), pl.max(field).alias("high")).row(0)
    ticks = [
        tick
        for tick in _TICKS
        if min(low, 0) <= tick <= max(high, constant) and (abs(tick) >= constant or tick == 0)
    ]
    channel = alt.X if field == "benign" else alt.Y
    return channel(
        f"{field}:Q",
        title=title,
        scale=alt.Scale(type="symlog", constant=constant, nice=False, padding=12),
        axis=alt.Axis(values=ticks, format="~g"),
    )


def _sides(data: pl.DataFrame, constant: float) -> tuple[Any, Any]:
    """The axes of added benign and added harm NLL."""
    return (
        _added(data, "benign", "added benign NLL (nats per token)", constant),
        _added(data, "harm", "added harm NLL (nats per token)", constant),
    )


def sweep_height() -> int:
    """The height of the sweep in pixels, with its legend and its axis."""
    return _HEIGHT + 100


def sweep_chart(data: pl.DataFrame, limit: float | None) -> Chart:
    """Scatter of added harm NLL against added benign NLL.

    Args:
        data: p, q, weights, chosen, pareto (no other is better on both sides), harm and benign
            (added nats per token), preserved (p as text).
        limit: on added benign NLL, nats per token.
    """
    x, y = _sides(data, 0.1)
    layers = [_equal_loss(data, x, y), *_points(data, x, y), *_ringed(data, x, y)]
    if limit is not None:
        rule = alt.Chart(pl.DataFrame({"benign": [limit]})).mark_rule(
            strokeDash=[5, 4], color="#b35806", strokeWidth=1.5
        )
        layers.append(rule.encode(x=x))
    return alt.LayerChart(layer=layers, height=_HEIGHT)


def _equal_loss(data: pl.DataFrame, x: Any, y: Any) -> alt.Chart:
    """The diagonal within the range of both axes, so that it extends neither."""
    end = max(0.0, float(data.select(pl.min_horizontal(pl.max("harm", "benign"))).item()))
    ends = pl.DataFrame({"harm": [0.0, end], "benign": [0.0, end]})
    line: alt.Chart = alt.Chart(ends).mark_line(strokeWidth=1, color="#888").encode(x=x, y=y)
    return line


def _points(data: pl.DataFrame, x: Any, y: Any) -> list[alt.Chart]:
    """Every (p, q), and a line through the points of each p."""
    order = list(dict.fromkeys(data["preserved"]))
    viridis = alt.SchemeParams(
        name="viridis", extent=[0, 0.8]
    )  # The yellow end is invisible on white.
    # The titles must be equal in both channels, or there would be two legends.
    common: dict[str, Any] = {
        "title": "p (preserved)",
        "legend": alt.Legend(orient="top", columns=4),
    }
    color = alt.Color("preserved:N", scale=alt.Scale(domain=order, scheme=viridis), **common)
    shape = alt.Shape("preserved:N", scale=alt.Scale(domain=order), **common)
    tooltip = [
        alt.Tooltip("p:Q", format="g"),
        alt.Tooltip("q:Q", format="g"),
        alt.Tooltip("weights:Q", title="weights in the shared mask", format=","),
        alt.Tooltip("harm:Q", title="added harm NLL", format=".3f"),
        alt.Tooltip("benign:Q", title="added benign NLL", format=".3f"),
        alt.Tooltip("pareto:N", title="Pareto-optimal"),
    ]
    base = alt.Chart(data).encode(x=x, y=y, color=color)
    return [
        base.mark_line(strokeWidth=1).encode(order="q:Q"),
        base.mark_point(filled=True, size=70, opacity=1).encode(shape=shape, tooltip=tooltip),
    ]


def _ringed(data: pl.DataFrame, x: Any, y: Any) -> list[alt.Chart]:
    if not data["chosen"].any():
        return []  # Vega warns of a layer without points.
    chosen = alt.Chart(data).transform_filter("datum.chosen").encode(x=x, y=y)
    word = chosen.mark_text(dx=15, align="left", fontSize=12, color="#111")
    return [
        chosen.mark_point(size=300, strokeWidth=2.5, color="#111"),
        word.encode(text=alt.value("chosen")),
    ]


def tradeoff_height(families: int) -> int:
    """The height of the trade-off in pixels, with its axis and a legend of two names per line."""
    return _HEIGHT + 80 + 18 * math.ceil(families / 2)


def tradeoff_chart(data: pl.DataFrame, families: Sequence[str], half: float) -> Chart:
    """Lines of added harm NLL against added benign NLL, one a family, along its sizes.

    Args:
        data: family, weights, share (of the chosen q), seeds, harm and benign (added nats per
            token), harm_interval and benign_interval, chosen.
        families: in the order of the legend.
        half: added harm NLL that halves the likelihood of a token.
    """
    x, y = _sides(data, 0.03)
    color, shape = named_marks(Axis("family", "mask", families))
    tooltip = [
        alt.Tooltip("family:N", title="mask"),
        alt.Tooltip("weights:Q", title="weights zeroed", format=","),
        alt.Tooltip("share:Q", title="× the chosen q", format="~g"),
        alt.Tooltip("seeds:Q", title="draws"),
        alt.Tooltip("harm:Q", title="added harm NLL", format=".3f"),
        alt.Tooltip("harm_interval:N", title="its interval"),
        alt.Tooltip("benign:Q", title="added benign NLL", format=".3f"),
        alt.Tooltip("benign_interval:N", title="its interval"),
    ]
    base = alt.Chart(data).encode(x=x, y=y, color=color)
    rule = alt.Chart(pl.DataFrame({"harm": [half]})).mark_rule(
        strokeDash=[5, 4], color="#666", strokeWidth=1
    )
    layers = [
        _equal_loss(data, x, y),
        rule.encode(y=y),
        base.mark_line(strokeWidth=1.5).encode(order="weights:Q"),
        base.mark_point(filled=True, size=70, opacity=1).encode(shape=shape, tooltip=tooltip),
        *_ringed(data, x, y),
    ]
    return alt.LayerChart(layer=layers, height=_HEIGHT)


def judged_chart(data: pl.DataFrame, families: Sequence[str], unmodified: float) -> Chart:
    """Lines of the share of answers judged harmful against added benign NLL, one a family.

    Args:
        data: family, weights, share (of the chosen q), benign (added nats per token), value, low
            and high (shares), judged (as text), chosen.
        families: in the order of the legend; the first is drawn with its intervals.
        unmodified: the unmodified model's share.
    """
    x = _added(data, "benign", "added benign NLL (nats per token)", 0.03)
    y: Sides = {
        "title": "answers judged harmful",
        "scale": alt.Scale(domain=[0, 1]),
        "axis": alt.Axis(format="~%"),
    }
    color, shape = named_marks(Axis("family", "mask", families))
    tooltip = [
        alt.Tooltip("family:N", title="mask"),
        alt.Tooltip("weights:Q", title="weights zeroed", format=","),
        alt.Tooltip("share:Q", title="× the chosen q", format="~g"),
        alt.Tooltip("judged:N", title="judged harmful"),
        alt.Tooltip("benign:Q", title="added benign NLL", format=".3f"),
    ]
    base = alt.Chart(data).encode(x=x, color=color)
    # Only one family has bars, since those of all families would overlap.
    sure = alt.Chart(data.filter(family=families[0])).mark_rule(strokeWidth=1, color=HUES[0])
    levels = alt.Chart(pl.DataFrame({"value": [unmodified, unmodified / 2]})).mark_rule(
        strokeDash=[5, 4], color="#666", strokeWidth=1
    )
    points = base.mark_point(filled=True, size=70, opacity=1)
    layers = [
        levels.encode(y=alt.Y("value:Q", **y)),
        sure.encode(x=x, y=alt.Y("low:Q", **y), y2="high:Q"),
        base.mark_line(strokeWidth=1.5).encode(y=alt.Y("value:Q", **y), order="weights:Q"),
        points.encode(y=alt.Y("value:Q", **y), shape=shape, tooltip=tooltip),
        *_ringed(data, x, alt.Y("value:Q", **y)),
    ]
    return alt.LayerChart(layer=layers, height=_HEIGHT)


def dots_height(rows: int, groups: int) -> int:
    """The height of points with intervals in pixels, with their legend and axis."""
    return _DOT_ROW * rows * groups + 96 + 18 * math.ceil(groups / 2)


def dots_chart(data: pl.DataFrame, rows: Axis, groups: Axis, x: Sides, about: Tooltips) -> Chart:
    """Points with intervals: rows down, and in each a line for every group.

    Args:
        data: the fields of rows and groups, value, low, high, written, n, and those of `about`.
        rows: in order; `, ` breaks a label in two lines.
        groups: in the order of the legend, whose title is the axis's.
        x: title, scale and axis of the value.
        about: further fields for the tooltip, with their titles.
    """
    across = _DOT_ROW * len(groups.names)
    layers = _dots(data, rows, groups, x, about, HUES)
    return alt.LayerChart(layer=layers, height=across * len(rows.names))


def dissociation_chart(data: pl.DataFrame, rows: Axis, groups: Axis, chance: str) -> Chart:
    """Points with intervals from 0 to 1: abilities down, a line of each for every variant.

    Args:
        data: ability, variant, value, low, high (0 to 1), unit (what the value is), written, n.
        rows: abilities.
        groups: variants, the unmodified one first.
        chance: the ability of which ½ is chance.
    """
    x: Sides = {
        "title": ["from 0 to 1: score, AUROC,", "share or likelihood per token"],
        "scale": alt.Scale(domain=[0, 1]),
        "axis": alt.Axis(values=[0, 0.2, 0.4, 0.6, 0.8, 1], format="~g"),
    }
    across = _DOT_ROW * len(groups.names)
    even = alt.Chart(pl.DataFrame({"ability": [chance], "value": [0.5]}))
    tick = even.mark_tick(thickness=1.5, color="#666", bandSize=across).encode(
        x=alt.X("value:Q", **x), y=_down(rows)
    )
    layers = [tick, *_dots(data, rows, groups, x, {"unit": "is"}, (PLAIN, *HUES))]
    return alt.LayerChart(layer=layers, height=across * len(rows.names))


def _down(rows: Axis) -> alt.Y:
    return alt.Y(
        f"{rows.field}:N",
        title=rows.title,
        scale=alt.Scale(domain=list(rows.names)),
        axis=alt.Axis(
            # Two short lines leave more room on a phone than one long line.
            labelExpr="split(datum.label, ', ')",
            ticks=False,
            domain=False,
            labelPadding=6,
        ),
    )


def _dots(
    data: pl.DataFrame,
    rows: Axis,
    groups: Axis,
    x: Sides,
    about: Tooltips,
    hues: Sequence[str],
) -> list[alt.Chart]:
    color, shape = named_marks(groups, hues)
    offset = alt.YOffset(f"{groups.field}:N", scale=alt.Scale(domain=list(groups.names)))
    tooltip = [
        alt.Tooltip(f"{groups.field}:N", title=groups.title),
        alt.Tooltip(f"{rows.field}:N"),
        *(alt.Tooltip(f"{field}:N", title=title) for field, title in about.items()),
        alt.Tooltip("written:N", title="value"),
        alt.Tooltip("n:Q", title="prompts"),
    ]
    base = alt.Chart(data).encode(y=_down(rows), yOffset=offset, color=color)
    return [
        base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", **x), x2="high:Q"),
        base.mark_point(filled=True, size=80, opacity=1).encode(
            x=alt.X("value:Q", **x), shape=shape, tooltip=tooltip
        ),
    ]


def named_marks(groups: Axis, hues: Sequence[str] = HUES) -> tuple[alt.Color, alt.Shape]:
    """A hue and a shape for each name, which share one legend."""
    legend: dict[str, Any] = {
        "title": groups.title,
        "legend": alt.Legend(orient="top", columns=2, labelLimit=150),
    }
    field, names = f"{groups.field}:N", list(groups.names)
    return (
        alt.Color(field, scale=alt.Scale(domain=names, range=hues), **legend),
        alt.Shape(field, scale=alt.Scale(domain=names, range=SHAPES), **legend),
    )
