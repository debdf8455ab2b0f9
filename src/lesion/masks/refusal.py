"""The mask of the weights of refusal, which attacks zero in addition to a variant's mask."""

import logging
from collections.abc import Mapping
from pathlib import Path

from lesion import __version__
from lesion.masks.jobs import RefusalMaskJob
from lesion.masks.select import Point, select_masks
from lesion.masks.store import write_mask
from lesion.models.layout import Flat, layout_of
from lesion.models.record import read_record
from lesion.scores.store import Pooled, Source, StoredScores, Values

logger = logging.getLogger(__name__)

REFUSAL_MASK = "refusal-ablation"
"""The name of the mask; no behaviour may have it."""


class _Negated:
    """Importances with the opposite sign, so that the highest are selected first."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def open(self, name: str) -> Values:
        return _NegatedValues(self.source.open(name))


class _NegatedValues:
    def __init__(self, values: Values) -> None:
        self.values = values

    def __getitem__(self, part: slice) -> Flat:
        return -self.values[part]


def write_refusal_mask(
    model: Path, scores: Mapping[str, Path], out: Path, job: RefusalMaskJob, processes: int = 1
) -> None:
    """Select the weights of refusal: the top q on refusals without the top p on benign pairs.

    Args:
        model: checkpoint folder.
        scores: folders of scores by behaviour.
        out: the mask file, of role `refusal`, of which no checkpoint can be written.
        job: p, q, scope, and whether signed scores are used.
        processes: how many parts of the scores are read at a time.

    Raises:
        LesionError: q selects no weight, or truncated scores do not serve p, q or the scope.

    Source:
        Wei et al. 2024 (arXiv 2402.05162), set difference, with unsigned scores.
    """
    layout, selection = layout_of(model), job.selection
    shapes = layout.stored_shapes
    point = Point(selection.p, selection.q)

    def pooled(names: list[str], kind: str, p: float, q: float) -> Pooled:
        parts = [StoredScores(scores[name], kind, shapes) for name in names]
        for stored in parts:
            stored.check_covers(p, q, selection.scope)
        return Pooled(parts, job.pool)

    refusals: Source
    if selection.signed:
        refusals = pooled(job.refusal, "snip", 0, point.q)
    else:
        refusals = _Negated(pooled(job.refusal, "preservation", point.q, 0))
    masks = select_masks(
        {REFUSAL_MASK: refusals},
        pooled(job.benign, "preservation", point.p, 0),
        layout,
        [point],
        rule="difference",
        scope=selection.scope,
        processes=processes,
    )
    (mask,) = masks[REFUSAL_MASK]
    header = {
        "lesion_version": __version__,
        "model_digest": str(read_record(model)["digest"]),
        "mask": REFUSAL_MASK,
        "role": "refusal",
        "p": repr(point.p),
        "q": repr(point.q),
        "rule": "difference",
        "scope": selection.scope,
        "score": "signed SNIP W*dL/dW; the most negative are taken"
        if selection.signed
        else "importance for refusals; the highest are taken",
    }
    write_mask(mask, shapes, header, out)
    logger.info(f"masks: {REFUSAL_MASK}: {mask.size} of {layout.size} weights")
