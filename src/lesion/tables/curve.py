"""Harm and utility against the number of weights zeroed. Polars in, polars out; no I/O."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from lesion.responses import sized
from lesion.tables.intervals import Bootstrap, Values
from lesion.tables.rows import LEVEL, UNMODIFIED, Row, groups, pairs, rows_by_behaviour

CURVES = {
    "family": pl.String,
    "size_ratio": pl.Float64,
    "weights": pl.Int64,
    "seeds": pl.Int64,
    **LEVEL,
    "added": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "n": pl.Int64,
}
"""The NLL that masks of several sizes add; `lesion.tables.columns` explains the columns."""

HALVINGS = {
    "family": pl.String,
    "measure": pl.String,
    "sizes": pl.Int64,
    "smallest": pl.Int64,
    "largest": pl.Int64,
    "halving": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "beyond": pl.Boolean,
    "below": pl.Boolean,
    "benign": pl.Float64,
    "benign_low": pl.Float64,
    "benign_high": pl.Float64,
    "area": pl.Float64,
    "area_low": pl.Float64,
    "area_high": pl.Float64,
    "n": pl.Int64,
    "fewest": pl.Int64,
    "benign_n": pl.Int64,
}
"""Half-effect sizes; `lesion.tables.columns` explains the columns."""
LIKELIHOOD, JUDGED = "likelihood", "judged"
"""The measures of HALVINGS."""


class _Curve(NamedTuple):
    """A role's mean added NLL, [1 + resamples, sizes] with the estimate first, and its prompts."""

    drawn: Values
    n: int
    fewest: int
    """Prompts of the behaviour that has the fewest."""


def curve_table(nll: pl.DataFrame, boot: Bootstrap) -> pl.DataFrame:
    """Added NLL of every family at every size.

    Args:
        nll: family, seed, size_ratio, weights, behaviour, role, prompt, nll of one model; the
            family `unmodified` once.
        boot: the bootstrap.

    Returns:
        A table of CURVES.
    """
    rows: list[Row] = []
    for _, table in _by_size(nll):
        keys = table.select("family", "size_ratio", "weights", seeds=pl.n_unique("seed")).row(
            0, named=True
        )
        for role in ("harm", "benign"):
            added = _added(table, nll, role)
            rows += rows_by_behaviour({**keys, "role": role}, "nll_added", added, boot.mean)
    return pl.DataFrame([{**row, "added": row["value"]} for row in rows], schema=CURVES)


def halving_table(nll: pl.DataFrame, boot: Bootstrap) -> pl.DataFrame:
    """The fewest weights of every family that halve the likelihood of harmful responses.

    Args:
        nll: the input of `curve_table`.
        boot: the bootstrap; every size uses the same resamples of prompts.

    Returns:
        A table of HALVINGS.
    """
    rows = []
    for family, tables in _sized(nll).items():
        harm = role_curve(tables.values(), nll, "harm", boot)
        benign = role_curve(tables.values(), nll, "benign", boot.independent())
        fallen = harm._replace(drawn=harm.drawn - math.log(2))
        area = np.trapezoid(harm.drawn - benign.drawn, np.log(list(tables)), axis=1)
        row = _halving(list(tables), fallen, benign, boot)
        row |= {"family": family, "measure": LIKELIHOOD}
        areas = with_bounds(np.asarray(area), boot.confidence)
        rows.append(row | dict(zip(("area", "area_low", "area_high"), areas, strict=True)))
    return pl.DataFrame(rows, schema=HALVINGS)


def judged_halving_table(judged: pl.DataFrame, nll: pl.DataFrame, boot: Bootstrap) -> pl.DataFrame:
    """The fewest weights of every family that halve the share of answers judged harmful.

    Args:
        judged: variant (of every size, and `unmodified`), behaviour, prompt, label (Boolean; null
            where the judge gave none) of harmful prompts under the prefill, by one judge.
        nll: the input of `curve_table`, for the sizes and their benign loss.
        boot: the bootstrap; every size uses the same resamples of prompts.

    Returns:
        A table of HALVINGS, without families that have no completions. It is empty if no answer of
        the unmodified model is judged harmful.
    """
    rows = []
    for family, tables in _sized(nll).items():
        size_ratios = [float(table["size_ratio"][0]) for table in tables.values()]
        rates = _rates(
            judged, [UNMODIFIED, *(sized(family, size_ratio) for size_ratio in size_ratios)], boot
        )
        if rates is not None and rates.drawn[0, 0] > 0:
            before, after = rates.drawn[:, :1], rates.drawn[:, 1:]
            # In a resample without harmful answers, no size is known to halve them.
            fallen = rates._replace(drawn=np.where(before > 0, before / 2 - after, -1))
            benign = role_curve(tables.values(), nll, "benign", boot.independent())
            row = _halving(list(tables), fallen, benign, boot)
            rows.append({**row, "family": family, "measure": JUDGED})
    return pl.DataFrame(rows, schema=HALVINGS)


