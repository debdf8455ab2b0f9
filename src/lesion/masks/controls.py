"""Control masks: as many weights in every matrix as the mask they stand beside, chosen otherwise.

If one of them does what the mask does, the mask's way of choosing explains nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lesion.io.formats import LesionError
from lesion.masks.select import Preserved
from lesion.masks.sweep import ScoreSet
from lesion.models.layout import Flat, Layout, Places
from lesion.models.weights import StoredWeights
from lesion.scores.lowest import first_lowest
from lesion.scores.store import NORMS, Pooled, Source, StoredNorms, StoredScores
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
"""How each control chooses its weights; every one has `shared`'s size in every matrix."""


class ControlInputs(NamedTuple):
    """What controls are made from; signed scores only for those that look at them."""

    harm: Source | None
    benign: Source | None
    importance: Source
    preserved: Preserved
    model: Path
    norms: Sequence[Path]


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
    """What the named controls are made from.

    Args:
        model: checkpoint folder.
        scores: folders of scores by behaviour.
        opened: scores of the masks that the controls stand beside.
        behaviours: the study's.
        controls: names of MADE.
        p: fraction preserved.
        scope: over which weights it counts.
        wrapped: put around each source, to cache what is read of it.
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
        model=model,
        norms=[path for path in norms if path.is_file()],
    )


def control_masks(
    names: Sequence[str], like: Places, layout: Layout, material: ControlInputs, seed: int
) -> dict[str, Places]:
    """Make the named controls, a matrix at a time.

    Args:
        names: of DESCRIPTIONS.
        like: the mask whose size in every matrix they take.
        layout: the candidates.
        material: scores, importance, weights.
        seed: of the random ones.

    Raises:
        LesionError: a control lacks what it needs, with the way to get it.
    """
    parts: dict[str, list[Places]] = {name: [] for name in names}
    dice = {name: np.random.default_rng([seed, list(DESCRIPTIONS).index(name)]) for name in names}
    read = _Read(material, layout)
    for number, own in enumerate(layout.split(like)):
        for name in names if own.size else ():
            chosen = _choose(name, own, number, read, dice[name])
            parts[name].append(np.sort(chosen) + layout.offsets[number])
    nothing = np.empty(0, np.int64)
    return {name: np.concatenate([nothing, *each]) for name, each in parts.items()}


class _Read:
    """What lies behind the controls, read for one matrix at a time."""

    def __init__(self, material: ControlInputs, layout: Layout) -> None:
        self.material, self.layout = material, layout
        self.weights = StoredWeights(material.model)
        self.norms = [StoredNorms(path) for path in material.norms]

    def size(self, number: int) -> int:
        return int(np.prod(self.layout.shapes[number]))

    def scores(self, source: Source, number: int) -> Flat:
        return source.open(self.layout.names[number])[0 : self.size(number)]

    def magnitude(self, number: int) -> Flat:
        return np.abs(self.weights.open(self.layout.names[number]))

    def wanda(self, number: int) -> Flat:
        name, shape = self.layout.names[number], self.layout.shapes[number]
        if not self.norms:
            raise LesionError("masks: the control `wanda` needs the inputs' norms from scoring")
        squares = np.sum([one.open(name) for one in self.norms], axis=0)
        norm = np.sqrt(squares, dtype=np.float32)
        size = self.magnitude(number).reshape(shape)
        across = norm[:, None] if name in self.layout.transposed else norm[None, :]
        found: Flat = (size * across).reshape(-1)
        return found


def _choose(name: str, own: Places, number: int, read: _Read, dice: np.random.Generator) -> Places:
    material = read.material
    if name == "random":
        return dice.choice(read.size(number), size=own.size, replace=False)
    if name == "random-magnitude":
        return same_magnitude(own, read.magnitude(number), dice)
    if name == "unimportant":
        return first_lowest(read.scores(material.importance, number), own.size)
    if name == "unsigned":
        assert material.harm is not None
        values = -np.abs(read.scores(material.harm, number))
    elif name == "wanda":
        values = -read.wanda(number)
    else:
        assert material.benign is not None
        values = read.scores(material.benign, number)
    held = material.preserved.of(number)
    return first_lowest(np.where(held, np.float32(np.inf), values), own.size)


def same_magnitude(own: Places, magnitude: Flat, dice: np.random.Generator) -> Places:
    """Random places outside `own`, each the nearest in |W| of some drawn for one of `own`."""
    taken: NDArray[np.bool_] = np.zeros(magnitude.size, np.bool_)
    taken[own] = True
    left, chosen = own, []
    while left.size:
        draws = dice.integers(magnitude.size, size=(left.size, _DRAWS))
        distance = np.abs(magnitude[draws] - magnitude[left][:, None])
        distance[taken[draws]] = np.inf
        best = draws[np.arange(left.size), distance.argmin(1)]
        fit = np.zeros(left.size, np.bool_)
        fit[np.unique(best, return_index=True)[1]] = True
        fit &= ~taken[best]
        taken[best[fit]] = True
        chosen.append(best[fit])
        left = left[~fit]
        if taken.all():
            break
    return np.concatenate([np.empty(0, np.int64), *chosen])
