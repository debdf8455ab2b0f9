"""Trying (p, q): the shared mask of every point, and its NLL on validation pairs."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

from lesion.io.formats import LesionError, digest
from lesion.io.reuse import key, known_rows, write_rows
from lesion.masks.algebra import vote
from lesion.masks.select import Point, select_masks
from lesion.models.layout import FlatIndices, Layout, layout_of
from lesion.models.record import read_record
from lesion.pairs.tables import encode_pairs, kept_pairs
from lesion.scores.store import Pooled, StoredScores

logger = logging.getLogger(__name__)

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
    "key": pl.String,
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
    """How masks are selected, and how many harm types must agree on a shared weight."""

    rule: str
    scope: str
    pool: str
    at_least: int


class Trying(NamedTuple):
    """How points are tried on the model."""

    dtype: str
    batch_tokens: int
    threads: int
    device_map: str | None


class Opened(NamedTuple):
    """The scores of a study, checked to serve every point asked for."""

    layout: Layout
    snips: dict[str, StoredScores]
    importance: Pooled

    @classmethod
    def of(
        cls,
        model: Path,
        scores: Path,
        names: Sequence[str],
        benign: Sequence[str],
        cut: Cut,
        points: Sequence[Point],
    ) -> "Opened":
        """Open the signed scores of `names`, and the importance pooled over `benign`."""
        layout = layout_of(model)
        shapes = layout.stored_shapes
        snips = {name: StoredScores(scores / name, "snip", shapes) for name in names}
        parts = [StoredScores(scores / name, "preservation", shapes) for name in benign]
        for stored in (*snips.values(), *parts):
            stored.check_covers(
                max(one.p for one in points), max(one.q for one in points), cut.scope
            )
        return cls(layout, snips, Pooled(parts, cut.pool))

    def select(self, points: Sequence[Point], cut: Cut) -> dict[str, list[FlatIndices]]:
        """Every behaviour's mask at every point, with one read."""
        return select_masks(
            self.snips, self.importance, self.layout, points, rule=cut.rule, scope=cut.scope
        )


def sweep(
    model: Path,
    scores: Path,
    pairs: Path,
    out: Path,
    behaviours: Behaviours,
    cut: Cut,
    points: Sequence[Point],
    how: Trying,
) -> None:
    """Measure the shared mask's validation NLL at every point; the scores are read once.

    An earlier version of `out` gives the rows of masks that have not changed.
    """
    opened = Opened.of(model, scores, behaviours.harm, behaviours.benign, cut, points)
    own = opened.select(points, cut)
    shared = [
        vote([own[name][n] for name in behaviours.harm], cut.at_least) for n in range(len(points))
    ]
    tried = _validation_digest(model, pairs, behaviours, how)
    keys = [key(mask=digest(mask.tolist()), of=tried) for mask in shared]
    known = known_rows(out, SWEEP)
    found = {one: known[one] for one in keys if one in known}
    todo = {one: mask for one, mask in zip(keys, shared, strict=True) if one not in found}
    found |= _measure(model, pairs, behaviours, todo, opened.layout, how)
    logger.info(f"sweep: measured {len(todo)} of {len(points)} points")
    rows = [
        {**found[one], "p": point.p, "q": point.q, "weights": mask.size, "key": one}
        for one, point, mask in zip(keys, points, shared, strict=True)
    ]
    write_rows(pl.DataFrame(rows, schema=SWEEP), out)


def _validation_digest(model: Path, pairs: Path, behaviours: Behaviours, how: Trying) -> str:
    """All that decides the NLL of a mask, but for the mask."""
    from lesion.models.load import open_chat, precision

    chat = open_chat(model)
    examples = {
        name: encode_pairs(chat, kept_pairs(pairs / f"{name}.parquet", "validation"))
        for name in (*behaviours.harm, *behaviours.benign)
    }
    roles = {name: behaviours.role(name) for name in examples}
    return digest([read_record(model)["digest"], examples, roles, precision(how.dtype)])


def _measure(
    model: Path,
    pairs: Path,
    behaviours: Behaviours,
    masks: Mapping[str, FlatIndices],
    layout: Layout,
    how: Trying,
) -> dict[str, dict[str, float]]:
    if not masks:
        return {}
    # Imported and loaded only now: what the scores took is gone from memory by then.
    from lesion.masks.validate import Validation

    check = Validation(model, pairs, behaviours.harm, behaviours.benign, *how)
    with check.progress("sweep", 1 + len(masks)) as advance:
        harm, benign = check.nll({}, advance)
        intact = {"harm_nll_intact": harm, "benign_nll_intact": benign}
        sizes = dict(zip(("harm_pairs", "benign_pairs"), check.sizes, strict=True))
        return {
            one: {
                **dict(
                    zip(
                        ("harm_nll", "benign_nll"),
                        check.nll(layout.by_name(mask), advance),
                        strict=True,
                    )
                ),
                **intact,
                **sizes,
            }
            for one, mask in masks.items()
        }


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
