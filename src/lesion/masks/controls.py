"""Control masks: as many weights in every matrix as the shared mask, selected by another rule.

If a control has the same effect as the mask, the mask's selection rule explains nothing.
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lesion.io.formats import LesionError, digest
from lesion.masks.select import Preserved
from lesion.masks.sweep import ScoreSet
from lesion.models.layout import Flat, FlatIndices, Layout
from lesion.models.weights import StoredWeights
from lesion.scores.lowest import first_lowest
from lesion.scores.shards import NORMS
from lesion.scores.store import Pooled, Source, StoredNorms, StoredScores
from lesion.study.controls import CONTROL_PLUGINS, controls_among
from lesion.study.job import Behaviours

_DRAWS = 64
_PART = 4096


class ControlInputs(NamedTuple):
    """The inputs of controls; signed scores are there only if a control needs them."""

    harm: Source | None
    benign: Source | None
    importance: Source
    preserved: Preserved
    weights: StoredWeights
    norms: Sequence[StoredNorms]


class ControlMatrix(NamedTuple):
    """A matrix of the model, and what controls select its weights by; values are flat, one for each
    weight.
    """

    name: str
    shape: tuple[int, int]
    transposed: bool
    inputs: ControlInputs
    source: Source | None
    """The scores that the control names."""

    @property
    def size(self) -> int:
        """The number of its weights."""
        return math.prod(self.shape)

    def scores(self) -> Flat:
        """The scores that the control names, pooled over behaviours."""
        assert self.source is not None
        return self.source.open(self.name)[0 : self.size]

    def magnitude(self) -> Flat:
        """|W|."""
        return np.abs(self.inputs.weights.open(self.name))

    def log_scores(self) -> Flat:
        """Logarithms of positive scores."""
        return _log(self.scores())


class ControlRule(NamedTuple):
    """How a control selects as many weights in a matrix as the shared mask has there."""

    description: str
    """Mask headers have this text, so changing it changes the bytes of masks."""
    values: Callable[[ControlMatrix], Flat]
    """Values of a matrix's weights, of which the lowest are selected, or from which `draw` does."""
    draw: Callable[[FlatIndices, Flat, np.random.Generator], FlatIndices] | None = None
    """Draws weights at random, given the shared mask's and the values; curves average several
    draws."""
    scores: Literal["harm", "benign", "importance"] | None = None
    """The field of `ControlInputs` that it ranks all weights by, for which truncated scores do not
    serve: one of lesion's own is also one of `NEEDS_ALL_SCORES`, by which a study is checked."""
    outside: bool = False
    """Whether it selects outside the preserved weights."""
    apart: bool = False
    """Whether it selects outside the shared mask."""
    norms: bool = False
    """Whether it needs the norms of the matrices' inputs, which scoring then writes; stacked
    experts have none."""


def _draw_any(own: FlatIndices, values: Flat, rng: np.random.Generator) -> FlatIndices:
    return rng.choice(values.size, size=own.size, replace=False)


