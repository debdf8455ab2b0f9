"""Masks of many sizes, selected in as few reads of the scores as a single size needs."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from lesion.io.formats import LesionError, write_parquet
from lesion.masks.algebra import intersection, vote
from lesion.masks.choose import read_chosen
from lesion.masks.controls import DESCRIPTIONS, ControlInputs, control_inputs, control_masks
from lesion.masks.jobs import CurveMasksJob
from lesion.masks.select import Point
from lesion.masks.sweep import ScoreSet
from lesion.models.layout import Flat, FlatIndices, Layout, layout_of
from lesion.scores.store import Source, Values

logger = logging.getLogger(__name__)

CURVE_MASKS: dict[str, Any] = {
    "family": pl.String,
    "seed": pl.Int64,
    "share": pl.Float64,
    "flat_indices": pl.List(pl.Int64),
}
"""One row for each mask. `share` is its size as a multiple of the chosen q, and `places` are its
flat indices, sorted. The family `unmodified` has one row, of share 0."""

_DRAWN = ("random", "random-magnitude")
_VOTES = ("shared", "shared-all")

_Row = tuple[str, int, float, FlatIndices]


def curve_masks(
    model: Path, scores: Mapping[str, Path], chosen: Path, out: Path, job: CurveMasksJob
) -> None:
    """Write the masks of every family and size.

    At a size `share`, a behaviour's mask selects the fraction `share * q`, `shared` is the vote of
    these masks of the harm types, and a control has as many weights in every matrix as `shared`.
    Empty masks are left out.

    Args:
        model: checkpoint folder.
        scores: folders of scores by behaviour.
        chosen: the chosen (p, q).
        out: table of CURVE_MASKS.
        job: families, sizes and seeds.

    Raises:
        LesionError: no size selects a weight, or truncated scores do not serve the largest size.
    """
    p, q, *_ = read_chosen(chosen)
    behaviours, selection = job.behaviours, job.selection
    shares = _with_room(job.sizes, q, layout_of(model).unit(selection.scope))
    points = [Point(p, q * share) for share in shares]
    own = [name for name in behaviours.names if name in job.families]
    built = set(job.families) - set(own)
    names = [*(behaviours.harm if built else ()), *own]
    opened = ScoreSet.open(
        model, scores, list(dict.fromkeys(names)), behaviours.benign, selection, points
    )
    sized = opened.select(points, selection)
    harm = [[sized[name][n] for name in behaviours.harm] for n in range(len(points)) if built]
    sized["shared"] = [vote(each, selection.at_least) for each in harm]
    sized["shared-all"] = [intersection(each) for each in harm]
    rows: list[_Row] = [("unmodified", job.seed, 0.0, np.empty(0, np.int64))]
    for family in job.families:
        if family not in DESCRIPTIONS:
            rows += [
                (family, job.seed, share, mask)
                for share, mask in zip(shares, sized[family], strict=True)
            ]
    if built - set(_VOTES):
        likes = dict(zip(shares, sized["shared"], strict=True))
        inputs = control_inputs(
            model, scores, opened, behaviours, job.families, p, selection.scope, _Recent
        )
        rows += _drawn(likes, opened.layout, inputs, job)
        rows += _scored(likes, opened.layout, inputs, job)
    _write(rows, out)


def _with_room(sizes: Sequence[float], q: float, unit: int) -> list[float]:
    """The sizes that select a weight; in a row, or in a very small model, small ones do not."""
    found = [share for share in sizes if round(q * share * unit)]
    if not found:
        raise LesionError(
            f"masks: no size of `curve.sizes` selects a weight at the chosen q={q}. Add sizes of "
            f"at least {0.5 / (q * unit):.2g}."
        )
    return found


def _drawn(
    likes: Mapping[float, FlatIndices], layout: Layout, inputs: ControlInputs, job: CurveMasksJob
) -> list[_Row]:
    """The random controls; those of the study's own seed are equal to those of `masks.run`."""
    names = [name for name in _DRAWN if name in job.families]
    return [
        (name, seed, share, mask)
        for seed in range(job.seed, job.seed + job.seeds)
        for share, like in likes.items()
        for name, mask in control_masks(names, like, layout, inputs, seed).items()
    ]


def _scored(
    likes: Mapping[float, FlatIndices], layout: Layout, inputs: ControlInputs, job: CurveMasksJob
) -> list[_Row]:
    """The controls that depend on scores: one matrix after the other, in all sizes."""
    names = [name for name in DESCRIPTIONS if name in job.families and name not in _DRAWN]
    split = {share: layout.split(like) for share, like in likes.items()}
    parts: dict[tuple[str, float], list[FlatIndices]] = {
        (name, share): [] for name in names for share in likes
    }
    for number, start in enumerate(layout.offsets[:-1] if names else ()):
        for share, matrices in split.items():
            own = matrices[number] + start
            for name, part in control_masks(names, own, layout, inputs, job.seed).items():
                parts[name, share].append(part)
    return [(name, job.seed, share, np.concatenate(each)) for (name, share), each in parts.items()]


class _Recent:
    """A source that caches the last slice, because every size of a control reads the same one."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.name = ""
        self.values: Values | None = None

    def open(self, name: str) -> Values:
        if self.values is None or self.name != name:
            self.name, self.values = name, _RecentValues(self.source.open(name))
        return self.values


class _RecentValues:
    def __init__(self, values: Values) -> None:
        self.values = values
        self.cached: tuple[slice, Flat] | None = None

    def __getitem__(self, part: slice) -> Flat:
        if self.cached is None or self.cached[0] != part:
            self.cached = (part, self.values[part])
        return self.cached[1]


def _write(rows: Sequence[_Row], out: Path) -> None:
    columns = zip(*rows, strict=True)
    made = pl.DataFrame(
        [
            pl.Series(name, column, dtype)
            for (name, dtype), column in zip(CURVE_MASKS.items(), columns, strict=True)
        ]
    )
    sizes = made.with_columns(pl.col("flat_indices").list.len())
    for (family, seed), one in sizes.group_by("family", "seed", maintain_order=True):
        weights = ", ".join(map(str, one["flat_indices"]))
        logger.info(f"curve: {family}, seed {seed}: {weights} weights")
    filled = (pl.col("flat_indices").list.len() > 0) | (pl.col("family") == "unmodified")
    write_parquet(made.filter(filled), out)
