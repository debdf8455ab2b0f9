"""Selecting masks against reading the scores: `python benchmarks/selection.py`.

After the default study. Prints, from one run that alternates the sides, all with the files in the
page cache: the selection of one mask over reading its shards once with numpy; and, with all harm
types and capabilities as a study does it, a sweep of 20 (p, q) over one point. Then the bytes per
parameter of full and tail storage.
"""

import argparse
import time
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from lesion.masks.select import Point, select_masks
from lesion.models.layout import layout_of
from lesion.scores.jobs import Coverage
from lesion.scores.store import Pooled, StoredScores
from lesion.scores.tail import write_tail
from lesion.study import load_study, read_config

ONE = Point(0.15, 1.5e-4)
MANY = [Point(*pair) for pair in product((0.01, 0.05, 0.1, 0.15, 0.2), (2e-5, 5e-5, 1e-4, 1.5e-4))]
TAILS = {
    "this study's": Coverage(p=0.15, q=1.5e-4, scope="global"),
    "the paper's 8B": Coverage(p=1e-3, q=1e-4, scope="global"),
}


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    study = load_study(read_config(Path("config.yaml")))
    results, name = Path(study.results) / study.study, next(iter(study.models))
    layout = layout_of(results / "models" / name)
    folders = {
        role: [results / "scores" / name / behaviour for behaviour in study.of_role(role)]
        for role in ("harm", "benign")
    }
    harm, benign = folders["harm"][0], folders["benign"][0]
    files = [*sorted(harm.glob("snip-*")), *sorted(benign.glob("preservation-*"))]

    def opened(folder: Path, kind: str) -> StoredScores:
        return StoredScores(folder, kind, layout.stored_shapes)

    def selecting(harms: list[Path], benigns: list[Path], points: list[Point]) -> None:
        importance = Pooled([opened(benign, "preservation") for benign in benigns], "mean")
        select_masks(
            {harm.name: opened(harm, "snip") for harm in harms}, importance, layout, points
        )

    def reading() -> None:
        for path in files:
            np.fromfile(path, np.uint8)

    every = folders["harm"], folders["benign"]
    sides = {
        "read": reading,
        "one": lambda: selecting([harm], [benign], [ONE]),
        "all, one": lambda: selecting(*every, [ONE]),
        "all, twenty": lambda: selecting(*every, MANY),
    }
    best = dict.fromkeys(sides, float("inf"))
    for _ in range(rounds):
        for side, work in sides.items():
            started = time.perf_counter()
            work()
            best[side] = min(best[side], time.perf_counter() - started)
    size = sum(path.stat().st_size for path in files)
    print(f"{layout.size / 1e6:.0f} M candidates, {size / 2**20:.0f} MiB of shards of one mask")
    for side, spent in best.items():
        print(f"{side:12} {spent:6.2f} s")
    print(f"one mask / reading the shards = {best['one'] / best['read']:.2f}")
    print(f"20 points / one point         = {best['all, twenty'] / best['all, one']:.2f}")
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
