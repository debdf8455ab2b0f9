"""Separability over the training stages of a model family. Polars in, polars out; no I/O.

Every model of a family is measured on the same prompts and responses and at the same multiples of
its q, so that stages differ only in the model.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from lesion.tables.curve import bounds, crossing, role_curve
from lesion.tables.intervals import Bootstrap, Values
from lesion.tables.rows import UNMODIFIED

STAGES = {
    "family": pl.String,
    "stage": pl.Int64,
    "name": pl.String,
    "seeds": pl.Int64,
    "variant": pl.String,
    "metric": pl.String,
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "n": pl.Int64,
    "fewest": pl.Int64,
    "beyond": pl.Boolean,
}
"""One row for each stage, mask family (`variant`) and metric: the mean of the stage's seeds.

`separability` is the NLL (nats per token) added to harmful responses at the size where the NLL
added to benign ones first reaches the limit. It is interpolated linearly over log K between two
sizes, and from the origin below the smallest size. With `beyond`, benign NLL does not reach the
limit at any size in at least one seed, and the value is that of the largest size. `area` is the
mean gap, harm - benign, over ln K from the smallest size to the largest, in nats per token. The
`_change` of either is against stage 0, and is `beyond` if either side is.

Intervals cover prompts, and also seeds if a stage has several. Resampling k seeds shows only
(k - 1) / k of their variance, so the interval is slightly too narrow with two or three seeds and
covers no seed variance with one. `n` counts harmful and benign prompts, `fewest` those of the
smaller side."""


class _Model(NamedTuple):
    """A model's numbers: float64 [1 + resamples], the estimate first."""

    separability: Values
    area: Values
    beyond: bool
    n: int
    fewest: int


class _Stage(NamedTuple):
    """A stage's numbers, the means of its seeds: float64 [1 + resamples] by metric."""

    drawn: Mapping[str, Values]
    beyond: bool
    n: int
    fewest: int


def stage_table(
    family: str,
    stages: Mapping[str, Sequence[Sequence[str]]],
    nll: Mapping[str, pl.DataFrame],
    boot: Bootstrap,
    limit: float,
) -> pl.DataFrame:
    """Separability and area of every stage of a family, and their changes since its first.

    Only prompts and sizes (as multiples of q) that all models of the family have are used.

    Args:
        family: a key of `stages`.
        stages: each family's stages in order, each with its models: a single one, or one for each
            training seed, named `<name>-<seed>`.
        nll: the input of `curve_table`, by model.
        boot: the bootstrap. All models share the same resamples of prompts, and stages with equally
            many seeds share the same resamples of seeds.
        limit: added NLL of benign responses at which separability is read, nats per token.

    Returns:
        A table of STAGES; empty if no size of a mask family was measured on all models.
    """
    models = [model for stage in stages[family] for model in stage]
    alike = _alike({model: nll[model] for model in models})
    found = alike[models[0]].filter(pl.col("family") != UNMODIFIED)
    rows: list[tuple[object, ...]] = []
    if {"harm", "benign"} <= set(found["role"]):
        for variant in found["family"].unique().sort():
            measured = {model: _model(alike[model], variant, boot, limit) for model in models}
            made = [_stage([measured[one] for one in stage], boot) for stage in stages[family]]
            for place, stage in enumerate(stages[family]):
                about = (family, place, _name(stage), len(stage), variant)
                rows += [(*about, *one) for one in _rows(made[place], made[0], place, boot)]
    return pl.DataFrame(rows, schema=STAGES, orient="row")


def _alike(tables: Mapping[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
    """The rows whose prompts and sizes occur in all tables, so that resamples are comparable."""
    kept = dict(tables)
    for columns in (["behaviour", "role", "prompt"], ["family", "share"]):
        for other in tables.values():
            kept = {name: one.join(other, on=columns, how="semi") for name, one in kept.items()}
    return kept


def _name(stage: Sequence[str]) -> str:
    return stage[0] if len(stage) == 1 else stage[0].rpartition("-")[0]


def _model(nll: pl.DataFrame, variant: str, boot: Bootstrap, limit: float) -> _Model:
    own = nll.filter(family=variant).sort("share", maintain_order=True)
    sizes = [table for _, table in own.group_by("share", maintain_order=True)]
    harm = role_curve(sizes, nll, "harm", boot)
    # Another seed, because the two sides are resampled independently.
    other = Bootstrap(boot.resamples, boot.confidence, boot.seed + 1)
    benign = role_curve(sizes, nll, "benign", other)
    logs = np.log([float(table["weights"][0]) for table in sizes])
    separability, beyond = _separability(harm.drawn, benign.drawn, limit)
    area = _mean_gap(harm.drawn - benign.drawn, logs)
    counts = (harm.n, benign.n)
    return _Model(separability, area, beyond, sum(counts), min(counts))


def _separability(harm: Values, benign: Values, limit: float) -> tuple[Values, bool]:
    """Separability, and whether benign never reaches the limit, from [1 + resamples, sizes]."""
    start = np.zeros((len(harm), 1))
    harm, benign = np.hstack([start, harm]), np.hstack([start, benign])
    # Both curves are linear in log K between two sizes, so each is linear in the other, and any
    # numbering of the sizes gives the same point. The log of size zero does not exist.
    numbers = np.arange(harm.shape[1], dtype=float)
    reached = crossing(numbers, benign, limit)
    at = np.minimum(reached, numbers[-1])
    found = [np.interp(one, numbers, line) for one, line in zip(at, harm, strict=True)]
    return np.array(found), not np.isfinite(reached[0])


def _mean_gap(gaps: Values, logs: Values) -> Values:
    width = logs[-1] - logs[0]
    # Two sizes may have equally many weights; without a width, the plain mean is used.
    return np.asarray(np.trapezoid(gaps, logs, axis=1) / width if width else gaps.mean(1))


def _stage(models: Sequence[_Model], boot: Bootstrap) -> _Stage:
    seeds = len(models)
    # A different seed from that of the prompts, so that the two are independent.
    generator = np.random.default_rng(boot.seed + 2)
    chosen = generator.integers(0, seeds, (boot.resamples, seeds))
    # The first row, the estimate itself, uses every seed once.
    chosen = np.vstack([np.arange(seeds), chosen])
    drawn = {
        metric: np.stack(lines, 1)[np.arange(len(chosen))[:, None], chosen].mean(1)
        for metric, lines in (
            ("separability", [one.separability for one in models]),
            ("area", [one.area for one in models]),
        )
    }
    return _Stage(drawn, any(one.beyond for one in models), models[0].n, models[0].fewest)


def _rows(own: _Stage, first: _Stage, place: int, boot: Bootstrap) -> Iterator[tuple[object, ...]]:
    for metric, drawn in own.drawn.items():
        of_limit = metric == "separability"
        yield _row(metric, drawn, own, own.beyond if of_limit else None, boot)
        if place:
            beyond = own.beyond or first.beyond if of_limit else None
            change = drawn - first.drawn[metric]
            yield _row(f"{metric}_change", change, own, beyond, boot)


def _row(
    metric: str, drawn: Values, own: _Stage, beyond: bool | None, boot: Bootstrap
) -> tuple[object, ...]:
    ends = bounds(drawn[1:], boot.confidence)
    return (metric, float(drawn[0]), *ends, own.n, own.fewest, beyond)
