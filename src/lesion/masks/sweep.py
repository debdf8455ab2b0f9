"""The sweep over (p, q): the shared mask of every point, and its NLL on validation pairs."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from lesion.io.formats import digest
from lesion.io.reuse import fill_rows, key, known_rows, write_rows
from lesion.masks.algebra import vote
from lesion.masks.jobs import Selection, SweepJob
from lesion.masks.select import Point, select_masks
from lesion.models.layout import FlatIndices, Layout, layout_of
from lesion.models.record import read_record
from lesion.pairs.tables import encode_pairs, kept_pairs
from lesion.scores.store import Contrast, Pooled, Remembered, Source, StoredScores, check_whole
from lesion.study.job import Behaviours

SWEEP = {
    "p": pl.Float64,
    "q": pl.Float64,
    "contrast": pl.Float64,
    "weights": pl.Int64,
    "harm_nll": pl.Float64,
    "benign_nll": pl.Float64,
    "harm_nll_unmodified": pl.Float64,
    "benign_nll_unmodified": pl.Float64,
    "matched_nll": pl.Float64,
    "matched_nll_unmodified": pl.Float64,
    "harm_pairs": pl.Int64,
    "benign_pairs": pl.Int64,
    "matched_pairs": pl.Int64,
    "key": pl.String,
}
"""`contrast` is 0, and what is measured on matched requests null, in a study without any."""


class ScoreSet(NamedTuple):
    """The scores of a study, checked to serve every requested point."""

    layout: Layout
    snips: dict[str, Source]
    """The signed scores that masks are selected by; a harm type's may be a contrast."""
    importance: Pooled

    @classmethod
    def open(
        cls,
        model: Path,
        scores: Mapping[str, Path],
        names: Sequence[str],
        behaviours: Behaviours,
        selection: Selection,
        points: Sequence[Point],
        contrast: float = 0.0,
        of_benign: Collection[str] | None = None,
    ) -> "ScoreSet":
        """Open the signed scores of `names`, and the importance pooled over the harmless ones.

        Args:
            model: checkpoint folder.
            scores: folders of scores by behaviour.
            names: behaviours to select masks of.
            behaviours: all behaviours by role.
            selection: how masks are selected.
            points: every (p, q) that the scores have to serve.
            contrast: how many times the scores of its matched requests are subtracted from a harm
                type's. Unless it is 0, their importance is preserved too.
            of_benign: those of `names` of whose scores the benign ones are subtracted
                (`selection.benign_contrast`); the harm types with a contrast, if it is None.
        """
        layout = layout_of(model)
        shapes = layout.stored_shapes
        matched = {harm: name for name, harm in behaviours.matched.items() if contrast}
        signed = {
            name: StoredScores(scores[name], "snip", shapes)
            for name in {*names, *(matched[name] for name in names if name in matched)}
        }
        preserved = [*behaviours.benign, *matched.values()]
        parts = [StoredScores(scores[name], "preservation", shapes) for name in preserved]
        p, q = max(point.p for point in points), max(point.q for point in points)
        for stored in (*signed.values(), *parts):
            stored.check_covers(p, q, selection.scope)
        weight = selection.benign_contrast
        less = {*names} & {*(matched if of_benign is None else of_benign)} if weight else set()
        of_all = [StoredScores(scores[name], "snip", shapes) for name in behaviours.benign if less]
        minus: dict[str, list[tuple[Source, float]]] = {name: [] for name in names}
        for name in {*names} & {*matched}:
            minus[name].append((signed[matched[name]], contrast))
        if of_all:
            # Of several tails there is no mean, so that they are refused before.
            check_whole([*signed.values(), *of_all])
            pooled = Remembered(Pooled(of_all, "mean"))
            for name in less:
                minus[name].append((pooled, weight))
        snips: dict[str, Source] = {
            name: Contrast(signed[name], own) if own else signed[name]
            for name, own in minus.items()
        }
        return cls(layout, snips, Pooled(parts, selection.pool))

    def select(
        self,
        points: Sequence[Point],
        selection: Selection,
        *,
        at_most: bool = False,
        processes: int = 1,
    ) -> dict[str, list[FlatIndices]]:
        """Every behaviour's mask at every point, in one read of the scores."""
        rule, scope = selection.rule, selection.scope
        sources = (self.snips, self.importance, self.layout)
        return select_masks(
            *sources, points, rule=rule, scope=scope, at_most=at_most, processes=processes
        )


