"""Does alignment compress? The curves of a family's training stages. Polars in, polars out; no I/O.

Every model of a family is measured on the same prompts and responses and at the same multiples of
its q, so that what differs between stages is the model.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from lesion.tables.curve import bounds, crossing, role_curve
from lesion.tables.intervals import Bootstrap, Values
from lesion.tables.rows import INTACT

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
"""One row a stage, mask family (`variant`) and metric; the mean of the stage's seeds.

`separability` is the NLL added to harmful responses where that added to benign ones first reaches
the limit, nats per token: on the line between two sizes over log K, and below the smallest size on
the line from nothing zeroed, nothing added. With `beyond` benign reaches it at no size, in a seed
at least, and the value is that of the largest size. `area` is the mean gap, harm - benign, over
ln K from the smallest size to the largest, nats per token. The `_change` of either is against
stage 0, and `beyond` if one of the two is.

Intervals cover prompts, and the seeds of a stage that has several. Resampled, k seeds show
(k - 1) / k of their variance: with two or three the interval is on the narrow side, and with one
it says nothing of seeds. `n` counts harmful and benign prompts, `fewest` those of the
side that has fewer."""


class _Model(NamedTuple):
    """A model's numbers: float64 [1 + resamples], the number itself first."""

    separability: Values
    area: Values
    beyond: bool
    n: int
    fewest: int


class _Stage(NamedTuple):
    """A stage's, the means of its seeds: float64 [1 + resamples] by metric."""

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

    Prompts, and sizes as multiples of q, are those that all models of the family have.

    Args:
        family: of `stages`.
        stages: each family's stages in order, each with its models: one, or one a training seed,
            named `<name>-<seed>`.
        nll: by model, as `curve_table` takes it.
        boot: the bootstrap. Every model gets the same resamples of prompts, and stages of as many
            seeds the same ones of seeds.
        limit: added NLL of benign responses that separability is taken at, nats per token.

    Returns:
        A table of STAGES; empty if no size of a mask family was measured on all models.
    """
    models = [model for stage in stages[family] for model in stage]
    alike = _alike({model: nll[model] for model in models})
    found = alike[models[0]].filter(pl.col("family") != INTACT)
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
    """The rows of prompts and of sizes that all have: a resample is the same prompts in each."""
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
    """Both float64 [1 + resamples, sizes]; also whether benign itself never reaches the limit."""
    start = np.zeros((len(harm), 1))
    harm, benign = np.hstack([start, harm]), np.hstack([start, benign])
    # Both are straight over log K between two sizes, so one is straight over the other there, and
    # any numbering of the sizes finds the same point. Nothing zeroed has no log.
    numbers = np.arange(harm.shape[1], dtype=float)
    reached = crossing(numbers, benign, limit)
    at = np.minimum(reached, numbers[-1])
    found = [np.interp(one, numbers, line) for one, line in zip(at, harm, strict=True)]
    return np.array(found), not np.isfinite(reached[0])


def _mean_gap(gaps: Values, logs: Values) -> Values:
    width = logs[-1] - logs[0]
    # Votes of two sizes may be of as many weights: no width, and the plain mean is what is left.
    return np.asarray(np.trapezoid(gaps, logs, axis=1) / width if width else gaps.mean(1))


def _stage(models: Sequence[_Model], boot: Bootstrap) -> _Stage:
    seeds = len(models)
    # A seed that prompts are not drawn with: of the same one the two would go together.
    generator = np.random.default_rng(boot.seed + 2)
    chosen = generator.integers(0, seeds, (boot.resamples, seeds))
    # The numbers themselves, in front, have every seed once.
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
