"""The masks stage's two jobs: try (p, q) on validation, then make every mask at the best."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from lesion import __version__
from lesion.formats import LesionError, read_json, read_parquet, write_json, write_parquet
from lesion.masks.overlap import Layout, overlap
from lesion.masks.select import RULES, Flat, Places, Preserved, random_like, size_of, vote
from lesion.masks.store import Mask, read_mask, write_mask
from lesion.models.record import candidate_shapes, read_record
from lesion.scores.store import StoredScores

SWEEP = {
    "p": pl.Float64,
    "q": pl.Float64,
    "weights": pl.Int64,
    "harm_nll": pl.Float64,
    "benign_nll": pl.Float64,
    "harm_nll_intact": pl.Float64,
    "benign_nll_intact": pl.Float64,
    "harm_pairs": pl.Int64,
    "benign_pairs": pl.Int64,
}


class Behaviours(NamedTuple):
    """The study's behaviours by role."""

    harm: list[str]
    benign: list[str]
    refusal: list[str]

    def role(self, name: str) -> str:
        """The role of a behaviour."""
        return next(role for role in self._fields if name in getattr(self, role))

    @property
    def names(self) -> list[str]:
        """All of them, harm first."""
        return [*self.harm, *self.benign, *self.refusal]


class Cut(NamedTuple):
    """How masks are selected: the rule, and how many harm types must agree on a shared weight."""

    rule: str
    at_least: int


def preservation(
    scores: Path, benign: Sequence[str], shapes: Mapping[str, tuple[int, ...]]
) -> Flat:
    """Preservation importance over all benign pairs: the capabilities' means, weighted by pairs."""
    total: Flat | None = None
    pairs = 0
    for name in benign:
        stored = StoredScores(scores / name, "preservation", shapes)
        count = int(stored.metadata["examples"])
        part = stored.flat()
        part *= np.float32(count)
        total = part if total is None else np.add(total, part, out=total)
        pairs += count
    assert total is not None
    return np.divide(total, np.float32(pairs), out=total)


def sweep(
    model: Path,
    scores: Path,
    pairs: Path,
    out: Path,
    behaviours: Behaviours,
    cut: Cut,
    p: float,
    qs: Sequence[float],
    *,
    dtype: str,
    batch_tokens: int,
    threads: int,
) -> None:
    """Measure the shared mask's validation NLL at one p and several q; the scores are read once."""
    shapes = candidate_shapes(model)
    layout = Layout.of(dict(shapes))
    counts = [size_of(q, int(layout.offsets[-1])) for q in qs]
    shared = _shared_masks(scores, shapes, behaviours, cut, p, counts)
    # Imported and loaded only now: the flat scores are gone from memory by then.
    from lesion.masks.validate import Validation

    check = Validation(
        model, pairs, behaviours.harm, behaviours.benign, dtype, batch_tokens, threads
    )
    with check.progress(f"sweep p={p}", 1 + len(shared)) as advance:
        harm, benign = check.nll({}, advance)
        rows = [
            (
                p,
                q,
                mask.size,
                *check.nll(_indices(mask, layout), advance),
                harm,
                benign,
                *check.sizes,
            )
            for q, mask in zip(qs, shared, strict=True)
        ]
    write_parquet(pl.DataFrame(rows, schema=SWEEP, orient="row"), out)


def _shared_masks(
    scores: Path,
    shapes: Mapping[str, tuple[int, ...]],
    behaviours: Behaviours,
    cut: Cut,
    p: float,
    counts: Sequence[int],
) -> list[Places]:
    preserved = Preserved(preservation(scores, behaviours.benign, shapes), [p])
    masks: list[list[Places]] = [[] for _ in counts]
    for name in behaviours.harm:
        flat = StoredScores(scores / name, "snip", shapes).flat()
        for place, count in enumerate(counts):
            masks[place].append(RULES[cut.rule](flat, preserved, p, count))
    return [vote(each, cut.at_least) for each in masks]


def _indices(mask: Places, layout: Layout) -> dict[str, Places]:
    parts = zip(layout.names, layout.split(mask), strict=True)
    return {name: part for name, part in parts if part.size}


def choose(table: pl.DataFrame, max_benign_increase: float) -> tuple[float, float]:
    """The (p, q) with the most added harm NLL among those within the limit on added benign NLL.

    Raises:
        LesionError: no point keeps the limit.
    """
    added = table.with_columns(
        harm=pl.col("harm_nll") - pl.col("harm_nll_intact"),
        benign=pl.col("benign_nll") - pl.col("benign_nll_intact"),
    )
    within = added.filter((pl.col("benign") <= max_benign_increase) & (pl.col("weights") > 0))
    if within.is_empty():
        least = min(added["benign"])
        raise LesionError(
            f"masks: no (p, q) of the study keeps the added benign NLL within "
            f"{max_benign_increase} nats (least: {least:.3f}). Add smaller `masks.q` or larger "
            "`masks.p`, or raise `masks.max_benign_increase`."
        )
    best = within.sort(["harm", "p", "q"], descending=[True, False, False]).row(0, named=True)
    return best["p"], best["q"]


