"""Separability over the training stages of a model family. Polars in, polars out; no I/O.

Every model of a family is measured on the same prompts and responses and at the same multiples of
its q, so that stages differ only in the model.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from lesion.tables.curve import crossing, role_curve, with_bounds
from lesion.tables.intervals import Bootstrap, Values
from lesion.tables.jobs import Stage
from lesion.tables.rows import ESTIMATE, UNMODIFIED, Row

STAGES = {
    "family": pl.String,
    "stage": pl.Int64,
    "name": pl.String,
    "seeds": pl.Int64,
    "variant": pl.String,
    "metric": pl.String,
    **ESTIMATE,
    "fewest": pl.Int64,
    "smaller_side": pl.Int64,
    "beyond": pl.Boolean,
}
"""Stages of a training; `lesion.tables.columns` explains the columns."""


class _Measured(NamedTuple):
    """Numbers of a model, or of a stage: the means of its seeds."""

    drawn: Mapping[str, Values]
    """By metric, float64 [1 + resamples], the estimate first."""
    beyond: bool
    n: int
    fewest: int
    """Prompts of the behaviour that has the fewest."""
    smaller_side: int
    """Harmful or benign prompts, whichever are fewer."""


def stage_table(
    family: str,
    stages: Sequence[Stage],
    nll: Mapping[str, pl.DataFrame],
    boot: Bootstrap,
    limit: float,
) -> pl.DataFrame:
    """Separability and area of every stage of a family, and their changes since its first.

    Only prompts and sizes (as multiples of q) that all models of the family have are used.

    Args:
        family: its name.
        stages: its stages in order.
        nll: the input of `curve_table`, by model.
        boot: the bootstrap. All models share the same resamples of prompts, and stages with equally
            many seeds share the same resamples of seeds.
        limit: added NLL of benign responses at which separability is read, nats per token.

    Returns:
        A table of STAGES; empty if no size of a mask family was measured on all models.
    """
    models = [model for stage in stages for model in stage.models]
    alike = _alike({model: nll[model] for model in models})
    masked = alike[models[0]].filter(pl.col("family") != UNMODIFIED)
    rows: list[Row] = []
    if {"harm", "benign"} <= set(masked["role"]):
        for variant in masked["family"].unique().sort():
            measured = {model: _model(alike[model], variant, boot, limit) for model in models}
            made = [_mean([measured[model] for model in stage.models], boot) for stage in stages]
            for place, (stage, own) in enumerate(zip(stages, made, strict=True)):
                keys = {"family": family, "stage": place, "name": stage.name}
                keys |= {"seeds": len(stage.models), "variant": variant}
                rows += [{**keys, **row} for row in _rows(own, made[0] if place else None, boot)]
    return pl.DataFrame(rows, schema=STAGES)


def _alike(tables: Mapping[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
    """The rows whose prompts and sizes occur in all tables, so that resamples are comparable."""
    kept = dict(tables)
    for columns in (["behaviour", "role", "prompt"], ["family", "size_ratio"]):
        for other in tables.values():
            kept = {name: table.join(other, on=columns, how="semi") for name, table in kept.items()}
    return kept


def _model(nll: pl.DataFrame, variant: str, boot: Bootstrap, limit: float) -> _Measured:
    own = nll.filter(family=variant).sort("size_ratio", maintain_order=True)
    sizes = [table for _, table in own.group_by("size_ratio", maintain_order=True)]
    harm = role_curve(sizes, nll, "harm", boot)
    benign = role_curve(sizes, nll, "benign", boot.independent())
    logs = np.log([float(table["weights"][0]) for table in sizes])
    separability, beyond = _separability(harm.drawn, benign.drawn, limit)
    drawn = {"separability": separability, "area": _mean_gap(harm.drawn - benign.drawn, logs)}
    fewest, smaller_side = min(harm.fewest, benign.fewest), min(harm.n, benign.n)
    return _Measured(drawn, beyond, harm.n + benign.n, fewest, smaller_side)


def _separability(harm: Values, benign: Values, limit: float) -> tuple[Values, bool]:
    """Separability, and whether benign never reaches the limit, from [1 + resamples, sizes]."""
    start = np.zeros((len(harm), 1))
    harm, benign = np.hstack([start, harm]), np.hstack([start, benign])
    # Both curves are linear in log K between two sizes, so each is linear in the other, and any
    # numbering of the sizes gives the same point. The log of size zero does not exist.
    numbers = np.arange(harm.shape[1], dtype=float)
    reached = crossing(numbers, benign, limit)
    known = np.isfinite(reached)
    at = np.minimum(reached, numbers[-1])
    values = [np.interp(size, numbers, line) for size, line in zip(at, harm, strict=True)]
    # Of a resample that never reaches the limit nothing is known. The estimate itself is `beyond`.
    known[0] = True
    return np.where(known, values, np.nan), not np.isfinite(reached[0])


def _mean_gap(gaps: Values, logs: Values) -> Values:
    width = logs[-1] - logs[0]
    # Two sizes may have equally many weights; without a width, the plain mean is used.
    return np.asarray(np.trapezoid(gaps, logs, axis=1) / width if width else gaps.mean(1))


def _mean(models: Sequence[_Measured], boot: Bootstrap) -> _Measured:
    """The mean of a stage's seeds, which are resampled too."""
    seeds = len(models)
    # A different seed from that of the prompts, so that the two are independent.
    generator = np.random.default_rng(boot.seed + 2)
    chosen = generator.integers(0, seeds, (boot.resamples, seeds))
    # The first row, the estimate itself, uses every seed once.
    chosen = np.vstack([np.arange(seeds), chosen])
    lines = np.arange(len(chosen))[:, None]
    drawn = {
        metric: np.stack([model.drawn[metric] for model in models], 1)[lines, chosen].mean(1)
        for metric in models[0].drawn
    }
    beyond = any(model.beyond for model in models)
    return models[0]._replace(drawn=drawn, beyond=beyond)


def _rows(own: _Measured, first: _Measured | None, boot: Bootstrap) -> Iterator[Row]:
    """The rows of a stage, with the changes since the first one if it is a later one."""
    for metric, drawn in own.drawn.items():
        numbers = {metric: (drawn, own.beyond)}
        if first is not None:
            change = drawn - first.drawn[metric]
            numbers[f"{metric}_change"] = change, own.beyond or first.beyond
        for name, (values, beyond) in numbers.items():
            value, low, high = with_bounds(values, boot.confidence)
            row = {"metric": name, "value": value, "low": low, "high": high}
            row |= {"n": own.n, "fewest": own.fewest, "smaller_side": own.smaller_side}
            yield row | {"beyond": beyond if metric == "separability" else None}
