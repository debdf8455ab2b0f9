"""Masks of different rules, each grown until it costs the same on benign text."""

import logging
import math
from collections.abc import Callable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from lesion.io.formats import LesionError, write_parquet
from lesion.masks.choose import Chosen, read_chosen
from lesion.masks.controls import control_inputs, control_masks
from lesion.masks.jobs import EqualCostMasksJob, Selection
from lesion.masks.rankings import Ranking, rankings, vote_ranking
from lesion.masks.select import Point
from lesion.masks.sweep import ScoreSet
from lesion.models.layout import FlatIndices
from lesion.study.controls import controls_among

logger = logging.getLogger(__name__)

EQUAL_COST_MASKS: dict[str, Any] = {
    "mask": pl.String,
    "limit": pl.Float64,
    "cost": pl.Float64,
    "reached": pl.Boolean,
    "weights": pl.Int64,
    "flat_indices": pl.List(pl.Int64),
}
"""One row for each mask and limit. `cost` is the NLL that the mask adds to benign responses of the
validation split (nats per token), and `reached` whether it comes within a tenth of `limit`."""

TOLERANCE = 0.05
"""A cost this near to the limit, as a fraction of it, ends the search."""
NEAR = 0.1
_TRIES = 14
_START = 2000


class Growing(NamedTuple):
    """A mask of any size up to the largest."""

    take: Callable[[int], FlatIndices]
    """The mask of so many weights: sorted flat indices."""
    largest: int
    start: int = _START
    """The size that is tried first."""


def equal_cost_masks(
    model: Path,
    scores: Mapping[str, Path],
    pairs: Mapping[str, Path],
    chosen: Path,
    out: Path,
    job: EqualCostMasksJob,
) -> None:
    """Write the masks of every rule at every limit.

    Args:
        model: checkpoint folder.
        scores: folders of scores by behaviour.
        pairs: tables of PAIRS by behaviour; the benign ones' validation pairs are used.
        chosen: the chosen (p, q); every rule preserves the same p.
        out: table of EQUAL_COST_MASKS.
        job: masks, limits and device.

    Raises:
        LesionError: a rule selects no weight, or no benign validation pair is there.
    """
    growing = growing_masks(model, scores, read_chosen(chosen), job)
    # The model is loaded only now, after the memory of the scores has been freed.
    from lesion.masks.validate import Validation
    from lesion.models.layout import layout_of

    validation = Validation(model, pairs, job.behaviours, ["benign"], job.device, job.batch_tokens)
    layout = layout_of(model)
    unmodified = validation.means({})["benign"]
    if unmodified is None:
        raise LesionError(
            "masks: no benign pair of the validation split was kept, so masks can't be grown to "
            f"the same cost. Give {', '.join(job.behaviours.benign)} more prompts, or empty "
            "`equal_cost.masks`."
        )
    rows = []
    for name, mask in growing.items():
        costs: dict[int, float] = {}

        def cost(weights: int, mask: Growing = mask, costs: dict[int, float] = costs) -> float:
            if weights not in costs:
                after = validation.means(layout.by_name(mask.take(weights)))["benign"]
                added = math.nan if after is None else after - unmodified
                costs[weights] = added if math.isfinite(added) else math.inf
            return costs[weights]

        for limit in job.limits:
            weights = grow(cost, limit, mask.largest, mask.start)
            reached = abs(cost(weights) - limit) <= NEAR * limit
            logger.info(
                f"equal cost: {name}: {weights} weights add {cost(weights):.4f} nats to benign "
                f"responses ({limit:g} wanted, {len(costs)} sizes tried)"
            )
            values = (name, limit, cost(weights), reached, weights, mask.take(weights))
            rows.append(dict(zip(EQUAL_COST_MASKS, values, strict=True)))
    write_parquet(pl.DataFrame(rows, schema=EQUAL_COST_MASKS), out)


def grow(
    cost: Callable[[int], float],
    limit: float,
    largest: int,
    start: int = _START,
) -> int:
    """The number of weights whose cost is nearest to the limit, of those that were tried.

    The cost is taken to grow with the number of weights, as a power of it where it is positive: the
    search extrapolates, and then interpolates, in the logarithms of both.

    Args:
        cost: nats per token of so many weights.
        limit: the cost that is wanted.
        largest: the most weights that can be tried.
        start: the number that is tried first.
    """
    tried: dict[int, float] = {}
    for _ in range(_TRIES):
        weights = _next(tried, limit, largest) if tried else min(start, largest)
        if weights in tried:
            break
        tried[weights] = cost(weights)
    return _nearest(tried, limit)


def _nearest(tried: Mapping[int, float], limit: float) -> int:
    return min(tried, key=lambda n: (abs(tried[n] - limit), n))


