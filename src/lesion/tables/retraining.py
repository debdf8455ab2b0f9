"""Training after an ablation: recovery and misalignment. Polars in, polars out; no I/O."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lesion.tables.curve import bounds, crossing
from lesion.tables.intervals import Bootstrap, Values
from lesion.tables.rows import UNMODIFIED, change_of, groups, level_of, mean_of, pairs, with_total

RETRAINING = {
    "experiment": pl.String,
    "arm": pl.String,
    "seeds": pl.Int64,
    "step": pl.Int64,
    "examples": pl.Int64,
    "level": pl.String,
    "behaviour": pl.String,
    "role": pl.String,
    "metric": pl.String,
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "n": pl.Int64,
}
"""One row for each arm, step, behaviour and metric; `level` is as in MEASUREMENTS. Seeds are
averaged prompt by prompt, so intervals cover prompts and not seeds.

Rows without a step summarise an arm. The gap is its mean NLL of harmful responses minus that of the
arm `unmodified` at the same step:
- `nll_added`: the gap before training, which the ablation caused.
- `recovered_share`: 1 - gap at the last step / gap before training. Null if the ablation added
  nothing, so that there is nothing to recover.
- `half_steps`, `half_examples`: where the gap first falls to half its initial value, interpolated
  between measured steps. Null if it never does; a bound is null if its resamples never do.
- `misaligned_change`: rate of misaligned answers minus that of `unmodified`, both at the last step.
- `misaligned_beyond_random`: that rate minus that of `random`, an ablation of as many weights.
- `misaligned_change_by_training`: the rate of `unmodified` at the last step minus that before."""

HALF = 0.5

_PLACE = ["arm", "step", "role", "metric"]


class _Row(NamedTuple):
    arm: str
    seeds: int
    step: int | None
    examples: int | None
    level: str
    behaviour: str | None
    role: str
    metric: str
    value: float | None
    low: float | None
    high: float | None
    n: int | None


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
            up to the step. Arms are `unmodified`, `<mask>`, `<mask>-frozen` and `<mask>-after`,
            which has only its last step. `nll` is in nats per token, `harmful` and `misaligned` are
            0 or 1.
        boot: the bootstrap.

    Returns:
        A table of RETRAINING.
    """
    mean = _by_prompt(rows)
    found = [*_measured(mean, boot), *_recoveries(mean, boot), *_misalignment(mean, boot)]
    return pl.DataFrame([(experiment, *one) for one in found], schema=RETRAINING, orient="row")


def _by_prompt(rows: pl.DataFrame) -> pl.DataFrame:
    """The mean over an arm's seeds by prompt, and the number of seeds."""
    known = rows.drop_nulls("value").with_columns(seeds=pl.col("seed").n_unique().over(_PLACE))
    return (
        # Sorted, so that sums do not depend on the order in which rows come.
        known.sort(*_PLACE, "behaviour", "prompt", "seed")
        .group_by(*_PLACE, "behaviour", "prompt", maintain_order=True)
        .agg(pl.col("value").mean(), pl.col("seeds", "examples").first())
    )


def _measured(mean: pl.DataFrame, boot: Bootstrap) -> Iterator[_Row]:
    for (arm, step, role, metric), table in mean.group_by(_PLACE, maintain_order=True):
        place = (str(arm), _first(table, "seeds"), int(str(step)), _first(table, "examples"))
        means = with_total(groups(table, "value"), partial(mean_of, boot=boot))
        for name, one in means:
            yield _Row(*place, level_of(name), name, str(role), str(metric), *one[:4])


def _first(table: pl.DataFrame, column: str) -> int:
    return int(table[column][0])


def _recoveries(mean: pl.DataFrame, boot: Bootstrap) -> Iterator[_Row]:
    nll = mean.filter(metric="nll", role="harm")
    unmodified = nll.filter(arm=UNMODIFIED)
    for arm in nll.filter(pl.col("arm") != UNMODIFIED)["arm"].unique().sort():
        gaps = _gaps(nll.filter(arm=arm), unmodified)
        # An arm that is ablated after training has no gap to close.
        if gaps.of and gaps.steps[0] == 0 and gaps.steps.size > 1:
            parts: dict[str | None, list[Values]] = {name: [one] for name, one in gaps.of.items()}
            for name, each in {**parts, None: list(gaps.of.values())}.items():
                yield from _recovery(arm, name, each, gaps, boot)


