"""Does scoring in bf16 pick the same weights as in fp32? `python benchmarks/dtype.py`.

After the default study: scores its harm types again in each precision, alternating, on the same
pairs; selects at the study's (p, q) with its preservation importance; prints how far the masks
agree (Jaccard) and how much faster bf16 was. On a processor without native bf16 it says so.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from lesion.io.formats import read_json
from lesion.masks.algebra import vote
from lesion.masks.select import Point, select_masks
from lesion.models.candidates import find_candidates
from lesion.models.layout import Flat, FlatIndices, Layout, layout_of
from lesion.models.load import load, resolve_dtype
from lesion.pairs.tables import encode_pairs, kept_pairs
from lesion.scores.collect import score
from lesion.scores.store import Pooled, StoredScores
from lesion.study import Study, load_study, read_config
from lesion.study.job import Device

DTYPES = ("float32", "bfloat16")


def jaccard(a: FlatIndices, b: FlatIndices) -> float:
    """Share of the union that both hold."""
    shared = np.intersect1d(a, b).size
    return shared / (a.size + b.size - shared)


class Fresh:
    """Scores in memory as a source to select from."""

    def __init__(self, scores: dict[str, torch.Tensor]) -> None:
        self.scores = scores

    def open(self, name: str) -> Flat:
        """The flat scores of a parameter."""
        values: Flat = self.scores[name].flatten().numpy()
        return values


def mask_of(
    model: Path,
    pairs: Path,
    dtype: str,
    study: Study,
    importance: Pooled,
    layout: Layout,
    point: Point,
) -> tuple[FlatIndices, float]:
    """Score one behaviour and select its mask; return it and the seconds of scoring."""
    loaded = load(model, Device(dtype=dtype, threads=study.threads))
    candidates = find_candidates(loaded.model)
    examples = encode_pairs(loaded.chat, kept_pairs(pairs, "train"))
    started = time.monotonic()
    collected = score(loaded.model, candidates, examples, study.scores.batch_tokens)
    seconds = time.monotonic() - started
    masks = select_masks({"it": Fresh(collected.snip)}, importance, layout, [point])
    return masks["it"][0], seconds


def main() -> None:
    """Print one line a harm type, then the shared mask's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, default=Path("config.yaml"))
    study = load_study(read_config(parser.parse_args().config))
    results, name = Path(study.results) / study.study, next(iter(study.models))
    model = results / "models" / name
    chosen = read_json(results / "masks" / name / "chosen.json")
    layout = layout_of(model)
    benign = [results / "scores" / name / behaviour for behaviour in study.of_role("benign")]
    importance = Pooled(
        [StoredScores(folder, "preservation", layout.stored_shapes) for folder in benign],
        study.masks.preservation_pooling,
    )
    point = Point(chosen["p"], chosen["q"])
    print(f"`auto` is {resolve_dtype('auto')} here; p={chosen['p']}, q={chosen['q']}")
    masks: dict[str, list[FlatIndices]] = {dtype: [] for dtype in DTYPES}
    total = dict.fromkeys(DTYPES, 0.0)
    for behaviour in study.of_role("harm"):
        pairs = results / "pairs" / name / f"{behaviour}.parquet"
        for dtype in DTYPES:
            mask, seconds = mask_of(model, pairs, dtype, study, importance, layout, point)
            masks[dtype].append(mask)
            total[dtype] += seconds
        print(f"{behaviour:14} Jaccard {jaccard(*(masks[dtype][-1] for dtype in DTYPES)):.3f}")
    shared = [vote(masks[dtype], study.masks.shared.at_least) for dtype in DTYPES]
    print(f"{'shared':14} Jaccard {jaccard(*shared):.3f} of {shared[0].size} and {shared[1].size}")
    print(f"scoring: fp32 / bf16 = {total['float32'] / total['bfloat16']:.2f}")


if __name__ == "__main__":
    main()
