"""Charts of trainings as Vega-Lite: losses, stages, and recovery."""

from collections.abc import Sequence
from typing import Any

import altair as alt
import polars as pl

from lesion.report.figures.charts import Axis, Chart
from lesion.report.figures.plots import HUES, PLAIN, Sides, dots_chart, named_marks

_HEIGHT = 280
_DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3])
"""Dashes vary with a different period from the colours, so that many models are distinct."""


def plot_height(names: int) -> int:
    """The height of lines in pixels, with their axis and a legend of two names per line."""
    return _HEIGHT + 80 + 18 * -(-names // 2)


def training_chart(data: pl.DataFrame, models: Sequence[str]) -> Chart:
    """Lines of loss against examples.

    Args:
        data: model, base, method, examples (thousands seen), step, loss (nats).
        models: in the order of the legend.
    """
    about: dict[str, Any] = {
        "title": "model",
        "legend": alt.Legend(orient="top", columns=2, labelLimit=150),
    }
    tooltip = [
        alt.Tooltip("model:N"),
        alt.Tooltip("base:N", title="trained from"),
        alt.Tooltip("method:N"),
        alt.Tooltip("step:Q", title="steps"),
        alt.Tooltip("examples:Q", title="examples seen", format=","),
        alt.Tooltip("loss:Q", format=".3f"),
    ]
    chart: alt.Chart = (
        alt.Chart(data)
        .mark_line(strokeWidth=1.8)
        .encode(
            x=alt.X("examples:Q", title="examples seen", axis=alt.Axis(format=",d", tickCount=6)),
            y=alt.Y("loss:Q", title="loss (nats per token; dpo: per pair)"),
            color=alt.Color("model:N", scale=alt.Scale(domain=list(models), range=HUES), **about),
            strokeDash=alt.StrokeDash(
                "model:N", scale=alt.Scale(domain=list(models), range=_DASHES), **about
            ),
            order="step:Q",
            tooltip=tooltip,
        )
        .properties(height=_HEIGHT)
    )
    return chart


def stages_chart(data: pl.DataFrame, stages: Sequence[str], variants: Sequence[str]) -> Chart:
    """Points with intervals: stages down, a line of each for every kind of mask.

    Args:
        data: stage (with its place), variant, value, low, high (nats per token), written, seeds, n.
        stages: in their order.
        variants: in the order of the legend.
    """
    x: Sides = {
        "title": "separability: added harm NLL (nats per token)",
        "axis": alt.Axis(tickCount=6, format="~g"),
    }
    about = {"seeds": "trainings"}
    return dots_chart(
        data, Axis("stage", None, stages), Axis("variant", "mask", variants), x, about
    )


def misaligned_chart(data: pl.DataFrame, arms: Sequence[str], roles: Sequence[str]) -> Chart:
    """Points with intervals: arms down, in each broad and narrow questions.

    Args:
        data: arm, questions (broad, narrow), value, low, high (0 to 1), written, seeds, n.
        arms: in order.
        roles: in the order of the legend.
    """
    x: Sides = {
        "title": "answers judged misaligned (share)",
        "scale": alt.Scale(domain=[0, 1]),
        "axis": alt.Axis(values=[0, 0.2, 0.4, 0.6, 0.8, 1], format=".0%"),
    }
    about = {"seeds": "trainings"}
    return dots_chart(
        data, Axis("arm", None, arms), Axis("questions", "questions", roles), x, about
    )


def recovery_chart(data: pl.DataFrame, arms: Sequence[str]) -> Chart:
    """Lines with intervals of harm NLL against steps of training.

    Args:
        data: arm, step, examples, value, low, high (nats per token), written, seeds, n.
        arms: in the order of the legend, the unmodified one first.
    """
    steps = sorted({*data["step"]})
    first = next((step for step in steps if step > 0), 1)
    x = alt.X(
        "step:Q",
        title="optimiser steps",
        # Half of the loss is recovered within the first few steps, and step 0 must be visible too.
        scale=alt.Scale(type="symlog", constant=first, nice=False, padding=8),
        axis=alt.Axis(values=steps, labelOverlap=True, format=",d"),
    )
    y: Sides = {
        "title": "harm NLL (nats per token)",
        "scale": alt.Scale(zero=False, padding=8),
    }
    color, shape = named_marks(Axis("arm", "arm", arms), (PLAIN, *HUES))
    tooltip = [
        alt.Tooltip("arm:N"),
        alt.Tooltip("step:Q", title="steps"),
        alt.Tooltip("examples:Q", title="examples seen", format=","),
        alt.Tooltip("written:N", title="harm NLL"),
        alt.Tooltip("seeds:Q", title="trainings"),
        alt.Tooltip("n:Q", title="prompts"),
    ]
    base = alt.Chart(data).encode(x=x, color=color)
    layers = [
        base.mark_rule(strokeWidth=1).encode(y=alt.Y("low:Q", **y), y2="high:Q"),
        base.mark_line(strokeWidth=1.5).encode(y=alt.Y("value:Q", **y), order="step:Q"),
        base.mark_point(filled=True, size=70, opacity=1).encode(
            y=alt.Y("value:Q", **y), shape=shape, tooltip=tooltip
        ),
    ]
    return alt.LayerChart(layer=layers, height=_HEIGHT)