def _gaps(own: pl.DataFrame, unmodified: pl.DataFrame) -> _Gaps:
    place = ["behaviour", "prompt", "step"]
    both = own.join(unmodified.select(*place, before="value"), on=place).sort(place)
    times = both.group_by("step").agg(pl.col("examples").max()).sort("step")
    # A resample must be the same prompts at every step.
    always = both.filter(pl.len().over("behaviour", "prompt") == times.height)
    of = {
        str(name): (one["value"] - one["before"]).to_numpy().reshape(-1, times.height)
        for (name,), one in always.group_by("behaviour", maintain_order=True)
    }
    steps, examples = (times[one].cast(pl.Float64).to_numpy() for one in ("step", "examples"))
    return _Gaps(of, steps, examples, int(str(own["seeds"].max())))


def _recovery(
    arm: str, behaviour: str | None, parts: Sequence[Values], gaps: _Gaps, boot: Bootstrap
) -> Iterator[_Row]:
    drawn = np.stack(
        [_drawn([one[:, n] for one in parts], boot) for n in range(gaps.steps.size)], 1
    )
    n, place = (
        sum(map(len, parts)),
        (arm, gaps.seeds, None, None, level_of(behaviour), behaviour, "harm"),
    )
    added = bounds(drawn[1:, 0], boot.confidence)
    yield _Row(*place, "nll_added", float(drawn[0, 0]), *added, n)
    # Without a gap the share is undefined.
    opened = drawn[:, 0] > 0
    recovered = np.full_like(drawn, np.nan)
    recovered[opened] = 1 - drawn[opened] / drawn[opened, :1]
    for metric, found in (
        ("recovered_share", recovered[:, -1]),
        ("half_steps", crossing(gaps.steps, recovered, HALF)),
        ("half_examples", crossing(gaps.examples, recovered, HALF)),
    ):
        value = float(found[0]) if opened[0] and np.isfinite(found[0]) else None
        ends = _open_bounds(found[1:], opened[1:], boot.confidence)
        yield _Row(*place, metric, value, *ends, n)


def _drawn(parts: Sequence[Values], boot: Bootstrap) -> Values:
    """The mean, then those of the resamples, which use the same prompts at every step."""
    return np.append(np.mean([one.mean() for one in parts]), boot.means(parts))


def _open_bounds(
    drawn: Values, known: NDArray[np.bool_], confidence: float
) -> tuple[float | None, float | None]:
    """Bounds; an unknown resample counts as -inf for the lower and as +inf for the upper one."""
    low, _ = bounds(np.where(known, drawn, -np.inf), confidence)
    _, high = bounds(np.where(known, drawn, np.inf), confidence)
    return low, high


def _misalignment(mean: pl.DataFrame, boot: Bootstrap) -> Iterator[_Row]:
    for role in ("broad", "narrow"):
        asked = mean.filter(metric="misaligned", role=role)
        unmodified = asked.filter(arm=UNMODIFIED)
        after = unmodified.filter(step=pl.col("step").max())
        last = asked.join(after, on="step", how="semi").filter(pl.col("arm") != UNMODIFIED)
        for (arm,), table in last.group_by("arm", maintain_order=True):
            yield from _changes(str(arm), role, "misaligned_change", table, after, boot)
        random = last.filter(arm="random")
        for (arm,), table in last.filter(pl.col("arm") != "random").group_by(
            "arm", maintain_order=True
        ):
            yield from _changes(str(arm), role, "misaligned_beyond_random", table, random, boot)
        before = unmodified.filter(step=0)
        if not after.equals(before):
            metric = "misaligned_change_by_training"
            yield from _changes(UNMODIFIED, role, metric, after, before, boot)


def _changes(
    arm: str,
    role: str,
    metric: str,
    table: pl.DataFrame,
    before: pl.DataFrame,
    boot: Bootstrap,
) -> Iterator[_Row]:
    both = pairs(table, before, "value")
    for name, one in with_total(both, partial(change_of, boot=boot)):
        place = (arm, _first(table, "seeds"), None, None)
        yield _Row(*place, level_of(name), name, role, metric, *one[:4])
