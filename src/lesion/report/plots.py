"""Charts of points and lines as Vega-Lite: the curve, the sweep, the dissociation."""

import math
from collections.abc import Sequence
from typing import Any

import altair as alt
import polars as pl

from lesion.report.charts import Chart

_HEIGHT = 320
_TICKS = (-3.0, -1.0, -0.3, -0.1, -0.03, 0.0, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
_HUES = ("#d55e00", "#0072b2", "#009e73", "#b0578d", "#333333", "#8a6d00", "#6a51a3")
"""Okabe and Ito's colours (2008), which colour-blind readers tell apart; those too light for white
paper are darker here. Shapes differ as well, in another rhythm."""
_PLAIN = "#555555"
"""The intact model, with which the others are compared."""
_SHAPES = (
    *("circle", "square", "diamond", "triangle-up", "cross"),
    *("triangle-down", "triangle-left", "triangle-right"),
)
_ABILITY_ROW = 20


def _added(data: pl.DataFrame, field: str, title: str, constant: float) -> Any:
    """An axis that is linear up to a constant and logarithmic beyond: losses span four decades."""
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
    """Pixels that the sweep takes with its legend and its axis."""
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
    """The diagonal, as far as both axes reach, so that it widens neither."""
    end = max(0.0, float(data.select(pl.min_horizontal(pl.max("harm", "benign"))).item()))
    ends = pl.DataFrame({"harm": [0.0, end], "benign": [0.0, end]})
    line: alt.Chart = alt.Chart(ends).mark_line(strokeWidth=1, color="#888").encode(x=x, y=y)
    return line


def _points(data: pl.DataFrame, x: Any, y: Any) -> list[alt.Chart]:
    """Every (p, q), and a line through those of the same p."""
    order = list(dict.fromkeys(data["preserved"]))
    viridis = alt.SchemeParams(name="viridis", extent=[0, 0.8])  # Its yellow is lost on white.
    # Alike in both channels, or there would be two legends.
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
        alt.Tooltip("pareto:N", title="beaten by none on both"),
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
    """Pixels that the trade-off takes with its legend, two names a line, and its axis."""
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
    legend: dict[str, Any] = {
        "title": "mask",
        "legend": alt.Legend(orient="top", columns=2, labelLimit=150),
    }
    scale: dict[str, Any] = {"domain": list(families)}
    color = alt.Color("family:N", scale=alt.Scale(**scale, range=_HUES), **legend)
    shape = alt.Shape("family:N", scale=alt.Scale(**scale, range=_SHAPES), **legend)
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


def dissociation_height(abilities: int, variants: int) -> int:
    """Pixels that the dissociation takes with its legend and its axis."""
    return _ABILITY_ROW * abilities * variants + 130


def dissociation_chart(
    data: pl.DataFrame, abilities: Sequence[str], variants: Sequence[str], chance: str
) -> Chart:
    """Points with intervals: abilities down, a line of each for every variant.

    Args:
        data: ability, variant, value, low, high (0 to 1), unit (what the value is), written, n.
        abilities: in order.
        variants: in order.
        chance: the ability of which ½ is chance.
    """
    scale: dict[str, Any] = {"domain": list(variants)}
    legend: dict[str, Any] = {
        "title": "model",
        "legend": alt.Legend(orient="top", columns=2, labelLimit=150),
    }
    x: dict[str, Any] = {
        "title": ["from 0 to 1: score, AUROC,", "share or likelihood per token"],
        "scale": alt.Scale(domain=[0, 1]),
        "axis": alt.Axis(values=[0, 0.2, 0.4, 0.6, 0.8, 1], format="~g"),
    }
    value = alt.X("value:Q", **x)
    y = alt.Y(
        "ability:N",
        title=None,
        scale=alt.Scale(domain=list(abilities)),
        axis=alt.Axis(
            # Two short lines leave a phone more room than a long one.
            labelExpr="split(datum.label, ', ')",
            ticks=False,
            domain=False,
            labelPadding=6,
        ),
    )
    offset = alt.YOffset("variant:N", scale=alt.Scale(**scale))
    hues = (_PLAIN, *_HUES)
    color = alt.Color("variant:N", scale=alt.Scale(**scale, range=hues), **legend)
    shape = alt.Shape("variant:N", scale=alt.Scale(**scale, range=_SHAPES), **legend)
    tooltip = [
        alt.Tooltip("variant:N", title="model"),
        alt.Tooltip("ability:N"),
        alt.Tooltip("unit:N", title="is"),
        alt.Tooltip("written:N", title="value"),
        alt.Tooltip("n:Q", title="prompts"),
    ]
    base = alt.Chart(data).encode(y=y, yOffset=offset, color=color)
    even = alt.Chart(pl.DataFrame({"ability": [chance], "value": [0.5]}))
    across = _ABILITY_ROW * len(variants)
    layers = [
        even.mark_tick(thickness=1.5, color="#666", bandSize=across).encode(x=value, y=y),
        base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", **x), x2="high:Q"),
        base.mark_point(filled=True, size=80, opacity=1).encode(
            x=value, shape=shape, tooltip=tooltip
        ),
    ]
    return alt.LayerChart(layer=layers, height=across * len(abilities))
