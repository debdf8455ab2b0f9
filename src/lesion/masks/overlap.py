"""The overlap of two masks, compared with its distribution under three null models. Pure.

The nulls are increasingly strict: weights drawn anywhere among the candidates (`uniform`); within
each matrix (`matrix`); and within each matrix given both masks' row and column counts
(`rows_columns`), because a row or column that is important is important for every behaviour.

The strict null treats each mask's cells as independent, with odds x_i * y_j such that the expected
number of weights in every row and column equals the observed one. Of all such distributions it has
the largest entropy (Squartini & Garlaschelli 2011, doi:10.1088/1367-2630/13/8/083001). No cell has
a probability above 1, which a product of the margins can have where a mask is dense.

Under all three nulls the overlap is a sum of independent Bernoulli draws; a hypergeometric count
is such a sum too (Vatutin & Mikhailov 1982, Theory Probab. Appl. 27:734).
"""

from collections.abc import Mapping
from itertools import combinations
from typing import NamedTuple

import numpy as np
import polars as pl
import scipy  # its parts, which take a second, when they are first used
from numpy.typing import NDArray

from lesion.models.layout import FlatIndices, Layout

Vector = NDArray[np.float64]

RESAMPLES = 1000
INTERVAL = (2.5, 97.5)
"""Percentiles of the bootstrap between which `enrichment_low` and `enrichment_high` lie."""

_EXACT = 1e-8
"""The fit ends when no line's expected weights have a larger relative error."""
_STEPS = 200
_LONGEST = 4.0
"""The largest change of the logarithm of any odds in one step."""

SHARING = {
    "p": pl.Float64,
    "q": pl.Float64,
    "size": pl.Int64,
    "at_least": pl.Int64,
    "of": pl.Int64,
    "weights": pl.Int64,
    "expected": pl.Float64,
}
"""Weights that at least so many of the harm types' masks share, by the size of these masks."""


class Overlap(NamedTuple):
    """The sizes and the intersection of two masks, compared with three nulls.

    For each null: `expected` is the mean count, `enrichment` is shared / expected (NaN where
    nothing is expected), and `p` the probability of at least as many shared. `low` and `high`
    bound the strict enrichment with 95% confidence over the matrices, whose weights are not
    independent: the p-values say what *these* matrices show, the interval whether others would.
    """

    size_a: int
    size_b: int
    shared: int
    jaccard: float
    overlap_coefficient: float
    expected_uniform: float
    enrichment_uniform: float
    p_uniform: float
    expected_matrix: float
    enrichment_matrix: float
    p_matrix: float
    expected_rows_columns: float
    enrichment_rows_columns: float
    p_rows_columns: float
    enrichment_low: float
    enrichment_high: float


OVERLAP = {
    **dict.fromkeys(("a", "b", "role_a", "role_b"), pl.String),
    **{
        name: pl.Int64 if kind is int else pl.Float64
        for name, kind in Overlap.__annotations__.items()
    },
}
"""Two masks, the roles of their behaviours, and the fields of `Overlap`."""


class Lines(NamedTuple):
    """The rows, or the columns, that a mask touches in one matrix, grouped by number of weights."""

    touched: FlatIndices
    """Sorted."""
    kinds: NDArray[np.int64]
    """For each touched line, the index of its number of weights in `weights`."""
    weights: Vector
    """The distinct numbers of weights in a line."""
    many: Vector
    """How many lines have each number."""


class Ensemble(NamedTuple):
    """The strict null of one mask in one matrix."""

    rows: Lines
    columns: Lines
    chance: Vector
    """[row kinds, column kinds]: probability that such a cell is in the mask."""


class FittedMask(NamedTuple):
    """A mask with its strict null, which is fitted once for all comparisons."""

    indices: FlatIndices
    sizes: Vector
    """The number of weights in each matrix."""
    ensembles: list[Ensemble | None]
    """One for each matrix; None where the mask has no weight."""


