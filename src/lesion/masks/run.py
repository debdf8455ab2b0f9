"""Select every mask of a study at the chosen (p, q), and write the tables about them."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from lesion import __version__
from lesion.io.formats import read_json, write_parquet
from lesion.masks.algebra import expected_vote, intersection, vote
from lesion.masks.choose import read_chosen
from lesion.masks.controls import control_inputs, control_masks, control_rule
from lesion.masks.jobs import MasksJob
from lesion.masks.overlap import OVERLAP, SHARING, overlaps
from lesion.masks.select import Point
from lesion.masks.store import write_mask
from lesion.masks.sweep import ScoreSet
from lesion.masks.where import concentration_table, top_lines, where_table
from lesion.models.layout import FlatIndices, Layout, layout_of
from lesion.models.record import read_record
from lesion.scores.shards import index_name
from lesion.study.controls import CONTROL_PLUGINS
from lesion.study.job import Behaviours
from lesion.study.plugins import package_of

logger = logging.getLogger(__name__)

_SHARES = (0.125, 0.25, 0.5, 1.0)
"""Sizes, as multiples of the chosen q, at which the table `sharing` counts shared weights."""


def write_masks(
    model: Path,
    scores: Mapping[str, Path],
    chosen: Path,
    out: Path,
    job: MasksJob,
    processes: int = 1,
) -> None:
    """Select every mask at the chosen (p, q) in one read of the scores, and write the tables.

    Args:
        model: checkpoint folder.
        scores: folders of scores by behaviour.
        chosen: the chosen (p, q).
        out: folder for `<mask>.safetensors` and the tables `overlap`, `where`, `concentration`,
            `lines` and `sharing`.
        job: which masks.
        processes: how many parts of the scores are read at a time.
    """
    p, q, contrast, *_ = read_chosen(chosen)
    behaviours, selection = job.behaviours, job.selection
    unit = layout_of(model).unit(selection.scope)
    # In a row, or in a very small model, the smaller sizes round to no weight.
    points = [Point(p, q * share) for share in _SHARES if round(q * share * unit) or share == 1]
    sizes = len(points)
    if job.own_q is not None:
        points.append(Point(p, job.own_q))
    names = behaviours.names
    opened = ScoreSet.open(model, scores, names, behaviours, selection, points, contrast)
    sized = opened.select(points, selection, processes=processes)
    masks = {name: sized[name][-1] for name in names}
    harm = [sized[name][sizes - 1] for name in behaviours.harm]
    masks["shared"] = vote(harm, selection.at_least)
    masks["shared-all"] = intersection(harm)
    inputs = control_inputs(model, scores, opened, behaviours, job.controls, p, selection.scope)
    likes = [masks["shared"]]
    controls = control_masks(job.controls, likes, opened.layout, inputs, job.seed)
    masks |= {name: mask for name, (mask,) in controls.items()}
    common = {
        "lesion_version": __version__,
        "model_digest": str(read_record(model)["digest"]),
        "p": repr(p),
        "q": repr(q),
        **selection.model_dump(include={"rule", "scope", "pool"}),
        "score": "signed SNIP W*dL/dW; the most negative are taken",
    }
    if contrast:
        benign = selection.benign_contrast
        common["contrast"] = (
            f"harm types: their scores minus {contrast:g} times those of matched requests"
            f"{f' minus {benign:g} times those of benign answers' if benign else ''}"
        )
    for name, mask in masks.items():
        header = {**common, "mask": name, **_recipe(name, scores, job)}
        if name in names and job.own_q is not None:
            header["q"] = repr(job.own_q)
        write_mask(mask, opened.layout.stored_shapes, header, out / f"{name}.safetensors")
        logger.info(f"masks: {name}: {mask.size} of {opened.layout.size} weights")
    tables = {
        "overlap": overlap_table(masks, opened.layout, behaviours, job.seed),
        "where": where_table(masks, opened.layout),
        "concentration": concentration_table(masks, opened.layout),
        "lines": top_lines(masks, opened.layout),
        "sharing": sharing_table(
            [sized[name][:sizes] for name in behaviours.harm], points[:sizes], opened.layout
        ),
    }
    for name, table in tables.items():
        write_parquet(table, out / f"{name}.parquet")


def _recipe(name: str, scores: Mapping[str, Path], job: MasksJob) -> dict[str, str]:
    """The header entries of a single mask: the pairs that were scored, or how it was selected."""
    behaviours = job.behaviours
    if name in behaviours.names:
        metadata = read_json(scores[name] / index_name("snip"))["metadata"]
        origin = {key: str(metadata[key]) for key in ("pairs_digest", "examples", "loss", "dtype")}
        # Only where it is not the default, so that masks keep the bytes that they have had.
        if metadata.get("text") == "plain":
            origin["text"] = "plain"
        return {"role": behaviours.role(name), **origin}
    if name in job.controls:
        entry = CONTROL_PLUGINS.entry(name)
        origin = {} if entry is None else {"plugin": package_of(entry)}
        made = {"made": control_rule(name).description, "seed": str(job.seed)}
        return {"role": "control", **made, **origin}
    least = job.selection.at_least if name == "shared" else len(behaviours.harm)
    return {"role": "harm", "made": f"in at least {least} of {', '.join(behaviours.harm)}"}


def overlap_table(
    masks: Mapping[str, FlatIndices], layout: Layout, behaviours: Behaviours, seed: int
) -> pl.DataFrame:
    """Overlap statistics of the masks of every two behaviours, one row for each pair."""
    pairs = overlaps({name: masks[name] for name in behaviours.names}, layout, seed)
    rows = [
        (a, b, behaviours.role(a), behaviours.role(b), *overlap)
        for (a, b), overlap in pairs.items()
    ]
    return pl.DataFrame(rows, schema=OVERLAP, orient="row")


def sharing_table(
    masks: Sequence[Sequence[FlatIndices]], points: Sequence[Point], layout: Layout
) -> pl.DataFrame:
    """The number of weights that at least k harm types share, by the size of their masks.

    `expected` is that number if every mask were scattered at random within each matrix.
    """
    rows = []
    for number, point in enumerate(points):
        each = [sizes[number] for sizes in masks]
        rows += [
            {
                "p": point.p,
                "q": point.q,
                "size": int(np.mean([mask.size for mask in each])),
                "at_least": least,
                "of": len(each),
                "weights": vote(each, least).size,
                "expected": expected_vote(each, least, layout),
            }
            for least in range(1, len(each) + 1)
        ]
    return pl.DataFrame(rows, schema=SHARING)
