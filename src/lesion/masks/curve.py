"""Masks of many sizes, selected in as few reads of the scores as a single size needs."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from lesion.io.formats import LesionError, write_parquet
from lesion.masks.algebra import intersection, vote
from lesion.masks.choose import read_chosen
from lesion.masks.controls import control_inputs, control_masks, control_rule
from lesion.masks.jobs import CurveMasksJob
from lesion.masks.select import Point
from lesion.masks.sweep import ScoreSet
from lesion.models.layout import FlatIndices, layout_of
from lesion.study.controls import controls_among

logger = logging.getLogger(__name__)

CURVE_MASKS: dict[str, Any] = {
    "family": pl.String,
    "seed": pl.Int64,
    "size_ratio": pl.Float64,
    "flat_indices": pl.List(pl.Int64),
}
"""One row for each mask. `size_ratio` is its size as a multiple of the chosen q; its flat indices
are sorted. The family `unmodified` has one row, whose size ratio is 0."""

_Row = tuple[str, int, float, FlatIndices]


def curve_masks(
    model: Path,
    scores: Mapping[str, Path],
    chosen: Path,
    out: Path,
    job: CurveMasksJob,
    processes: int = 1,
) -> None:
    """Write the masks of every family and size.

    At a size, a behaviour's mask selects the fraction `size_ratio * q`, `shared` is the vote of
    these masks of the harm types, and a control has as many weights in every matrix as `shared`.
    Empty masks are left out.

    Args:
        model: checkpoint folder.
        scores: folders of scores by behaviour.
        chosen: the chosen (p, q).
        out: table of CURVE_MASKS.
        job: families, sizes and seeds.
        processes: how many parts of the scores are read at a time.

    Raises:
        LesionError: no size selects a weight, or truncated scores do not serve the largest size.
    """
    p, q, contrast, *_ = read_chosen(chosen)
    behaviours, selection = job.behaviours, job.selection
    unit = layout_of(model).unit(selection.scope)
    # In a row, or in a very small model, small sizes round to no weight.
    size_ratios = [size_ratio for size_ratio in job.sizes if round(q * size_ratio * unit)]
    if not size_ratios:
        raise LesionError(
            f"masks: no size of `curve.sizes` selects a weight at the chosen q={q}. Add sizes of "
            f"at least {0.5 / (q * unit):.2g}."
        )
    points = [Point(p, q * size_ratio) for size_ratio in size_ratios]
    own = [name for name in behaviours.names if name in job.families]
    built = set(job.families) - set(own)
    names = list(dict.fromkeys([*(behaviours.harm if built else ()), *own]))
    opened = ScoreSet.open(model, scores, names, behaviours, selection, points, contrast)
    sized = opened.select(points, selection, processes=processes)
    harm = [[sized[name][n] for name in behaviours.harm] for n in range(len(points)) if built]
    sized["shared"] = [vote(each, selection.at_least) for each in harm]
    sized["shared-all"] = [intersection(each) for each in harm]
    rows: list[_Row] = [("unmodified", job.seed, 0.0, np.empty(0, np.int64))]
    controls = controls_among(job.families, behaviours.names)
    for family in job.families:
        if family not in controls:
            own_masks = zip(size_ratios, sized[family], strict=True)
            rows += [(family, job.seed, size_ratio, mask) for size_ratio, mask in own_masks]
    if controls:
        inputs = control_inputs(model, scores, opened, behaviours, controls, p, selection.scope)
        drawn = [name for name in controls if control_rule(name).draw is not None]
        scored = [name for name in controls if name not in drawn]
        # The random controls of the study's own seed are equal to those of `masks.run`.
        for seed in range(job.seed, job.seed + job.seeds):
            selected = control_masks(drawn, sized["shared"], opened.layout, inputs, seed)
            for n, size_ratio in enumerate(size_ratios):
                rows += [(name, seed, size_ratio, selected[name][n]) for name in drawn]
        selected = control_masks(scored, sized["shared"], opened.layout, inputs, job.seed)
        for name in scored:
            rows += [
                (name, job.seed, size_ratio, selected[name][n])
                for n, size_ratio in enumerate(size_ratios)
            ]
    columns = dict(zip(CURVE_MASKS, zip(*rows, strict=True), strict=True))
    table = pl.DataFrame(columns, schema=CURVE_MASKS)
    size = pl.col("flat_indices").list.len()
    sizes = table.group_by("family", "seed", maintain_order=True).agg(size)
    for family, seed, weights in sizes.iter_rows():
        logger.info(f"curve: {family}, seed {seed}: {', '.join(map(str, weights))} weights")
    write_parquet(table.filter((size > 0) | (pl.col("family") == "unmodified")), out)