def _next(tried: Mapping[int, float], limit: float, largest: int) -> int:
    """The number to try next; the nearest one again, if it is near enough."""
    nearest = _nearest(tried, limit)
    if abs(tried[nearest] - limit) <= TOLERANCE * limit:
        return nearest
    above = [n for n, value in tried.items() if not value < limit]
    if not above:
        most = max(tried)
        return min(max(round(most * _factor(tried, most, limit)), most + 1), largest)
    high = min(above)
    low = max((n for n in tried if tried[n] < limit and n < high), default=0)
    if not low:
        return max(high // 4, 1)
    under, over = tried[low], tried[high]
    if under > 0 and over < math.inf:
        part = math.log(limit / under) / math.log(over / under)
    else:
        part = (limit - under) / (over - under)
    part = min(max(part, 0.1), 0.9)
    return round(math.exp(math.log(low) + part * math.log(high / low)))


def _factor(tried: Mapping[int, float], weights: int, limit: float) -> float:
    """How many times more weights are tried next, where all so far cost less than the limit."""
    before = max((n for n in tried if n < weights), default=0)
    if tried[weights] <= 0:
        return 4
    power = 1.0
    if 0 < tried.get(before, 0) < tried[weights]:
        # Where the cost hardly grows, the power of a huge factor would overflow.
        power = max(math.log(tried[weights] / tried[before]) / math.log(weights / before), 0.25)
    factor: float = (limit / tried[weights]) ** (1 / power)
    return min(max(factor, 1.1), 16)


def growing_masks(
    model: Path,
    scores: Mapping[str, Path],
    chosen: Chosen,
    job: EqualCostMasksJob,
) -> dict[str, Growing]:
    """A growing mask of each rule, from at most three selections.

    Raises:
        LesionError: a rule selects no weight.
    """
    behaviours, selection, p, contrast = job.behaviours, job.selection, chosen.p, chosen.contrast
    points = [Point(p, job.largest)]
    # `difference` takes the preserved weights away after ranking, so places count them too.
    everything = [Point(0, job.largest)] if selection.rule == "difference" else points
    opened: dict[float, ScoreSet] = {}

    def ranked(names: list[str], weight: float, of_benign: list[str]) -> dict[str, Ranking]:
        """The rankings of behaviours, given the weight of the contrast."""
        own = ScoreSet.open(model, scores, names, behaviours, selection, points, weight, of_benign)
        opened[weight] = own
        taken = _largest(own, points, selection)
        if everything == points:
            return rankings(taken, own.snips, own.layout, selection.scope)
        before = _largest(own, everything, selection)
        ranked = rankings(before, own.snips, own.layout, selection.scope)
        return {name: ranking.within(taken[name]) for name, ranking in ranked.items()}

    controls = controls_among(job.masks, behaviours.names)
    named = [name for name in behaviours.names if name in job.masks]
    # Masks of other answers are as free of benign scores as `shared`, or they could not win.
    matched, refusal = list(behaviours.matched), behaviours.refusal
    less = [*behaviours.matched.values(), *matched, *refusal] if contrast else []
    growing: dict[str, Growing] = {}
    shared: Ranking | None = None
    if "shared" in job.masks or controls or named:
        harm = behaviours.harm
        own = ranked(list(dict.fromkeys([*harm, *named])), contrast, less)
        shared = vote_ranking([own[name] for name in harm], selection.at_least)
        growing |= {name: _growing(own[name]) for name in named}
        # The study's own mask is as large as the benign limit allows, so its cost is near.
        size = int(np.searchsorted(shared.place, chosen.q, side="right"))
        growing["shared"] = _growing(shared)._replace(start=max(size, 1))
    # Not all in one read, since the memory grows with the number of behaviours that are selected.
    for group in ({"plain": behaviours.harm}, {"matched": matched, "refusals": refusal}):
        wanted = {rule: names for rule, names in group.items() if rule in job.masks}
        if wanted:
            own = ranked([*chain(*wanted.values())], 0.0, [] if "plain" in wanted else less)
        for rule, names in wanted.items():
            least = min(selection.at_least, len(names))
            growing[rule] = _growing(vote_ranking([own[name] for name in names], least))
    if controls:
        assert shared is not None
        likes, scored = shared, opened[contrast]
        inputs = control_inputs(model, scores, scored, behaviours, controls, p, selection.scope)
        for name in controls:

            def take(weights: int, name: str = name) -> FlatIndices:
                like = [likes.first(weights)]
                return control_masks([name], like, scored.layout, inputs, job.seed)[name][0]

            growing[name] = Growing(take, likes.indices.size)
    for name in job.masks:
        if not growing[name].largest:
            raise LesionError(
                f"masks: `{name}` of `equal_cost.masks` selects no weight. Raise "
                "`equal_cost.largest`, or lower `masks.p`."
            )
    return {name: growing[name] for name in job.masks}


def _largest(scores: ScoreSet, points: list[Point], selection: Selection) -> dict[str, FlatIndices]:
    """The masks of each behaviour at a single point, or all weights that promote it."""
    selected = scores.select(points, selection, at_most=True)
    return {name: masks[0] for name, masks in selected.items()}


def _growing(ranking: Ranking) -> Growing:
    return Growing(ranking.first, ranking.indices.size)
