"""A tiny study up to its scores, which are invented: each harm type's share a common part."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import torch

from lesion.io.formats import write_parquet
from lesion.models.layout import Flat, Layout, layout_of
from lesion.scores.shards import NORMS, write_shard
from lesion.study.job import Behaviours
from lesion_testing import tiny
from lesion_testing.scored import write_scores

BEHAVIOURS = Behaviours(
    harm=["alpha", "beta", "gamma"], benign=["letters", "sums"], refusal=["denials"]
)
EXAMPLES = {"letters": 3, "sums": 5}


class Tiny(NamedTuple):
    """Where a tiny study lies, and its scores and importances, flat."""

    folder: Path
    layout: Layout
    snips: dict[str, Flat]
    importances: dict[str, Flat]

    @property
    def model(self) -> Path:
        return self.folder / "model"

    @property
    def scores(self) -> Path:
        return self.folder / "scores"

    @property
    def score_folders(self) -> dict[str, Path]:
        return {name: self.scores / name for name in BEHAVIOURS.names}

    @property
    def pairs(self) -> Path:
        return self.folder / "pairs"


def _shaped(values: Flat, layout: Layout) -> dict[str, torch.Tensor]:
    cut = np.split(values, layout.offsets[1:-1])
    return {
        name: torch.tensor(one).view(shape)
        for (name, shape), one in zip(layout.stored_shapes.items(), cut, strict=True)
    }


def _write(study: Tiny) -> None:
    inputs = {
        name: torch.rand(columns) for name, (_, columns) in study.layout.stored_shapes.items()
    }
    for name in BEHAVIOURS.names:
        folder = study.scores / name
        about = {"examples": str(EXAMPLES.get(name, 4)), "pairs_digest": f"of {name}"}
        about |= {"loss": "mean NLL", "dtype": "float32"}
        write_scores(_shaped(study.snips[name], study.layout), folder, "snip", 2, about)
        if name in BEHAVIOURS.benign:
            shaped = _shaped(study.importances[name], study.layout)
            write_scores(shaped, folder, "preservation", 2, about)
        if name in BEHAVIOURS.harm:
            write_shard(inputs, folder / NORMS, about)
        tables = [tiny.pairs(name, 3, split) for split in ("train", "validation")]
        write_parquet(pl.concat(tables), study.pairs / f"{name}.parquet")


def made(folder: Path) -> Tiny:
    """A tiny study in `folder`."""
    layout = layout_of(tiny.checkpoint(folder))
    dice = np.random.default_rng(0)
    common = dice.normal(size=layout.size)

    def draw(name: str) -> Flat:
        shared = 1.5 * common if name in BEHAVIOURS.harm else 0
        # Ties, and means that have no rounding.
        values = (shared + dice.normal(size=layout.size)) * 64
        return (values.round() / 64).astype(np.float32)

    snips = {name: draw(name) for name in BEHAVIOURS.names}
    importances = {name: np.abs(draw(name)) for name in BEHAVIOURS.benign}
    study = Tiny(folder, layout, snips, importances)
    _write(study)
    return study