def _rates(judged: pl.DataFrame, variants: Sequence[str], boot: Bootstrap) -> _Curve | None:
    """Shares judged harmful, over prompts that all variants answered; None without such prompts."""
    place = ["behaviour", "prompt"]
    known = judged.filter(pl.col("variant").is_in(variants), pl.col("label").is_not_null())
    alike = known.filter(pl.len().over(place) == len(variants)).sort(place)
    if alike.is_empty():
        return None
    labels = [groups(alike.filter(variant=variant), "label") for variant in variants]
    drawn = np.stack([boot.drawn(list(parts.values())) for parts in labels], 1)
    return _curve(drawn, labels[-1])


def _sized(nll: pl.DataFrame) -> dict[str, dict[int, pl.DataFrame]]:
    """Each family's rows by the number of weights zeroed, ascending."""
    sized: dict[str, dict[int, pl.DataFrame]] = {}
    for family, table in _by_size(nll):
        sized.setdefault(family, {})[int(table["weights"][0])] = table
    return {family: dict(sorted(tables.items())) for family, tables in sized.items()}


def _by_size(nll: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    """The family and the rows of every size, whose draws share their number of weights."""
    masked = nll.filter(pl.col("family") != UNMODIFIED).sort(
        "family", "size_ratio", maintain_order=True
    )
    for (family, _), table in masked.group_by("family", "size_ratio", maintain_order=True):
        yield str(family), table


def _added(table: pl.DataFrame, nll: pl.DataFrame, role: str) -> dict[str, Values]:
    """Each behaviour's added NLL by prompt: a family's mean over draws, against `unmodified`."""
    prompts = table.sort("prompt", "seed").group_by(
        "behaviour", "role", "prompt", maintain_order=True
    )
    # The order is the same at every size, so that a resample uses the same prompts.
    mean = prompts.agg(pl.col("nll").mean())
    both = pairs(mean.filter(role=role), nll.filter(family=UNMODIFIED, role=role), "nll")
    return {name: paired.change for name, paired in both.items()}


def _halving(weights: Sequence[int], fallen: _Curve, benign: _Curve, boot: Bootstrap) -> Row:
    """Columns of HALVINGS; `weights` ascend, and `fallen` reaches zero where harm is halved."""
    logs = np.log(weights)
    reached = crossing(logs, fallen.drawn, 0)
    at, beyond = float(reached[0]), not np.isfinite(reached[0])
    low, high = bounds(np.exp(reached[1:]), boot.confidence)
    row: Row = {"sizes": len(weights), "smallest": weights[0], "largest": weights[-1]}
    row |= {"halving": None if beyond else math.exp(at), "low": low, "high": high}
    row |= {"beyond": beyond, "below": bool(fallen.drawn[0, 0] >= 0)}
    row |= {"n": fallen.n, "fewest": fallen.fewest, "benign_n": benign.n}
    if not beyond:
        there = np.array([np.interp(at, logs, line) for line in benign.drawn])
        lost = with_bounds(there, boot.confidence)
        row |= dict(zip(("benign", "benign_low", "benign_high"), lost, strict=True))
    return row


def role_curve(
    tables: Iterable[pl.DataFrame], nll: pl.DataFrame, role: str, boot: Bootstrap
) -> _Curve:
    """A role's added NLL at every size, with resamples; `tables` are those of `nll` by size."""
    parts = [_added(table, nll, role) for table in tables]
    # The seed is the same, so that a resample uses the same prompts at every size.
    return _curve(np.stack([boot.drawn(list(part.values())) for part in parts], 1), parts[-1])


def _curve(drawn: Values, parts: Mapping[str, Values]) -> _Curve:
    """A curve over the prompts of several behaviours."""
    sizes = [values.size for values in parts.values()]
    return _Curve(drawn, sum(sizes), min(sizes, default=0))


def crossing(logs: Values, drawn: Values, level: float) -> Values:
    """Where curves first reach a level, interpolated linearly over log K between sizes.

    Args:
        logs: float64 [sizes], ascending.
        drawn: float64 [curves, sizes].
        level: in the curves' unit.

    Returns:
        float64 [curves], log K: that of the smallest size if the curve starts at or above the
        level, and infinity if no size reaches it.
    """
    above = drawn >= level
    place = above.argmax(1)
    before = np.maximum(place - 1, 0)
    lines = np.arange(len(drawn))
    start, end = drawn[lines, before], drawn[lines, place]
    rise = np.where(place > before, end - start, 1)
    part = np.where(place > before, (level - start) / np.where(rise > 0, rise, 1), 0)
    reached = logs[before] + part * (logs[place] - logs[before])
    return np.where(above.any(1), reached, np.inf)


def bounds(drawn: Values, confidence: float) -> tuple[float | None, float | None]:
    """The interval of resamples; an infinite bound is null.

    An unknown resample (NaN) counts as -inf for the lower bound and as +inf for the upper one.
    """
    tail = (1 - confidence) / 2
    ends = ((tail, -np.inf), (1 - tail, np.inf))
    # Quantiles are resamples themselves, since a number and infinity cannot be interpolated.
    low, high = (
        float(np.quantile(np.where(np.isnan(drawn), unknown, drawn), at, method="inverted_cdf"))
        for at, unknown in ends
    )
    return low if np.isfinite(low) else None, high if np.isfinite(high) else None


def with_bounds(drawn: Values, confidence: float) -> tuple[float, float | None, float | None]:
    """The value, which comes first in `drawn`, and the interval of its resamples."""
    return float(drawn[0]), *bounds(drawn[1:], confidence)
