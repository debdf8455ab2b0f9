"""Selecting masks against reading the scores: `python benchmarks/selection.py`.

After the default study, or with `--synthetic GIGABYTES` on random scores of as many layers of an 8B
model as have room (`--dir` says where), of 6 harm types and 6 capabilities.

Prints medians of paired, alternating ratios (see `ratios`), all with the files in the page cache,
if they have room there: the selection of one mask over reading its shards once; with all harm types
and capabilities as a study does it, their masks over reading all shards once, by one process and
by several; and a sweep of 20 (p, q) over one point. Then the bytes per parameter of full and tail
storage.
"""

import argparse
import sys
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from ratios import alternate, ratio, spread
from synthetic import SHAPES

from lesion.masks.select import Point, select_masks
from lesion.models.layout import Layout, layout_of
from lesion.scores.jobs import Coverage
from lesion.scores.shards import shard_groups, shard_names, write_index, write_shard
from lesion.scores.store import Pooled, StoredScores
from lesion.scores.tail import write_tail
from lesion.study import load_study, read_config

ONE = Point(0.15, 1.5e-4)
MANY = [Point(*pair) for pair in product((0.01, 0.05, 0.1, 0.15, 0.2), (2e-5, 5e-5, 1e-4, 1.5e-4))]
TAILS = {
    "this study's": Coverage(p=0.15, q=1.5e-4, scope="global"),
    "the paper's 8B": Coverage(p=1e-3, q=1e-4, scope="global"),
}


class Scores(NamedTuple):
    """Folders of scores."""

    layout: Layout
    harm: list[Path]
    benign: list[Path]

    def files(self, *folders: Path) -> list[Path]:
        """The shards that masks are selected from: signed ones of harm, importance of the rest."""
        kinds = {**dict.fromkeys(self.harm, "snip"), **dict.fromkeys(self.benign, "preservation")}
        return [path for folder in folders for path in sorted(folder.glob(f"{kinds[folder]}-*"))]


def of_study() -> Scores:
    """The scores of the default study."""
    study = load_study(read_config(Path("config.yaml")))
    results, name = Path(study.results) / study.study, next(iter(study.models))
    harm, benign = (
        [results / "scores" / name / behaviour for behaviour in study.of_role(role)]
        for role in ("harm", "benign")
    )
    return Scores(layout_of(results / "models" / name), harm, benign)


def synthetic(folder: Path, gigabytes: float) -> Scores:
    """Random scores of some layers of an 8B model, for 12 behaviours."""
    hidden, inner, _, heads, keys, _ = SHAPES["8b"]
    matrices = {
        **dict.fromkeys(("q", "o"), (hidden, hidden)),
        **dict.fromkeys(("k", "v"), (hidden * keys // heads, hidden)),
        **dict.fromkeys(("gate", "up"), (inner, hidden)),
        "down": (hidden, inner),
    }
    of_layer = sum(rows * columns for rows, columns in matrices.values())
    layers = int(gigabytes * 1e9 / (4 * 12 * of_layer))
    if not layers:
        sys.exit(f"--synthetic: a layer of 12 behaviours has {48 * of_layer / 1e9:.1f} gigabytes")
    shapes = {f"{n}.{name}": shape for n in range(layers) for name, shape in matrices.items()}
    groups = shard_groups({name: rows * columns for name, (rows, columns) in shapes.items()}, 4)
    random = np.random.default_rng(0)
    folders = [folder / f"{role}-{n}" for role in ("harm", "benign") for n in range(6)]
    for number, own in enumerate(folders):
        kind = "snip" if number < 6 else "preservation"
        for name, group in zip(shard_names(kind, len(groups)), groups, strict=True):
            tensors = {key: random.standard_normal(shapes[key], np.float32) for key in group}
            if kind == "preservation":
                tensors = {key: np.abs(tensor) for key, tensor in tensors.items()}
            write_shard(tensors, own / name, {})
        write_index(own, kind, groups, {"examples": "40"})
    return Scores(Layout.of(shapes), folders[:6], folders[6:])


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--processes", type=int, default=2, help="of the side that has several")
    parser.add_argument("--synthetic", type=float, metavar="GIGABYTES", help="of random scores")
    parser.add_argument("--dir", type=Path, help="where to write them")
    arguments = parser.parse_args()
    if arguments.synthetic is None:
        measure(of_study(), arguments.rounds, arguments.processes)
        return
    with TemporaryDirectory(dir=arguments.dir) as folder:
        scores = synthetic(Path(folder), arguments.synthetic)
        measure(scores, arguments.rounds, arguments.processes)


def measure(scores: Scores, rounds: int, processes: int) -> None:
    """Print the ratios of these scores."""
    layout, harm, benign = scores.layout, scores.harm[0], scores.benign[0]
    files, all_files = scores.files(harm, benign), scores.files(*scores.harm, *scores.benign)

    def opened(folder: Path, kind: str) -> StoredScores:
        return StoredScores(folder, kind, layout.stored_shapes)

    def selecting(
        harms: list[Path], benigns: list[Path], points: list[Point], processes: int = 1
    ) -> None:
        importance = Pooled([opened(benign, "preservation") for benign in benigns], "mean")
        snips = {harm.name: opened(harm, "snip") for harm in harms}
        select_masks(snips, importance, layout, points, processes=processes)

    def reading(paths: list[Path]) -> None:
        for path in paths:
            np.fromfile(path, np.uint8)

    every = scores.harm, scores.benign
    several = f"all, {processes} processes"
    sides = {
        "read": lambda: reading(files),
        "one": lambda: selecting([harm], [benign], [ONE]),
        "read all": lambda: reading(all_files),
        "all, one": lambda: selecting(*every, [ONE]),
        several: lambda: selecting(*every, [ONE], processes),
        "all, twenty": lambda: selecting(*every, MANY),
    }
    reading(all_files)  # so that they are in the page cache, if they have room there
    times = alternate(sides, rounds)
    size = sum(path.stat().st_size for path in files)
    print(f"{layout.size / 1e6:.0f} M candidates, {size / 2**20:.0f} MiB of shards of one mask")
    print(f"medians of {rounds} rounds (least to largest)")
    for side, spent in times.items():
        print(f"{side:12} {spread(spent)} s")
    print(f"one mask / reading the shards = {ratio(times['one'], times['read'])}")
    for side in ("all, one", several):
        print(f"{side} / reading all = {ratio(times[side], times['read all'])}")
    print(f"20 points / one point         = {ratio(times['all, twenty'], times['all, one'])}")
    print(f"full storage: {4:.3f} bytes per parameter and kind")
    for title, tail in TAILS.items():
        with TemporaryDirectory() as folder:
            for kind, source in (("snip", harm), ("preservation", benign)):
                write_tail(opened(source, kind), Path(folder), kind, 1, layout, tail, {})
                (path,) = Path(folder).glob(f"{kind}-*")
                each = path.stat().st_size / layout.size
                print(f"tail, {title} p={tail.p} q={tail.q}, {kind}: {each:.4f}")


if __name__ == "__main__":
    main()