def overlaps(
    masks: Mapping[str, FlatIndices], layout: Layout, seed: int = 0
) -> dict[tuple[str, str], Overlap]:
    """The overlap of all pairs of masks, by their names in the masks' order.

    Args:
        masks: sorted flat indices over the same candidates, by name.
        layout: the prunable parameters.
        seed: of the bootstrap over matrices.
    """
    fitted = {name: fit_null(mask, layout) for name, mask in masks.items()}
    count = len(layout.shapes)
    drawn = np.random.default_rng(seed).multinomial(count, [1 / count] * count, size=RESAMPLES)
    times = drawn.astype(np.float64)
    return {
        (a, b): _compared(fitted[a], fitted[b], layout, times) for a, b in combinations(fitted, 2)
    }


def _compared(a: FittedMask, b: FittedMask, layout: Layout, times: Vector) -> Overlap:
    """Overlap of two masks; `times` is how often a sample draws a matrix: [samples, matrices]."""
    both = np.intersect1d(a.indices, b.indices, assume_unique=True)
    by_matrix = np.diff(np.searchsorted(both, layout.offsets)).astype(np.float64)
    size_a, size_b, shared = a.indices.size, b.indices.size, both.size
    uniform = size_a * size_b / layout.size
    # A sum of hypergeometric counts, one for each matrix.
    cells = np.diff(layout.offsets).astype(np.float64)
    means = a.sizes * b.sizes / cells
    variances = means * (cells - a.sizes) * (cells - b.sizes) / (cells * np.maximum(cells - 1, 1))
    matrix = float(means.sum())
    strict, squares = np.array(
        [_given_lines(*pair) for pair in zip(a.ensembles, b.ensembles, strict=True)]
    ).T
    mean = float(strict.sum())
    low, high = _interval(by_matrix, strict, times)
    return Overlap(
        size_a=size_a,
        size_b=size_b,
        shared=shared,
        jaccard=shared / max(1, size_a + size_b - shared),
        overlap_coefficient=shared / max(1, min(size_a, size_b)),
        expected_uniform=uniform,
        enrichment_uniform=_enrichment(shared, uniform),
        p_uniform=float(scipy.stats.hypergeom.sf(shared - 1, layout.size, size_a, size_b)),
        expected_matrix=matrix,
        enrichment_matrix=_enrichment(shared, matrix),
        p_matrix=at_least(shared, matrix, float(variances.sum())),
        expected_rows_columns=mean,
        enrichment_rows_columns=_enrichment(shared, mean),
        p_rows_columns=at_least(shared, mean, mean - float(squares.sum())),
        enrichment_low=low,
        enrichment_high=high,
    )


def at_least(count: int, mean: float, variance: float) -> float:
    """The probability that a sum of independent Bernoulli draws is at least `count`.

    It is approximated by a Poisson variable with the sum's variance, shifted by mean − variance (a
    translated Poisson: Röllin 2007, Ann. Appl. Probab. 17:1596), with its distribution function
    interpolated between integers. The limits are a Poisson where all draws are unlikely and a
    normal where many are not. Where draws are likely its far tail is too heavy, so small p-values
    are overestimated.
    """
    shift = mean - variance
    # The sum of thousands of terms has a rounding error, and a certain event must get 1.
    if count <= shift + 1e-6:
        return 1.0
    return float(scipy.special.gammainc(count - shift, max(variance, 0.0)))


def _enrichment(shared: int, expected: float) -> float:
    return shared / expected if expected > 0 else float("nan")


def _interval(shared: Vector, expected: Vector, drawn: Vector) -> tuple[float, float]:
    """The interval of the ratio of sums over resampled matrices; NaN if all expectations are 0."""
    below = drawn @ expected
    kept = below > 0
    if not kept.any():
        return float("nan"), float("nan")
    low, high = np.percentile((drawn @ shared)[kept] / below[kept], INTERVAL)
    return float(low), float(high)