def run(
    model: Path,
    scores: Path,
    sweeps: Sequence[Path],
    out: Path,
    behaviours: Behaviours,
    cut: Cut,
    *,
    max_benign_increase: float,
    seed: int,
) -> None:
    """Choose (p, q), make every mask there, and write the overlap and layout tables.

    Args:
        model: checkpoint folder.
        scores: folder of the behaviours' score folders.
        sweeps: one table of SWEEP for each p.
        out: folder for `<mask>.safetensors`, `sweep.parquet`, `chosen.json`, `overlap.parquet`
            and `where.parquet`.
        behaviours: the study's.
        cut: how to select.
        max_benign_increase: limit on the added benign NLL in choosing.
        seed: of the random control.
    """
    table = pl.concat([read_parquet(path, SWEEP) for path in sweeps]).sort("p", "q")
    p, q = choose(table, max_benign_increase)
    shapes = candidate_shapes(model)
    layout = Layout.of(dict(shapes))
    masks = _own_masks(scores, shapes, behaviours, cut, p, size_of(q, int(layout.offsets[-1])))
    harm = [masks[name] for name in behaviours.harm]
    masks["shared"] = vote(harm, cut.at_least)
    masks["shared-all"] = vote(harm, len(harm))
    masks["random"] = random_like(masks["shared"], layout.offsets, seed)
    roles = {"shared": "harm", "shared-all": "harm", "random": "control"}
    common = {
        "lesion_version": __version__,
        "model_digest": str(read_record(model)["digest"]),
        "p": repr(p),
        "q": repr(q),
        "rule": cut.rule,
        "scope": "global",
        "score": "signed SNIP W*dL/dW; the most negative are taken",
    }
    for name, mask in masks.items():
        role = roles.get(name) or behaviours.role(name)
        recipe = _recipe(name, behaviours, cut, scores, seed)
        write_mask(
            mask,
            shapes,
            {**common, "mask": name, "role": role, **recipe},
            out / f"{name}.safetensors",
        )
        print(f"masks: {name}: {mask.size} of {layout.offsets[-1]} weights", file=sys.stderr)
    write_parquet(table, out / "sweep.parquet")
    write_parquet(overlap_table(masks, layout, behaviours), out / "overlap.parquet")
    write_parquet(where_table(masks, layout), out / "where.parquet")
    write_json({"p": p, "q": q, "limit": max_benign_increase}, out / "chosen.json")


def _own_masks(
    scores: Path,
    shapes: Mapping[str, tuple[int, ...]],
    behaviours: Behaviours,
    cut: Cut,
    p: float,
    count: int,
) -> dict[str, Places]:
    preserved = Preserved(preservation(scores, behaviours.benign, shapes), [p])
    return {
        name: RULES[cut.rule](
            StoredScores(scores / name, "snip", shapes).flat(), preserved, p, count
        )
        for name in behaviours.names
    }


def _recipe(name: str, behaviours: Behaviours, cut: Cut, scores: Path, seed: int) -> dict[str, str]:
    """What is particular to one mask: the pairs it was made from, or how it was put together."""
    if name in behaviours.names:
        metadata = read_json(scores / name / "snip.safetensors.index.json")["metadata"]
        return {key: str(metadata[key]) for key in ("pairs_digest", "examples", "loss", "dtype")}
    if name == "random":
        return {"made": "as many random weights in every matrix as `shared`", "seed": str(seed)}
    least = cut.at_least if name == "shared" else len(behaviours.harm)
    return {"made": f"in at least {least} of {', '.join(behaviours.harm)}"}


def overlap_table(
    masks: Mapping[str, Places], layout: Layout, behaviours: Behaviours
) -> pl.DataFrame:
    """Overlap statistics of every two behaviours' masks, one row a pair."""
    names = behaviours.names
    rows = [
        {
            "a": a,
            "b": b,
            "role_a": behaviours.role(a),
            "role_b": behaviours.role(b),
            **overlap(masks[a], masks[b], layout)._asdict(),
        }
        for place, a in enumerate(names)
        for b in names[place + 1 :]
    ]
    return pl.DataFrame(rows, infer_schema_length=None)


def where_table(masks: Mapping[str, Places], layout: Layout) -> pl.DataFrame:
    """How many of each mask's weights lie in each matrix: layer, module, weights, candidates."""
    rows = [
        (name, *_layer_module(parameter), part.size, int(np.prod(shape)))
        for name, mask in masks.items()
        for parameter, part, shape in zip(
            layout.names, layout.split(mask), layout.shapes, strict=True
        )
    ]
    columns = {
        "mask": pl.String,
        "layer": pl.Int64,
        "module": pl.String,
        "weights": pl.Int64,
        "candidates": pl.Int64,
    }
    return pl.DataFrame(rows, schema=columns, orient="row")


def _layer_module(parameter: str) -> tuple[int, str]:
    """`model.layers.3.mlp.up_proj.weight` lies in layer 3, module `mlp.up_proj`."""
    parts = parameter.removesuffix(".weight").split(".")
    place = next(i for i, part in enumerate(parts) if part.isdigit())
    return int(parts[place]), ".".join(parts[place + 1 :])


def load_variant(folder: Path, variant: str) -> Mask | None:
    """The mask of a variant; None for `intact`."""
    return None if variant == "intact" else read_mask(folder / f"{variant}.safetensors")
