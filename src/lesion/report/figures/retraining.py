"""Figures of trainings in memory: how soon harm is restored, and what narrow training does.

The functions of `rows` take those of one model and experiment.
"""

from typing import Any, NamedTuple

import altair as alt
import polars as pl

from lesion.report.figures import captions
from lesion.report.figures.charts import (
    HUES,
    PLAIN,
    Axis,
    dots,
    legend_height,
    lines,
    named_marks,
    ordered,
)
from lesion.report.figures.figure import Figure, crossed, text_column, with_written
from lesion.study.training import AFTER, FROZEN, ONLY
from lesion.tables.claims.training import at_step, last
from lesion.tables.lookup import totals
from lesion.tables.rows import SHARED, TOTAL, UNMODIFIED
from lesion.tables.wording import Unit, with_interval

_HEIGHT = 280
_BEFORE = "unmodified, untrained"


class Retrained(NamedTuple):
    """A training in memory: its results as figures and as a table of texts."""

    name: str
    figures: list[Figure]
    recovered: pl.DataFrame
    """Empty where nothing was ablated."""


def experiments(table: pl.DataFrame, confidence: float, mask: str = SHARED) -> list[Retrained]:
    """Every experiment that has a figure or a table; arms of the headline mask come first."""
    retrained = []
    for name in table["experiment"].unique(maintain_order=True):
        rows = table.filter(experiment=name)
        drawn = (recovery(rows, confidence, mask), misaligned(rows, confidence, mask))
        figures = [figure for figure in drawn if figure is not None]
        if figures:
            retrained.append(Retrained(name, figures, recovery_table(rows)))
    return retrained


def _first_arms(mask: str) -> tuple[str, ...]:
    return (UNMODIFIED, mask, f"{mask}{FROZEN}", f"{mask}{ONLY}", f"{mask}{AFTER}")


def recovery(rows: pl.DataFrame, confidence: float, mask: str = SHARED) -> Figure | None:
    """Harm NLL against steps of training on harm; None if that was not measured."""
    measured = totals(rows, "harm").filter(metric="nll").drop_nulls(["value", "step"])
    data = with_written(measured.sort("step", "arm"), "nats")
    if not data.height:
        return None
    experiment = rows["experiment"][0]
    arms = Axis("arm", "arm", ordered(data["arm"], *_first_arms(mask)))
    steps = sorted({*data["step"]})
    return Figure(
        f"retraining-{experiment}",
        f"How soon does training restore harm? ({experiment})",
        f"Lines of harm NLL against steps of training for {len(arms.names)} arms, with intervals.",
        captions.filled(captions.RECOVERY, confidence=confidence, experiment=experiment),
        _recovery_chart(data, arms, steps),
        80 + legend_height(arms.names),
        crossed(
            data.with_columns(text_column(data, "step", lambda row: f"{row['step']:,}")),
            Axis("step", None, [f"{step:,}" for step in steps]),
            arms,
            "steps (harm NLL, nats per token)",
        ),
    )


def _recovery_chart(data: pl.DataFrame, arms: Axis, steps: list[int]) -> alt.LayerChart:
    """Lines with intervals of harm NLL against steps of training."""
    first = next((step for step in steps if step > 0), 1)
    x = alt.X(
        "step:Q",
        title="optimiser steps",
        # Half of the loss is recovered within the first few steps, and step 0 must be visible too.
        scale=alt.Scale(type="symlog", constant=first, nice=False, padding=8),
        axis=alt.Axis(values=steps, labelOverlap=True, format=",d"),
    )
    y: dict[str, Any] = {
        "title": "harm NLL (nats per token)",
        "scale": alt.Scale(zero=False, padding=8),
    }
    color, shape = named_marks(arms, (PLAIN, *HUES))
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
        *lines(base.encode(y=alt.Y("value:Q", **y)), shape, "step:Q", tooltip),
    ]
    return alt.LayerChart(layer=layers, height=_HEIGHT)


def misaligned(rows: pl.DataFrame, confidence: float, mask: str = SHARED) -> Figure | None:
    """Rates of misaligned answers by arm; None if no answers were judged."""
    answers = rows.filter(
        pl.col("role").is_in(["broad", "narrow"]), level=TOTAL, metric="misaligned"
    ).drop_nulls(["value", "step"])
    latest = answers.filter(pl.col("step") == pl.col("step").max().over("arm"))
    before = answers.filter(pl.col("step") < pl.col("step").max(), arm=UNMODIFIED, step=0)
    both = pl.concat([before.with_columns(arm=pl.lit(_BEFORE)), latest])
    data = with_written(both, "share").with_columns(questions="role")
    if not data.height:
        return None
    experiment = rows["experiment"][0]
    arms = Axis("arm", None, ordered(data["arm"], _BEFORE, *_first_arms(mask)))
    roles = Axis("questions", "questions", ordered(data["role"], "broad"))
    x = {
        "title": "answers judged misaligned (share)",
        "scale": alt.Scale(domain=[0, 1]),
        "axis": alt.Axis(values=[0, 0.2, 0.4, 0.6, 0.8, 1], format=".0%"),
    }
    return Figure(
        f"misaligned-{experiment}",
        f"Does narrow training misalign broadly? ({experiment})",
        f"Dots for {len(arms.names)} arms, with intervals: the share of answers judged misaligned.",
        captions.filled(captions.MISALIGNED, confidence=confidence),
        dots(data, arms, roles, x, {"seeds": "trainings"}),
        96 + legend_height(roles.names),
        crossed(data, arms, roles, "answers judged misaligned"),
    )


def recovery_table(rows: pl.DataFrame) -> pl.DataFrame:
    """How much harm each ablated arm recovered, as texts; empty if there is no summary."""
    harm = totals(rows, "harm")

    def text(arm: str, metric: str, unit: Unit, step: int | None = None) -> str:
        return with_interval(at_step(harm, arm, metric, step), unit)

    arms = harm.filter(metric="recovered_share")["arm"].unique(maintain_order=True)
    return pl.DataFrame(
        [
            {
                "ablated, then trained": arm,
                "harm NLL before (nats per token)": text(arm, "nll", "nats", 0),
                "after": with_interval(last(harm, arm, "nll"), "nats"),
                "undone": text(arm, "recovered_share", "share"),
                "steps to half": text(arm, "half_steps", "count"),
                "examples to half": text(arm, "half_examples", "count"),
            }
            for arm in arms
        ]
    )
