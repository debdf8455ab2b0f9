"""Training after an ablation: recovery and misalignment. Polars in, polars out; no I/O."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from lesion.study.training import AFTER
from lesion.tables.curve import bounds, crossing, with_bounds
from lesion.tables.intervals import Bootstrap, Values
from lesion.tables.rows import (
    BEHAVIOUR,
    ESTIMATE,
    LEVEL,
    RANDOM,
    TOTAL,
    UNMODIFIED,
    Row,
    by_behaviour,
    groups,
    pairs,
    rows_by_behaviour,
)

RETRAINING = {
    "experiment": pl.String,
    "arm": pl.String,
    "seeds": pl.Int64,
    "step": pl.Int64,
    "examples": pl.Int64,
    **LEVEL,
    "metric": pl.String,
    **ESTIMATE,
}
"""Trainings in memory; `lesion.tables.columns` explains the columns."""

HALF = 0.5

_PLACE = ["arm", "step", "role", "metric"]


class _Gaps(NamedTuple):
    """An arm's gaps to `unmodified` at common steps, by behaviour: float64 [prompts, steps]."""

    of: Mapping[str, Values]
    steps: Values
    examples: Values
    seeds: int


def retraining_table(experiment: str, rows: pl.DataFrame, boot: Bootstrap) -> pl.DataFrame:
    """Every metric of every arm at every step, and the summary of every arm.

    Args:
        experiment: the experiment's name.
        rows: arm, seed, step, examples, behaviour, role, prompt, metric, value (null where a judge
            gave none) of one model. Step 0 is before training; `examples` counts those trained on
            up to the step. Arms are `unmodified`, `<mask>`, its -frozen, -only and -after,
            which has only its last step. `nll` is in nats per token, `harmful` and `misaligned` are
            0 or 1.
        boot: the bootstrap.

    Returns:
        A table of RETRAINING.
    """
    known = rows.drop_nulls("value").with_columns(seeds=pl.col("seed").n_unique().over(_PLACE))
    # Seeds are averaged by prompt. Sorted, so that sums do not depend on the order of the rows.
    by_prompt = known.sort(*_PLACE, "behaviour", "prompt", "seed").group_by(
        *_PLACE, "behaviour", "prompt", maintain_order=True
    )
    mean = by_prompt.agg(pl.col("value").mean(), pl.col("seeds", "examples").first())
    made = [*_measured(mean, boot), *_recoveries(mean, boot), *_misalignment(mean, boot)]
    return pl.DataFrame([{"experiment": experiment, **row} for row in made], schema=RETRAINING)


def _measured(mean: pl.DataFrame, boot: Bootstrap) -> Iterator[Row]:
    for _, table in mean.group_by(_PLACE, maintain_order=True):
        keys = table.select("arm", "seeds", "step", "examples", "role", "metric").row(0, named=True)
        values = groups(table, "value")
        yield from rows_by_behaviour(keys, keys["metric"], values, boot.mean_or_rate)


def _recoveries(mean: pl.DataFrame, boot: Bootstrap) -> Iterator[Row]:
    nll = mean.filter(metric="nll", role="harm")
    unmodified = nll.filter(arm=UNMODIFIED)
    for arm in nll.filter(pl.col("arm") != UNMODIFIED)["arm"].unique().sort():
        gaps = _gaps(nll.filter(arm=arm), unmodified)
        # An arm that is ablated after training has no gap to close.
        if gaps.of and gaps.steps[0] == 0 and gaps.steps.size > 1:
            for name, values in gaps.of.items():
                yield from _recovery(arm, name, [values], gaps, boot)
            yield from _recovery(arm, None, list(gaps.of.values()), gaps, boot)


def _gaps(own: pl.DataFrame, unmodified: pl.DataFrame) -> _Gaps:
    place = ["behaviour", "prompt", "step"]
    both = own.join(unmodified.select(*place, before="value"), on=place).sort(place)
    times = both.group_by("step").agg(pl.col("examples").max()).sort("step")
    # A resample must be the same prompts at every step.
    always = both.filter(pl.len().over("behaviour", "prompt") == times.height)
    of = {
        name: (own["value"] - own["before"]).to_numpy().reshape(-1, times.height)
        for name, own in by_behaviour(always)
    }
    steps, examples = (times[unit].cast(pl.Float64).to_numpy() for unit in ("step", "examples"))
    return _Gaps(of, steps, examples, int(str(own["seeds"].max())))


def _recovery(
    arm: str, behaviour: str | None, parts: Sequence[Values], gaps: _Gaps, boot: Bootstrap
) -> Iterator[Row]:
    drawn = np.stack(
        [boot.drawn([part[:, n] for part in parts]) for n in range(gaps.steps.size)], 1
    )
    level = TOTAL if behaviour is None else BEHAVIOUR
    keys: Row = {"arm": arm, "seeds": gaps.seeds, "level": level, "behaviour": behaviour}
    keys |= {"role": "harm", "n": sum(map(len, parts))}
    added, low, high = with_bounds(drawn[:, 0], boot.confidence)
    yield {**keys, "metric": "nll_added", "value": added, "low": low, "high": high}
    # Without a gap the share is undefined.
    opened = drawn[:, 0] > 0
    recovered = np.full_like(drawn, np.nan)
    recovered[opened] = 1 - drawn[opened] / drawn[opened, :1]
    for metric, numbers in (
        ("recovered_share", recovered[:, -1]),
        ("half_steps", crossing(gaps.steps, recovered, HALF)),
        ("half_examples", crossing(gaps.examples, recovered, HALF)),
    ):
        value = float(numbers[0]) if opened[0] and np.isfinite(numbers[0]) else None
        low, high = bounds(np.where(opened, numbers, np.nan)[1:], boot.confidence)
        yield {**keys, "metric": metric, "value": value, "low": low, "high": high}


def _misalignment(mean: pl.DataFrame, boot: Bootstrap) -> Iterator[Row]:
    for role in ("broad", "narrow"):
        of_role = mean.filter(metric="misaligned", role=role)
        unmodified = of_role.filter(arm=UNMODIFIED)
        before, after = unmodified.filter(step=0), unmodified.filter(step=pl.col("step").max())
        last = of_role.join(after, on="step", how="semi").filter(pl.col("arm") != UNMODIFIED)
        for _, table in last.group_by("arm", maintain_order=True):
            yield from _changes("misaligned_change", table, after, boot)
        for (arm,), table in last.group_by("arm", maintain_order=True):
            control = random_arm(str(arm))
            if arm != control:
                random = last.filter(arm=control)
                yield from _changes("misaligned_beyond_random", table, random, boot)
        if not after.equals(before):
            yield from _changes("misaligned_change_by_training", after, before, boot)


def random_arm(arm: str) -> str:
    """The arm of the random control that an arm is compared with: ablated when that is.

    An ablation after training also undoes what an earlier one cannot, so it has its own control.
    """
    return f"{RANDOM}{AFTER}" if arm.endswith(AFTER) else RANDOM


def _changes(
    metric: str, table: pl.DataFrame, before: pl.DataFrame, boot: Bootstrap
) -> Iterator[Row]:
    keys = table.select("arm", "seeds", "role").row(0, named=True)
    yield from rows_by_behaviour(keys, metric, pairs(table, before, "value"), boot.paired_change)
