"""Make every mask of a study at the chosen (p, q), and the tables of what they share."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from lesion import __version__
from lesion.io.formats import read_json, read_parquet, write_json, write_parquet
from lesion.masks.algebra import expected_vote, intersection, vote
from lesion.masks.controls import DESCRIPTIONS, Material, control_masks
from lesion.masks.overlap import OVERLAP, SHARING, overlaps
from lesion.masks.select import Point, Preserved
from lesion.masks.store import write_mask
from lesion.masks.sweep import SWEEP, Behaviours, Cut, Opened, choose
from lesion.masks.where import concentration_table, top_lines, where_table
from lesion.models.layout import FlatIndices, Layout, layout_of
from lesion.models.record import read_record
from lesion.scores.store import NORMS, Pooled, index_name

logger = logging.getLogger(__name__)

_SHARES = (0.125, 0.25, 0.5, 1.0)
"""Sizes, as shares of the chosen q, at which the table of sharing looks at the votes."""


class Making(NamedTuple):
    """What is made beside every behaviour's own mask, and the limit that chooses (p, q)."""

    max_benign_increase: float
    controls: list[str]
    seed: int


def run(
    model: Path,
    scores: Path,
    sweep: Path,
    out: Path,
    behaviours: Behaviours,
    cut: Cut,
    how: Making,
) -> None:
    """Choose (p, q), make every mask there with one read of the scores, and the tables.

    Args:
        model: checkpoint folder.
        scores: folder of the behaviours' score folders.
        sweep: table of SWEEP.
        out: folder for `<mask>.safetensors`, `chosen.json` and the tables `overlap`, `where`,
            `concentration`, `lines` and `sharing`.
        behaviours: the study's.
        cut: how to select.
        how: limit, controls and seed.
    """
    p, q = choose(read_parquet(sweep, SWEEP), how.max_benign_increase)
    unit = layout_of(model).unit(cut.scope)
    # A row, or a very small model, has no room for the smaller shares.
    points = [Point(p, q * share) for share in _SHARES if round(q * share * unit) or share == 1]
    opened = Opened.of(model, scores, behaviours.names, behaviours.benign, cut, points)
    sized = opened.select(points, cut)
    masks = {name: sized[name][-1] for name in behaviours.names}
    harm = [masks[name] for name in behaviours.harm]
    masks["shared"] = vote(harm, cut.at_least)
    masks["shared-all"] = intersection(harm)
    preserved = Preserved(opened.importance, opened.layout, p, cut.scope)
    material = _material(model, scores, opened, behaviours, how.controls, preserved)
    masks |= control_masks(how.controls, masks["shared"], opened.layout, material, how.seed)
    common = {
        "lesion_version": __version__,
        "model_digest": str(read_record(model)["digest"]),
        "p": repr(p),
        "q": repr(q),
        "rule": cut.rule,
        "scope": cut.scope,
        "pool": cut.pool,
        "score": "signed SNIP W*dL/dW; the most negative are taken",
    }
    for name, mask in masks.items():
        header = {**common, "mask": name, **_recipe(name, behaviours, cut, scores, how.seed)}
        write_mask(mask, opened.layout.stored_shapes, header, out / f"{name}.safetensors")
        logger.info(f"masks: {name}: {mask.size} of {opened.layout.size} weights")
    _write_tables(masks, opened.layout, behaviours, out, how.seed)
    votes = {name: sized[name] for name in behaviours.harm}
    write_parquet(sharing_table(votes, points, opened.layout), out / "sharing.parquet")
    write_json({"p": p, "q": q, "limit": how.max_benign_increase}, out / "chosen.json")


def _write_tables(
    masks: Mapping[str, FlatIndices], layout: Layout, behaviours: Behaviours, out: Path, seed: int
) -> None:
    for name, table in (
        ("overlap", overlap_table(masks, layout, behaviours, seed)),
        ("where", where_table(masks, layout)),
        ("concentration", concentration_table(masks, layout)),
        ("lines", top_lines(masks, layout)),
    ):
        write_parquet(table, out / f"{name}.parquet")


def _material(
    model: Path,
    scores: Path,
    opened: Opened,
    behaviours: Behaviours,
    controls: Sequence[str],
    preserved: Preserved,
) -> Material:
    def pooled(control: str, names: Sequence[str]) -> Pooled | None:
        # Only where it is needed: of several tails there is no mean.
        if control not in controls:
            return None
        return Pooled([opened.snips[name] for name in names], "mean")

    norms = [scores / name / NORMS for name in behaviours.harm]
    return Material(
        harm=pooled("unsigned", behaviours.harm),
        benign=pooled("benign-signed", behaviours.benign),
        importance=opened.importance,
        preserved=preserved,
        model=model,
        norms=[path for path in norms if path.is_file()],
    )


def _recipe(name: str, behaviours: Behaviours, cut: Cut, scores: Path, seed: int) -> dict[str, str]:
    """What is particular to one mask: the pairs it was made from, or how it was put together."""
    if name in behaviours.names:
        metadata = read_json(scores / name / index_name("snip"))["metadata"]
        made = {key: str(metadata[key]) for key in ("pairs_digest", "examples", "loss", "dtype")}
        return {"role": behaviours.role(name), **made}
    if name in DESCRIPTIONS:
        return {"role": "control", "made": DESCRIPTIONS[name], "seed": str(seed)}
    least = cut.at_least if name == "shared" else len(behaviours.harm)
    return {"role": "harm", "made": f"in at least {least} of {', '.join(behaviours.harm)}"}


def overlap_table(
    masks: Mapping[str, FlatIndices], layout: Layout, behaviours: Behaviours, seed: int
) -> pl.DataFrame:
    """Overlap statistics of every two behaviours' masks, one row a pair."""
    found = overlaps({name: masks[name] for name in behaviours.names}, layout, seed)
    rows = [(a, b, behaviours.role(a), behaviours.role(b), *one) for (a, b), one in found.items()]
    return pl.DataFrame(rows, schema=OVERLAP, orient="row")


def sharing_table(
    masks: Mapping[str, Sequence[FlatIndices]], points: Sequence[Point], layout: Layout
) -> pl.DataFrame:
    """How many weights at least k harm types share, by the size of their masks.

    `expected` is that number if every mask kept its size in each matrix and lay there at random.
    """
    rows = []
    for number, point in enumerate(points):
        each = [one[number] for one in masks.values()]
        rows += [
            {
                "p": point.p,
                "q": point.q,
                "size": int(np.mean([one.size for one in each])),
                "at_least": least,
                "of": len(each),
                "weights": vote(each, least).size,
                "expected": expected_vote(each, least, layout),
            }
            for least in range(1, len(each) + 1)
        ]
    return pl.DataFrame(rows, schema=SHARING)
