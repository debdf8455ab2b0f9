"""Figures of models that were trained here: losses, and the stages of a family."""

from typing import Any

import altair as alt
import polars as pl

from lesion.report.figures import captions
from lesion.report.figures.charts import HUES, Axis, dots, legend_height, ordered
from lesion.report.figures.figure import Figure, with_written
from lesion.tables.rows import SHARED
from lesion.tables.wording import amount

_POINTS = 120
"""Points of a line of losses: more would not be visible and would make the page larger."""
_HEIGHT = 280
_DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3])
"""Dashes vary with a different period from the colours, so that many models are distinct."""


def training(table: pl.DataFrame) -> Figure | None:
    """Loss against examples of every model that was trained; None if none was."""
    models = table["model"].unique(maintain_order=True).to_list()
    if not models:
        return None
    longest = max(table["model"].value_counts()["count"])
    every = -(-longest // _POINTS)
    block = pl.int_range(pl.len()).over("model") // every
    # Means over consecutive blocks of rows, placed at the end of each block.
    data = (
        table.sort("model", "step", maintain_order=True)
        .with_columns(stretch=block)
        .group_by("model", "base", "method", "stretch", maintain_order=True)
        .agg(pl.last("step"), pl.last("examples"), pl.mean("loss").round(4))
        .drop("stretch")
        .drop_nulls("loss")
    )
    numbers = []
    for model in models:
        own = data.filter(model=model)
        first, last = own.row(0, named=True), own.row(-1, named=True)
        numbers.append(
            {
                "model": model,
                "trained from": last["base"],
                "method": last["method"],
                "steps": amount(last["step"], "count"),
                "examples": amount(last["examples"], "count"),
                "first loss": amount(first["loss"], "nats", 3),
                "last loss": amount(last["loss"], "nats", 3),
            }
        )
    return Figure(
        "training",
        "How did the training losses develop?",
        f"Lines of the loss of {len(models)} models against the examples they were trained on.",
        captions.filled(captions.TRAINING, stretch=every),
        _losses_chart(data, models),
        80 + legend_height(models),
        pl.DataFrame(numbers),
    )


def _losses_chart(data: pl.DataFrame, models: list[str]) -> alt.Chart:
    """Lines of loss against examples."""
    legend = alt.Legend(orient="top", columns=2, labelLimit=150)
    about: dict[str, Any] = {"title": "model", "legend": legend}
    dashes = alt.Scale(domain=models, range=_DASHES)
    tooltip = [
        alt.Tooltip("model:N"),
        alt.Tooltip("base:N", title="trained from"),
        alt.Tooltip("method:N"),
        alt.Tooltip("step:Q", title="steps"),
        alt.Tooltip("examples:Q", title="examples seen", format=","),
        alt.Tooltip("loss:Q", format=".3f"),
    ]
    lines = alt.Chart(data, height=_HEIGHT).mark_line(strokeWidth=1.8)
    chart: alt.Chart = lines.encode(
        x=alt.X("examples:Q", title="examples seen", axis=alt.Axis(format=",d", tickCount=6)),
        y=alt.Y("loss:Q", title="loss (nats per token; dpo: per pair)"),
        color=alt.Color("model:N", scale=alt.Scale(domain=models, range=HUES), **about),
        strokeDash=alt.StrokeDash("model:N", scale=dashes, **about),
        order="step:Q",
        tooltip=tooltip,
    )
    return chart


_STAGE_METRICS = {
    "separability": "separability (nats per token)",
    "separability_change": "change",
    "area": "area between the curves (nats per token)",
    "area_change": "change of the area",
}


def stages(table: pl.DataFrame, limit: str, confidence: float, mask: str = SHARED) -> Figure | None:
    """Separability over the stages of a family; None if there are none.

    Args:
        table: `stages` of one family.
        limit: where separability is read off, as text.
        confidence: level of the intervals.
        mask: the study's headline mask, which comes first.
    """
    numbers = with_written(table.sort("stage"), "nats")
    measured = numbers.filter(pl.col("value").is_not_null(), metric="separability")
    if not measured.height:
        return None
    variants = ordered(measured["variant"], mask)
    data = measured.drop("fewest", "smaller_side", "beyond").with_columns(
        stage=pl.format("{}. {}", pl.col("stage") + 1, "name")
    )
    names = data["stage"].unique(maintain_order=True).to_list()
    cells = {
        (row["variant"], row["name"], row["metric"]): row["written"]
        for row in numbers.iter_rows(named=True)
    }
    rows = [
        {"stage": name, "mask": variant, "trainings": str(count)}
        | {
            title: cells.get((variant, name, metric), "")
            for metric, title in _STAGE_METRICS.items()
        }
        for variant in variants
        for name, count in dict(numbers.select("name", "seeds").iter_rows()).items()
    ]
    x = {
        "title": "separability: added harm NLL (nats per token)",
        "axis": alt.Axis(tickCount=6, format="~g"),
    }
    rows_axis, groups = Axis("stage", None, names), Axis("variant", "mask", variants)
    return Figure(
        "stages",
        "Does alignment concentrate harm in weights of its own?",
        f"Dots for {len(names)} stages of training and {len(variants)} kinds of mask, with "
        "intervals: the NLL added to harmful responses at a fixed benign loss.",
        captions.filled(captions.STAGES, mask=mask, limit=limit, confidence=confidence),
        dots(data, rows_axis, groups, x, {"seeds": "trainings"}),
        96 + legend_height(variants),
        pl.DataFrame(rows),
    )
