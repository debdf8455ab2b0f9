"""The sweep over (p, q): the shared mask of every point, and its NLL on validation pairs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

from lesion.io.formats import digest
from lesion.io.reuse import fill_rows, key, write_rows
from lesion.masks.algebra import vote
from lesion.masks.jobs import Selection, SweepJob
from lesion.masks.select import Point, select_masks
from lesion.models.layout import FlatIndices, Layout, layout_of
from lesion.models.record import read_record
from lesion.pairs.tables import encode_pairs, kept_pairs
from lesion.scores.store import Pooled, StoredScores

SWEEP = {
    "p": pl.Float64,
    "q": pl.Float64,
    "weights": pl.Int64,
    "harm_nll": pl.Float64,
    "benign_nll": pl.Float64,
    "harm_nll_unmodified": pl.Float64,
    "benign_nll_unmodified": pl.Float64,
    "harm_pairs": pl.Int64,
    "benign_pairs": pl.Int64,
    "key": pl.String,
}


class ScoreSet(NamedTuple):
    """The scores of a study, checked to serve every requested point."""

    layout: Layout
    snips: dict[str, StoredScores]
    importance: Pooled

    @classmethod
    def open(
        cls,
        model: Path,
        scores: Mapping[str, Path],
        names: Sequence[str],
        benign: Sequence[str],
        selection: Selection,
        points: Sequence[Point],
    ) -> "ScoreSet":
        """Open the signed scores of `names`, and the importance pooled over `benign`.

        `scores` are folders by behaviour, and `points` every (p, q) that they have to serve.
        """
        layout = layout_of(model)
        shapes = layout.stored_shapes
        snips = {name: StoredScores(scores[name], "snip", shapes) for name in names}
        parts = [StoredScores(scores[name], "preservation", shapes) for name in benign]
        p, q = max(point.p for point in points), max(point.q for point in points)
        for stored in (*snips.values(), *parts):
            stored.check_covers(p, q, selection.scope)
        return cls(layout, snips, Pooled(parts, selection.pool))

    def select(self, points: Sequence[Point], selection: Selection) -> dict[str, list[FlatIndices]]:
        """Every behaviour's mask at every point, in one read of the scores."""
        rule, scope = selection.rule, selection.scope
        sources = (self.snips, self.importance, self.layout)
        return select_masks(*sources, points, rule=rule, scope=scope)


def sweep(
    model: Path, scores: Mapping[str, Path], pairs: Mapping[str, Path], out: Path, job: SweepJob
) -> None:
    """Measure the shared mask's validation NLL at every point; the scores are read once.

    Rows of masks that have not changed are reused from an earlier version of `out`.

    Args:
        model: checkpoint folder.
        scores: folders of scores by behaviour.
        pairs: tables of PAIRS by behaviour.
        out: table of SWEEP.
        job: the points, and how masks are selected and measured.
    """
    behaviours, selection = job.behaviours, job.selection
    points = [Point(*point) for point in job.points]
    opened = ScoreSet.open(model, scores, behaviours.harm, behaviours.benign, selection, points)
    own = opened.select(points, selection)
    shared = [
        vote([own[name][n] for name in behaviours.harm], selection.at_least)
        for n in range(len(points))
    ]
    validation = _validation_digest(model, pairs, job)
    rows = [
        {
            "p": point.p,
            "q": point.q,
            "weights": mask.size,
            "key": key(mask=digest(mask.tolist()), of=validation),
        }
        for point, mask in zip(points, shared, strict=True)
    ]

    def measure(numbers: list[int]) -> list[dict[str, float]]:
        # The model is loaded only now, after the memory of the scores has been freed.
        from lesion.masks.validate import validation_nll

        masks = [opened.layout.by_name(shared[number]) for number in numbers]
        return validation_nll(model, pairs, job, masks)

    log = "sweep: measured {} of {} points"
    write_rows(fill_rows(rows, out, SWEEP, measure, log), out)


def _validation_digest(model: Path, pairs: Mapping[str, Path], job: SweepJob) -> str:
    """Digest of everything that determines the NLL of a mask, apart from the mask."""
    from lesion.models.load import open_chat, precision

    chat = open_chat(model)
    examples = {
        name: encode_pairs(chat, kept_pairs(pairs[name], "validation"))
        for name in (*job.behaviours.harm, *job.behaviours.benign)
    }
    roles = {name: job.behaviours.role(name) for name in examples}
    return digest([read_record(model)["digest"], examples, roles, precision(job.device.dtype)])
