"""Figures of trainings: losses, the stages of a family, and retrained models."""

from collections.abc import Sequence
from typing import NamedTuple

import polars as pl

from lesion.report.figures import captions
from lesion.report.figures.figure import NARROW, Figure, crossed
from lesion.report.figures.plots import dots_height
from lesion.report.figures.training_plots import (
    misaligned_chart,
    plot_height,
    recovery_chart,
    stages_chart,
    training_chart,
)
from lesion.tables.claims.training import at_step, last, summed_up
from lesion.tables.lookup import estimate_of, totals
from lesion.tables.rows import TOTAL
from lesion.tables.wording import Unit, amount, with_interval

_POINTS = 120
"""Points of a line of losses: more would not be visible and would make the page larger."""
_ARMS = ("unmodified", "shared", "shared-frozen", "shared-after")
_CONTROL = "random"
_BEFORE = "unmodified, untrained"


def training(table: pl.DataFrame) -> Figure | None:
    """Loss against examples of every model that was trained; None if none was.

    Args:
        table: `training`.
    """
    models = table["model"].unique(maintain_order=True).to_list()
    if not models:
        return None
    longest = max(table["model"].value_counts()["count"])
    every = -(-longest // _POINTS)
    data = _stretches(table, every)
    return Figure(
        "training",
        "How did the training losses develop?",
        f"Lines of the loss of {len(models)} models against the examples they were trained on.",
        captions.TRAINING.filled(stretch=every),
        training_chart(data, models),
        plot_height(len(models)),
        NARROW,
        _losses(data, models),
    )


def _stretches(table: pl.DataFrame, every: int) -> pl.DataFrame:
    """Means over consecutive blocks of rows, placed at the end of each block."""
    place = pl.int_range(pl.len()).over("model") // every
    return (
        table.sort("model", "step", maintain_order=True)
        .with_columns(stretch=place)
        .group_by("model", "base", "method", "stretch", maintain_order=True)
        .agg(pl.last("step"), pl.last("examples"), pl.mean("loss").round(4))
        .drop("stretch")
        .drop_nulls("loss")
    )


def _losses(data: pl.DataFrame, models: Sequence[str]) -> pl.DataFrame:
    rows = []
    for model in models:
        own = data.filter(model=model)
        first, last = own.row(0, named=True), own.row(-1, named=True)
        rows.append(
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
    return pl.DataFrame(rows)


def stages(table: pl.DataFrame, limit: str, confidence: float) -> Figure | None:
    """Separability over the stages of a family; None if there are none.

    Args:
        table: `stages` of one family.
        limit: where separability is read off, as text.
        confidence: level of the intervals.
    """
    known = table.filter(pl.col("value").is_not_null(), metric="separability").sort("stage")
    found = known.drop("fewest", "beyond")
    if not found.height:
        return None
    variants = _ordered(found["variant"], ("shared",))
    data = _written(found, "nats").with_columns(
        stage=pl.format("{}. {}", pl.col("stage") + 1, "name")
    )
    names = data["stage"].unique(maintain_order=True).to_list()
    return Figure(
        "stages",
        "Does alignment concentrate harm in weights of its own?",
        f"Points for {len(names)} stages of training and {len(variants)} kinds of mask, with "
        "intervals: the NLL added to harmful responses at a fixed benign loss.",
        captions.STAGES.filled(limit=limit, confidence=confidence),
        stages_chart(data, names, variants),
        dots_height(len(names), len(variants)),
        NARROW,
        _stage_numbers(table.sort("stage"), variants),
    )


def _ordered(names: pl.Series, first: Sequence[str]) -> list[str]:
    """The fixed first entries, the others by name, and the control last."""
    known = set(names)
    others = sorted(known - {*first, _CONTROL})
    return [name for name in (*first, *others, _CONTROL) if name in known]


def _written(table: pl.DataFrame, unit: Unit) -> pl.DataFrame:
    texts = [with_interval(estimate_of(row), unit) for row in table.iter_rows(named=True)]
    return table.with_columns(pl.Series("written", texts, dtype=pl.String))


_STAGE_METRICS = {
    "separability": "separability (nats per token)",
    "separability_change": "change",
    "area": "area between the curves (nats per token)",
    "area_change": "change of the area",
}


def _stage_numbers(table: pl.DataFrame, variants: Sequence[str]) -> pl.DataFrame:
    texts = {
        (row["variant"], row["name"], row["metric"]): row["written"]
        for row in _written(table, "nats").iter_rows(named=True)
    }
    seeds = dict(table.select("name", "seeds").iter_rows())
    return pl.DataFrame(
        [
            {"stage": name, "mask": variant, "trainings": str(count)}
            | {
                title: texts.get((variant, name, metric), "")
                for metric, title in _STAGE_METRICS.items()
            }
            for variant in variants
            for name, count in seeds.items()
        ]
    )


class Retrained(NamedTuple):
    """A training in memory: its results as figures and as a table of texts."""

    name: str
    figures: list[Figure]
    recovered: pl.DataFrame
    """Empty where nothing was ablated."""


def experiments(table: pl.DataFrame, confidence: float) -> list[Retrained]:
    """Every experiment that has a figure or a table.

    Args:
        table: `retraining` of one model.
        confidence: level of the intervals.
    """
    found = []
    for name in table["experiment"].unique(maintain_order=True):
        rows = table.filter(experiment=name)
        made = (recovery(rows, confidence), misaligned(rows, confidence))
        figures = [one for one in made if one is not None]
        if figures:
            found.append(Retrained(name, figures, recovery_table(rows)))
    return found


def recovery(rows: pl.DataFrame, confidence: float) -> Figure | None:
    """Harm NLL against steps of training on harm; None if that was not measured.

    Args:
        rows: `retraining` of one model and experiment.
        confidence: level of the intervals.
    """
    there = pl.col("value").is_not_null() & pl.col("step").is_not_null()
    found = totals(rows, "harm").filter(there, metric="nll").sort("step", "arm")
    if not found.height:
        return None
    experiment = rows["experiment"][0]
    data = _written(found, "nats")
    arms = _ordered(data["arm"], _ARMS)
    steps = [f"{step:,}" for step in sorted({*data["step"]})]
    texts = {(f"{row['step']:,}", row["arm"]): row["written"] for row in data.iter_rows(named=True)}
    return Figure(
        f"retraining-{experiment}",
        f"How soon does training restore harm? ({experiment})",
        f"Lines of harm NLL against steps of training for {len(arms)} arms, with intervals.",
        captions.RECOVERY.filled(confidence=confidence, experiment=experiment),
        recovery_chart(data, arms),
        plot_height(len(arms)),
        NARROW,
        crossed(steps, arms, texts, "steps (harm NLL, nats per token)"),
    )


def misaligned(rows: pl.DataFrame, confidence: float) -> Figure | None:
    """Rates of misaligned answers by arm; None if no answers were judged.

    Args:
        rows: `retraining` of one model and experiment.
        confidence: level of the intervals.
    """
    there = pl.col("value").is_not_null() & pl.col("step").is_not_null()
    asked = rows.filter(
        there, pl.col("role").is_in(["broad", "narrow"]), level=TOTAL, metric="misaligned"
    )
    latest = asked.filter(pl.col("step") == pl.col("step").max().over("arm"))
    before = asked.filter(pl.col("step") < pl.col("step").max(), arm="unmodified", step=0)
    shown = pl.concat([before.with_columns(arm=pl.lit(_BEFORE)), latest])
    if not shown.height:
        return None
    experiment = rows["experiment"][0]
    data = _written(shown, "share").with_columns(questions="role")
    arms, roles = _ordered(data["arm"], (_BEFORE, *_ARMS)), _ordered(data["role"], ("broad",))
    texts = {(row["arm"], row["role"]): row["written"] for row in data.iter_rows(named=True)}
    return Figure(
        f"misaligned-{experiment}",
        f"Does narrow training misalign broadly? ({experiment})",
        f"Points for {len(arms)} arms, with intervals: the share of answers judged misaligned.",
        captions.MISALIGNED.filled(confidence=confidence),
        misaligned_chart(data, arms, roles),
        dots_height(len(arms), len(roles)),
        NARROW,
        crossed(arms, roles, texts, "answers judged misaligned"),
    )


def recovery_table(rows: pl.DataFrame) -> pl.DataFrame:
    """How much harm each ablated arm recovered, as texts; empty if there is no summary.

    Args:
        rows: of one experiment.
    """
    harm = totals(rows, "harm")
    arms = harm.filter(metric="recovered_share")["arm"].unique(maintain_order=True)
    return pl.DataFrame(
        [
            {
                "ablated, then trained": arm,
                "harm NLL before (nats per token)": with_interval(
                    at_step(harm, arm, "nll", 0), "nats"
                ),
                "after": with_interval(last(harm, arm, "nll"), "nats"),
                "undone": with_interval(summed_up(harm, arm, "recovered_share"), "share"),
                "steps to half": with_interval(summed_up(harm, arm, "half_steps"), "count"),
                "examples to half": with_interval(summed_up(harm, arm, "half_examples"), "count"),
            }
            for arm in arms
        ]
    )