def most_similar(own: FlatIndices, values: Flat, rng: np.random.Generator) -> FlatIndices:
    """Random indices outside `own`: for each of `own`, the most similar of several draws.

    Args:
        own: the indices to resemble.
        values: [weights] or [properties, weights]; the sum of absolute differences counts.
        rng: of the draws.
    """
    properties = np.atleast_2d(values)
    count, size = properties.shape
    # Two properties are seldom matched at once.
    tries = _DRAWS if count == 1 else max(_DRAWS, min(16 * _DRAWS, size // 16))
    taken: NDArray[np.bool_] = np.zeros(size, np.bool_)
    taken[own] = True
    left, chosen = own, []
    while left.size:
        # Many draws of many weights would need gigabytes.
        part, rest = (left, left[:0]) if count == 1 else (left[:_PART], left[_PART:])
        draws = rng.integers(size, size=(part.size, tries))
        distance = np.abs(properties[:, draws] - properties[:, part][..., None]).sum(0)
        distance[taken[draws]] = np.inf
        best = draws[np.arange(part.size), distance.argmin(1)]
        usable = np.zeros(part.size, np.bool_)
        usable[np.unique(best, return_index=True)[1]] = True
        usable &= ~taken[best]
        taken[best[usable]] = True
        chosen.append(best[usable])
        left = np.concatenate([part[~usable], rest])
        if taken.all():
            break
    return np.concatenate([np.empty(0, np.int64), *chosen])


def same_lines(own: FlatIndices, matrix: Flat, rng: np.random.Generator) -> FlatIndices:
    """Random indices with the row and column counts of `own`; `own` itself, if no others are found.

    Args:
        own: indices into the flat matrix.
        matrix: any values, [rows, columns].
        rng: of the draws.
    """
    rows, columns = np.divmod(own, matrix.shape[1])
    columns = rng.permutation(columns)
    for _ in range(_DRAWS):
        drawn: FlatIndices = rows * matrix.shape[1] + columns
        _, first = np.unique(drawn, return_index=True)
        if first.size == own.size:
            return drawn
        again = rng.random(own.size) < 2 * (own.size - first.size) / own.size
        again[np.setdiff1d(np.arange(own.size), first)] = True
        columns[again] = rng.permutation(columns[again])
    return own


def _log(values: Flat) -> Flat:
    return np.log(np.maximum(values, np.finfo(np.float32).tiny))


def _wanda(matrix: ControlMatrix) -> Flat:
    if not matrix.inputs.norms:
        raise LesionError("masks: the control `wanda` needs the inputs' norms from scoring")
    squares = np.sum([norms.open(matrix.name) for norms in matrix.inputs.norms], axis=0)
    norm: Flat = np.sqrt(squares, dtype=np.float32)
    across = norm[:, None] if matrix.transposed else norm[None, :]
    return -(matrix.magnitude().reshape(matrix.shape) * across).reshape(-1)


CONTROLS = {
    "random": ControlRule(
        "as many random weights in every matrix as `shared`",
        lambda matrix: np.zeros(matrix.size, np.float32),
        draw=_draw_any,
    ),
    "random-magnitude": ControlRule(
        "as many random weights in every matrix, of the same size |W|",
        ControlMatrix.magnitude,
        draw=most_similar,
    ),
    "unsigned": ControlRule(
        "the largest |W * dL/dW| of harm pairs outside the preserved",
        lambda matrix: -np.abs(matrix.scores()),
        scores="harm",
        outside=True,
    ),
    "wanda": ControlRule(
        "the largest |W| * ||X|| of harm pairs outside the preserved",
        _wanda,
        outside=True,
        norms=True,
    ),
    "unimportant": ControlRule(
        "the lowest preservation importance", ControlMatrix.scores, scores="importance"
    ),
    "benign-signed": ControlRule(
        "the most negative signed SNIP of benign pairs outside the preserved",
        ControlMatrix.scores,
        scores="benign",
        outside=True,
    ),
    "opposite-sign": ControlRule(
        "the most positive signed SNIP of harm pairs outside the preserved",
        lambda matrix: -matrix.scores(),
        scores="harm",
        outside=True,
    ),
    "second-q": ControlRule(
        "the most negative signed SNIP of harm pairs outside the preserved and `shared`",
        ControlMatrix.scores,
        scores="harm",
        outside=True,
        apart=True,
    ),
    "random-importance": ControlRule(
        "as many random weights in every matrix, of the same preservation importance",
        ControlMatrix.log_scores,
        draw=most_similar,
        scores="importance",
    ),
    "random-magnitude-importance": ControlRule(
        "as many random weights in every matrix, of the same size |W| and preservation importance",
        lambda matrix: np.stack([_log(matrix.magnitude()), matrix.log_scores()]),
        draw=most_similar,
        scores="importance",
    ),
    "random-lines": ControlRule(
        "as many random weights in every row and every column of every matrix",
        lambda matrix: np.zeros(matrix.shape, np.float32),
        draw=same_lines,
    ),
}
"""lesion's own controls, by their names in a study. The place of a control seeds its draws, so new
ones are added at the end."""


def control_rule(name: str) -> ControlRule:
    """The rule of a control of lesion or of a plug-in.

    Raises:
        PluginError: the plug-in is unusable.
    """
    rule: ControlRule | None = CONTROL_PLUGINS.get(name)
    return CONTROLS[name] if rule is None else rule


def _number(name: str) -> int:
    """What seeds a control's draws, beside the seed: its place, or else the digest of its name."""
    return list(CONTROLS).index(name) if name in CONTROLS else int(digest(name)[:16], 16)


def needing_norms(masks: Iterable[str], behaviours: Collection[str]) -> list[str]:
    """Those of a study's masks that are controls which need the norms of inputs."""
    return [name for name in controls_among(masks, behaviours) if control_rule(name).norms]


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
    needed = {control_rule(name).scores for name in controls}

    def pooled(names: Sequence[str]) -> Source:
        return Pooled([StoredScores(scores[name], "snip", shapes) for name in names], "mean")

    norms = [scores[name] / NORMS for name in behaviours.harm]
    return ControlInputs(
        # Only where they are needed: of several tails there is no mean.
        harm=pooled(behaviours.harm) if "harm" in needed else None,
        benign=pooled(behaviours.benign) if "benign" in needed else None,
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
        names: controls of lesion and of plug-ins.
        likes: the masks whose sizes in every matrix they copy.
        layout: the prunable parameters.
        inputs: scores, importance, weights.
        seed: of the random controls.

    Returns:
        Each control's masks, one like each of `likes`.

    Raises:
        LesionError: an input of a control is missing; the message says how to get it.
    """
    rng = {name: [np.random.default_rng([seed, _number(name)]) for _ in likes] for name in names}
    parts = {name: [[np.empty(0, np.int64)] for _ in likes] for name in names}
    for number, matrices in enumerate(zip(*map(layout.split, likes), strict=True)):
        for name in names if any(own.size for own in matrices) else ():
            control = control_rule(name)
            values = _values(control, number, layout, inputs)
            for own, made, generator in zip(matrices, parts[name], rng[name], strict=True):
                if own.size:
                    chosen = _chosen(control, own, values, generator)
                    made.append(np.sort(chosen) + layout.offsets[number])
    return {name: [np.concatenate(each) for each in made] for name, made in parts.items()}


def _chosen(
    control: ControlRule, own: FlatIndices, values: Flat, generator: np.random.Generator
) -> FlatIndices:
    if control.draw:
        return control.draw(own, values, generator)
    if control.apart:
        values = values.copy()
        values[own] = np.inf
    return first_lowest(values, own.size)


def _values(control: ControlRule, number: int, layout: Layout, inputs: ControlInputs) -> Flat:
    name = layout.names[number]
    sources = {"harm": inputs.harm, "benign": inputs.benign, "importance": inputs.importance}
    source = sources[control.scores] if control.scores else None
    matrix = ControlMatrix(name, layout.shapes[number], name in layout.transposed, inputs, source)
    values = control.values(matrix)
    if control.outside:
        return np.where(inputs.preserved.of(number), np.float32(np.inf), values)
    return values