def fit_null(mask: FlatIndices, layout: Layout) -> FittedMask:
    """Fit the strict null to a mask, matrix by matrix."""
    parts = layout.split(mask)
    ensembles: list[Ensemble | None] = []
    for part, (_, width) in zip(parts, layout.shapes, strict=True):
        rows, columns = map(_lines, np.divmod(part, width))
        ensembles.append(Ensemble(rows, columns, chances(rows, columns)) if part.size else None)
    return FittedMask(mask, np.array([part.size for part in parts], np.float64), ensembles)


def _lines(of_weights: FlatIndices) -> Lines:
    touched, counts = np.unique(of_weights, return_counts=True)
    weights, kinds, many = np.unique(counts, return_inverse=True, return_counts=True)
    return Lines(touched, kinds, weights.astype(np.float64), many.astype(np.float64))


def chances(rows: Lines, columns: Lines) -> Vector:
    """The probability of each kind of cell such that every line has its weights on average.

    Lines with equal numbers of weights have equal odds, so only the kinds of lines are solved for.
    The likelihood of the margins is concave in the logarithms of x and y and is maximised by
    Newton's method. Where the margins force a cell (a full row), its odds grow until the error is
    below `_EXACT`.

    Returns:
        [row kinds, column kinds], in [0, 1].
    """
    total = rows.weights @ rows.many
    weights = np.concatenate([rows.weights, columns.weights])
    logs = np.log(weights / np.sqrt(total))
    split = rows.weights.size
    for _ in range(_STEPS):
        chance = scipy.special.expit(logs[:split, None] + logs[None, split:])
        expected = np.concatenate([chance @ columns.many, rows.many @ chance])
        if np.abs(expected / weights - 1).max() < _EXACT:
            break
        step = _newton(chance, weights - expected, rows.many, columns.many)
        logs += step * min(1.0, _LONGEST / float(np.abs(step).max()))
    return np.asarray(chance)


def _newton(chance: Vector, missing: Vector, rows: Vector, columns: Vector) -> Vector:
    """The Newton step of the logarithms of x and y.

    Args:
        chance: [row kinds, column kinds].
        missing: weights of each kind of line, rows first, minus the expected ones.
        rows: how many rows of each kind.
        columns: how many columns of each kind.
    """
    split = rows.size
    spread = rows[:, None] * columns * chance * (1 - chance)
    curve = np.zeros((missing.size, missing.size))
    curve[:split, split:] = spread
    curve[split:, :split] = spread.T
    diagonal = np.concatenate([spread.sum(1), spread.sum(0)])
    # The matrix is singular: scaling x up and y down changes nothing. The first term fixes that
    # direction, and a small diagonal fixes those that forced cells leave flat.
    free = np.where(np.arange(missing.size) < split, 1.0, -1.0)
    curve += np.outer(free, free) * diagonal.max() / missing.size
    curve[np.diag_indices_from(curve)] += diagonal + 1e-12 * diagonal.max()
    return np.linalg.solve(curve, missing * np.concatenate([rows, columns]))


def _given_lines(a: Ensemble | None, b: Ensemble | None) -> tuple[float, float]:
    """The sum over one matrix's cells of the probability that both masks contain the cell, and of
    its square, computed by kinds of rows and columns.
    """
    if a is None or b is None:
        return 0.0, 0.0
    rows, columns = _joint(a.rows, b.rows), _joint(a.columns, b.columns)
    mean = (a.chance @ columns) * (rows @ b.chance)
    squares = (a.chance**2 @ columns) * (rows @ b.chance**2)
    return float(mean.sum()), float(squares.sum())


def _joint(a: Lines, b: Lines) -> Vector:
    """How many lines are of kind i in `a` and of kind j in `b`: [kinds of a, kinds of b]."""
    _, in_a, in_b = np.intersect1d(a.touched, b.touched, assume_unique=True, return_indices=True)
    shape = (a.weights.size, b.weights.size)
    both = a.kinds[in_a] * shape[1] + b.kinds[in_b]
    return np.bincount(both, minlength=shape[0] * shape[1]).reshape(shape).astype(np.float64)
