"""Control masks: as many weights in every matrix as the shared mask, selected by another rule.

If a control has the same effect as the mask, the mask's selection rule explains nothing.
"""

from collections.abc import Mapping, Sequence
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


DRAWN = ("random", "random-magnitude")
"""The controls that are drawn at random, of which curves average several draws."""


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
) -> ControlInputs:
    """The inputs of the named controls, which are compared with masks of the scores `opened`."""
    shapes = opened.layout.stored_shapes

    def pooled(control: str, names: Sequence[str]) -> Source | None:
        # Only where it is needed: of several tails there is no mean.
        if control not in controls:
            return None
        parts = [StoredScores(scores[name], "snip", shapes) for name in names]
        return Pooled(parts, "mean")

    norms = [scores[name] / NORMS for name in behaviours.harm]
    return ControlInputs(
        harm=pooled("unsigned", behaviours.harm),
        benign=pooled("benign-signed", behaviours.benign),
        importance=opened.importance,
        preserved=Preserved(opened.importance, opened.layout, p, scope),
        weights=StoredWeights(model),
        norms=[StoredNorms(path) for path in norms if path.is_file()],
    )


def control_masks(
    names: Sequence[str],
    likes: Sequence[FlatIndices],
    layout: Layout,
    inputs: ControlInputs,
    seed: int,
) -> dict[str, list[FlatIndices]]:
    """Select the named controls, one matrix at a time, which is read once for all sizes.

    Args:
        names: keys of DESCRIPTIONS.
        likes: the masks whose sizes in every matrix they copy.
        layout: the prunable parameters.
        inputs: scores, importance, weights.
        seed: of the random controls.

    Returns:
        Each control's masks, one like each of `likes`.

    Raises:
        LesionError: an input of a control is missing; the message says how to get it.
    """
    order = list(DESCRIPTIONS)
    rng = {
        name: [np.random.default_rng([seed, order.index(name)]) for _ in likes] for name in names
    }
    parts = {name: [[np.empty(0, np.int64)] for _ in likes] for name in names}
    for number, matrices in enumerate(zip(*map(layout.split, likes), strict=True)):
        for name in names if any(own.size for own in matrices) else ():
            values = _values(name, number, layout, inputs)
            for own, made, generator in zip(matrices, parts[name], rng[name], strict=True):
                if own.size:
                    chosen = _choose(name, own, values, generator)
                    made.append(np.sort(chosen) + layout.offsets[number])
    return {name: [np.concatenate(each) for each in made] for name, made in parts.items()}


def _values(name: str, number: int, layout: Layout, inputs: ControlInputs) -> Flat:
    """The values of a matrix by which a control selects its weights, mostly the lowest ones."""
    parameter, shape = layout.names[number], layout.shapes[number]
    size = shape[0] * shape[1]

    def scores(source: Source | None) -> Flat:
        assert source is not None
        return source.open(parameter)[0:size]

    if name == "random":
        return np.zeros(size, np.float32)
    if name == "random-magnitude":
        return np.abs(inputs.weights.open(parameter))
    if name == "unimportant":
        return scores(inputs.importance)
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
        values = -(np.abs(inputs.weights.open(parameter)).reshape(shape) * across).reshape(-1)
    return np.where(inputs.preserved.of(number), np.float32(np.inf), values)


def _choose(name: str, own: FlatIndices, values: Flat, rng: np.random.Generator) -> FlatIndices:
    if name == "random":
        return rng.choice(values.size, size=own.size, replace=False)
    if name == "random-magnitude":
        return same_magnitude(own, values, rng)
    return first_lowest(values, own.size)


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