def sweep(
    model: Path, scores: Mapping[str, Path], pairs: Mapping[str, Path], out: Path, job: SweepJob
) -> None:
    """Measure the shared mask's validation NLL at every point; the scores are read once.

    Points with a larger q than one that breaks the model are left out. Rows of masks that have not
    changed are reused from an earlier version of `out`.

    Args:
        model: checkpoint folder.
        scores: folders of scores by behaviour.
        pairs: tables of PAIRS by behaviour.
        out: table of SWEEP.
        job: the points, and how masks are selected and measured.
    """
    behaviours, selection, layout = job.behaviours, job.selection, layout_of(model)
    validation = _validation_digest(model, pairs, job)
    rows: list[dict[str, Any]] = []
    shared: list[FlatIndices] = []
    for contrast in sorted({point[2] for point in job.points}):
        points = [Point(*point[:2]) for point in job.points if point[2] == contrast]
        harm = behaviours.harm
        opened = ScoreSet.open(model, scores, harm, behaviours, selection, points, contrast)
        own = opened.select(points, selection)
        for number, point in enumerate(points):
            mask = vote([own[name][number] for name in harm], selection.at_least)
            identity = {"key": key(mask=digest(mask.tolist()), of=validation)}
            rows.append({**point._asdict(), "contrast": contrast, "weights": mask.size, **identity})
            shared.append(mask)

    known = known_rows(out, {name: SWEEP[name] for name in (*_NLLS, "key")})

    def measure(numbers: list[int]) -> list[dict[str, float | None]]:
        # The model is loaded only now, after the memory of the scores has been freed.
        from lesion.masks.validate import validation_nll

        made: dict[int, dict[str, float | None]] = {}
        with validation_nll(model, pairs, job, len(numbers)) as nll:
            # In this order, all that decides whether a mask is of use has been measured before it.
            for number in sorted(numbers, key=lambda number: rows[number]["q"]):
                alike = [row for row in rows if row["key"] == rows[number]["key"]]
                needed = not all(_broken_below(row, rows, known, job.stop) for row in alike)
                made[number] = nll(layout.by_name(shared[number]) if needed else None)
                known[rows[number]["key"]] = made[number]
        return [made[number] for number in numbers]

    log = "sweep: measured {} of {} points"
    table = fill_rows(rows, out, SWEEP, measure, log)
    filled = {row["key"]: row for row in table.iter_rows(named=True)}
    tried = [not _broken_below(row, rows, filled, job.stop) for row in rows]
    write_rows(table.filter(pl.Series(tried, dtype=pl.Boolean)), out)


_NLLS = ("benign_nll", "benign_nll_unmodified")


def _broken_below(
    row: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    known: Mapping[str, Mapping[str, Any]],
    stop: float,
) -> bool:
    """Whether a smaller mask of the same p and contrast breaks the model.

    Masks of one p and one contrast grow with q.
    """
    for other in rows:
        same = (other["p"], other["contrast"]) == (row["p"], row["contrast"])
        if same and other["q"] < row["q"]:
            nll, before = (known.get(other["key"], {}).get(name) for name in _NLLS)
            # What is no number is no better than what is large.
            if nll is not None and before is not None and not nll <= before + stop:
                return True
    return False


def _validation_digest(model: Path, pairs: Mapping[str, Path], job: SweepJob) -> str:
    """Digest of everything that determines the NLL of a mask, apart from the mask."""
    from lesion.models.load import open_chat, precision

    chat = open_chat(model)
    examples = {
        name: encode_pairs(chat, kept_pairs(pairs[name], "validation"))
        for name in job.behaviours.names
    }
    roles = {name: job.behaviours.role(name) for name in examples}
    return digest([read_record(model)["digest"], examples, roles, precision(job.device.dtype)])
