"""Control masks: as many weights in every matrix as the shared mask, selected by another rule.

If a control has the same effect as the mask, the mask's selection rule explains nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lesion.io.formats import LesionError
from lesion.masks.select import Preserved
from lesion.masks.sweep import ScoreSet
from lesion.models.layout import Flat, FlatIndices, Layout
from lesion.models.weights import StoredWeights
from lesion.scores.lowest import first_lowest
from lesion.scores.shards import NORMS
from lesion.scores.store import Pooled, Source, StoredNorms, StoredScores
from lesion.study.job import Behaviours

_DRAWS = 64

DESCRIPTIONS = {
    "random": "as many random weights in every matrix as `shared`",
    "random-magnitude": "as many random weights in every matrix, of the same size |W|",
    "unsigned": "the largest |W * dL/dW| of harm pairs outside the preserved",
    "wanda": "the largest |W| * ||X|| of harm pairs outside the preserved",
    "unimportant": "the lowest preservation importance",
    "benign-signed": "the most negative signed SNIP of benign pairs outside the preserved",
}
"""How each control selects its weights; all have the size of `shared` in every matrix.

Mask headers have these texts, so changing one changes the bytes of masks."""


class ControlInputs(NamedTuple):
    """The inputs of controls; signed scores are there only if a control needs them."""

    harm: Source | None
    benign: Source | None
    importance: Source
    preserved: Preserved
    weights: StoredWeights
    norms: Sequence[StoredNorms]


def control_inputs(
    model: Path,
    scores: Mapping[str, Path],
    opened: ScoreSet,
    behaviours: Behaviours,
    controls: Sequence[str],
    p: float,
    scope: str,
    wrapped: Callable[[Source], Source] = lambda source: source,
) -> ControlInputs:
    """The inputs of the named controls.

    Args:
        model: checkpoint folder.
        scores: folders of scores by behaviour.
        opened: the scores of the masks that the controls are compared with.
        behaviours: the study's.
        controls: keys of DESCRIPTIONS.
        p: the fraction that is preserved.
        scope: the weights that it applies to.
        wrapped: a wrapper of each source, to cache what is read from it.
    """
    shapes = opened.layout.stored_shapes

    def pooled(control: str, names: Sequence[str]) -> Source | None:
        # Only where it is needed: of several tails there is no mean.
        if control not in controls:
            return None
        parts = [StoredScores(scores[name], "snip", shapes) for name in names]
        return wrapped(Pooled(parts, "mean"))

    importance = wrapped(opened.importance)
    norms = [scores[name] / NORMS for name in behaviours.harm]
    return ControlInputs(
        harm=pooled("unsigned", behaviours.harm),
        benign=pooled("benign-signed", behaviours.benign),
        importance=importance,
        preserved=Preserved(importance, opened.layout, p, scope),
        weights=StoredWeights(model),
        norms=[StoredNorms(path) for path in norms if path.is_file()],
    )


def control_masks(
    names: Sequence[str], like: FlatIndices, layout: Layout, inputs: ControlInputs, seed: int
) -> dict[str, FlatIndices]:
    """Select the named controls, one matrix at a time.

    Args:
        names: keys of DESCRIPTIONS.
        like: the mask whose size in every matrix they copy.
        layout: the prunable parameters.
        inputs: scores, importance, weights.
        seed: of the random controls.

    Raises:
        LesionError: an input of a control is missing; the message says how to get it.
    """
    parts: dict[str, list[FlatIndices]] = {name: [] for name in names}
    rng = {name: np.random.default_rng([seed, list(DESCRIPTIONS).index(name)]) for name in names}
    for number, own in enumerate(layout.split(like)):
        for name in names if own.size else ():
            chosen = _choose(name, own, number, layout, inputs, rng[name])
            parts[name].append(np.sort(chosen) + layout.offsets[number])
    empty = np.empty(0, np.int64)
    return {name: np.concatenate([empty, *each]) for name, each in parts.items()}


def _choose(
    name: str,
    own: FlatIndices,
    number: int,
    layout: Layout,
    inputs: ControlInputs,
    rng: np.random.Generator,
) -> FlatIndices:
    parameter, shape = layout.names[number], layout.shapes[number]
    size = shape[0] * shape[1]

    def scores(source: Source | None) -> Flat:
        assert source is not None
        return source.open(parameter)[0:size]

    def magnitude() -> Flat:
        return np.abs(inputs.weights.open(parameter))

    if name == "random":
        return rng.choice(size, size=own.size, replace=False)
    if name == "random-magnitude":
        return same_magnitude(own, magnitude(), rng)
    if name == "unimportant":
        return first_lowest(scores(inputs.importance), own.size)
    if name == "unsigned":
        values = -np.abs(scores(inputs.harm))
    elif name == "benign-signed":
        values = scores(inputs.benign)
    else:
        if not inputs.norms:
            raise LesionError("masks: the control `wanda` needs the inputs' norms from scoring")
        squares = np.sum([norms.open(parameter) for norms in inputs.norms], axis=0)
        norm = np.sqrt(squares, dtype=np.float32)
        across = norm[:, None] if parameter in layout.transposed else norm[None, :]
        values = -(magnitude().reshape(shape) * across).reshape(-1)
    preserved = inputs.preserved.of(number)
    return first_lowest(np.where(preserved, np.float32(np.inf), values), own.size)


def same_magnitude(own: FlatIndices, magnitude: Flat, rng: np.random.Generator) -> FlatIndices:
    """Random indices outside `own`: for each of `own`, the nearest in |W| of several draws."""
    taken: NDArray[np.bool_] = np.zeros(magnitude.size, np.bool_)
    taken[own] = True
    left, chosen = own, []
    while left.size:
        draws = rng.integers(magnitude.size, size=(left.size, _DRAWS))
        distance = np.abs(magnitude[draws] - magnitude[left][:, None])
        distance[taken[draws]] = np.inf
        best = draws[np.arange(left.size), distance.argmin(1)]
        usable = np.zeros(left.size, np.bool_)
        usable[np.unique(best, return_index=True)[1]] = True
        usable &= ~taken[best]
        taken[best[usable]] = True
        chosen.append(best[usable])
        left = left[~usable]
        if taken.all():
            break
    return np.concatenate([np.empty(0, np.int64), *chosen])
