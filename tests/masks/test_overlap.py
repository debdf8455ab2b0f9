from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray

from lesion.masks.overlap import Overlap, at_least, fit_null, overlaps
from lesion.models.layout import FlatIndices, Layout

Dense = NDArray[np.float64]

SHAPES = {"layers.0.a.weight": (6, 8), "layers.0.b.weight": (10, 5), "layers.1.a.weight": (6, 8)}
LAYOUT = Layout.of(SHAPES)
TOTAL = 146
DRAWS = 4_000
ONE = Layout.of({"layers.0.a.weight": (40, 50)})
MANY = Layout.of({f"layers.{n}.a.weight": (40, 50) for n in range(12)})


def mask_overlap(a: FlatIndices, b: FlatIndices, layout: Layout, seed: int = 0) -> Overlap:
    (found,) = overlaps({"a": a, "b": b}, layout, seed).values()
    return found


def _masks() -> tuple[FlatIndices, FlatIndices]:
    """Two masks with crowded rows, and of other sizes in each matrix."""
    generator = np.random.default_rng(3)
    weights = np.ones(TOTAL)
    weights[:16] = 12
    weights[48:60] = 6
    weights /= weights.sum()
    a, b = (np.sort(generator.choice(TOTAL, size, replace=False, p=weights)) for size in (24, 31))
    return a, b


A, B = _masks()


def _random(size: int, generator: np.random.Generator, layout: Layout = MANY) -> FlatIndices:
    return np.sort(generator.choice(layout.size, size, replace=False))


def _in_rows(rows: int, size: int, generator: np.random.Generator) -> FlatIndices:
    """Weights of `MANY` that lie in the first rows of every matrix, and nowhere else."""
    inside = np.arange(MANY.size).reshape(-1, 40, 50)[:, :rows].ravel()
    return np.sort(generator.choice(inside, size, replace=False))


def _dense(mask: FlatIndices, layout: Layout) -> list[Dense]:
    """The strict null's probability of every cell, matrix by matrix."""
    found = []
    for one, shape in zip(fit_null(mask, layout).ensembles, layout.shapes, strict=True):
        cells = np.zeros(shape)
        if one is not None:
            kinds = one.chance[np.ix_(one.rows.kinds, one.columns.kinds)]
            cells[np.ix_(one.rows.touched, one.columns.touched)] = kinds
        found.append(cells)
    return found


def _close(draws: NDArray[np.int64], expected: float) -> None:
    error = np.std(draws) / np.sqrt(len(draws))
    assert expected == pytest.approx(np.mean(draws), abs=4 * float(error))


def _close_tail(draws: NDArray[np.int64], mean: float, variance: float, slack: float) -> None:
    """P(at least k) is near how often that was drawn, for every k."""
    for count in range(int(draws.max()) + 2):
        assert at_least(count, mean, variance) == pytest.approx((draws >= count).mean(), abs=slack)


def test_counts() -> None:
    a, b = np.array([0, 1, 2, 50]), np.array([1, 2, 60])
    found = mask_overlap(a, b, LAYOUT)
    assert (found.size_a, found.size_b, found.shared) == (4, 3, 2)
    assert found.jaccard == 2 / 5
    assert found.overlap_coefficient == 2 / 3


@pytest.mark.parametrize("a", [A, np.empty(0, np.int64)])
def test_an_empty_mask_shares_nothing(a: FlatIndices) -> None:
    found = mask_overlap(a, np.empty(0, np.int64), LAYOUT)
    assert (found.shared, found.jaccard, found.overlap_coefficient) == (0, 0, 0)
    for null in ("uniform", "matrix", "rows_columns"):
        assert getattr(found, f"expected_{null}") == 0
        assert np.isnan(getattr(found, f"enrichment_{null}"))
        assert getattr(found, f"p_{null}") == 1
    assert np.isnan([found.enrichment_low, found.enrichment_high]).all()


def test_the_layout_splits_by_matrix() -> None:
    parts = LAYOUT.split(np.array([0, 47, 48, 97, 98, 145]))
    assert [part.tolist() for part in parts] == [[0, 47], [0, 49], [0, 47]]


def test_the_uniform_null() -> None:
    generator = np.random.default_rng(0)
    draws = np.array(
        [np.isin(_random(A.size, generator, LAYOUT), B).sum() for _ in range(DRAWS)], np.int64
    )
    found = mask_overlap(A, B, LAYOUT)
    _close(draws, found.expected_uniform)
    assert found.p_uniform == pytest.approx((draws >= found.shared).mean(), abs=0.01)


def test_the_null_within_each_matrix() -> None:
    generator = np.random.default_rng(0)
    draws = np.zeros(DRAWS, np.int64)
    for own, other, (rows, columns) in zip(
        LAYOUT.split(A), LAYOUT.split(B), LAYOUT.shapes, strict=True
    ):
        for place in range(DRAWS):
            made = generator.choice(rows * columns, own.size, replace=False)
            draws[place] += np.isin(made, other).sum()
    found = mask_overlap(A, B, LAYOUT)
    _close(draws, found.expected_matrix)
    assert found.p_matrix == pytest.approx((draws >= found.shared).mean(), abs=0.03)


def test_the_strict_null_keeps_rows_and_columns() -> None:
    for mask in (A, B):
        parts = zip(_dense(mask, LAYOUT), LAYOUT.split(mask), LAYOUT.shapes, strict=True)
        for cells, part, shape in parts:
            taken = np.zeros(shape)
            taken.ravel()[part] = 1
            assert cells.sum(0) == pytest.approx(taken.sum(0), abs=1e-6)
            assert cells.sum(1) == pytest.approx(taken.sum(1), abs=1e-6)
            assert (cells >= 0).all()
            assert (cells <= 1).all()


def test_the_strict_null_by_drawing_cells() -> None:
    generator = np.random.default_rng(0)
    draws = np.zeros(DRAWS, np.int64)
    variance = 0.0
    for own, other in zip(_dense(A, LAYOUT), _dense(B, LAYOUT), strict=True):
        drawn = [generator.random((DRAWS, *cells.shape)) < cells for cells in (own, other)]
        draws += (drawn[0] & drawn[1]).sum((1, 2))
        variance += float((own * other * (1 - own * other)).sum())
    found = mask_overlap(A, B, LAYOUT)
    _close(draws, found.expected_rows_columns)
    _close_tail(draws, found.expected_rows_columns, variance, 0.05)
    assert found.p_rows_columns == pytest.approx((draws >= found.shared).mean(), abs=0.05)


def test_the_strict_null_against_every_matrix_of_the_same_margins() -> None:
    """All 0/1 matrices with these exact counts, listed: the fit knows them only on average."""
    layout = Layout.of({"layers.0.a.weight": (4, 4)})
    all_cells = np.array(list(product((0, 1), repeat=16)))
    dense = all_cells.reshape(-1, 4, 4)

    def mean(mask: FlatIndices) -> Dense:
        own = np.bincount(mask, minlength=16).reshape(4, 4)
        same = (dense.sum(1) == own.sum(0)).all(1) & (dense.sum(2) == own.sum(1)).all(1)
        return np.asarray(dense[same].mean(0))

    a, b = np.array([0, 1, 2, 4, 5, 8, 15]), np.array([0, 1, 3, 6, 12, 13])
    exact = float((mean(a) * mean(b)).sum())
    assert mask_overlap(a, b, layout).expected_rows_columns == pytest.approx(exact, rel=0.02)


def test_crowded_masks_are_not_expected_to_share_more_than_fits() -> None:
    """Full rows crossed by full columns: a product of margins puts several weights in a cell."""
    cells = np.zeros((40, 50), bool)
    cells[:2] = cells[:, :2] = True
    mask = np.flatnonzero(cells)
    rows, columns = cells.sum(1), cells.sum(0)
    assert (rows @ rows) * (columns @ columns) / mask.size**2 > 1.3 * mask.size
    found = mask_overlap(mask, mask, ONE)
    # These counts leave no choice: the mask is certain, and sharing it all is no surprise.
    assert found.expected_rows_columns == pytest.approx(mask.size, rel=1e-6)
    assert found.p_rows_columns > 0.999
    assert found.p_matrix < 1e-100


def test_identical_masks() -> None:
    mask = _random(600, np.random.default_rng(0))
    found = mask_overlap(mask, mask, MANY)
    assert (found.shared, found.jaccard, found.overlap_coefficient) == (600, 1, 1)
    assert found.enrichment_rows_columns > 10
    assert max(found.p_uniform, found.p_matrix, found.p_rows_columns) < 1e-100


def test_disjoint_masks() -> None:
    cells = np.random.default_rng(0).permutation(MANY.size)
    found = mask_overlap(np.sort(cells[:900]), np.sort(cells[900:1800]), MANY)
    assert found.shared == 0
    assert found.enrichment_rows_columns == found.enrichment_low == found.enrichment_high == 0
    assert (found.p_uniform, found.p_matrix, found.p_rows_columns) == (1, 1, 1)


def test_independent_masks_are_at_chance() -> None:
    generator = np.random.default_rng(0)
    found = [
        mask_overlap(_random(1500, generator), _random(2500, generator), MANY) for _ in range(200)
    ]
    for null in ("uniform", "matrix", "rows_columns"):
        ratios = [getattr(one, f"enrichment_{null}") for one in found]
        assert np.mean(ratios) == pytest.approx(1, abs=0.02)
        p = np.array([getattr(one, f"p_{null}") for one in found])
        for level in (0.05, 0.2, 0.5, 0.8):
            assert (p <= level).mean() == pytest.approx(level, abs=0.1)
    covered = [one.enrichment_low <= 1 <= one.enrichment_high for one in found]
    # A percentile bootstrap over twelve matrices is somewhat too narrow.
    assert 0.85 < np.mean(covered) <= 1


def test_common_rows_alone_are_chance_under_the_strict_null() -> None:
    generator = np.random.default_rng(0)
    found = mask_overlap(_in_rows(4, 700, generator), _in_rows(4, 700, generator), MANY)
    assert found.enrichment_matrix > 5
    assert found.p_matrix < 1e-50
    assert found.enrichment_rows_columns == pytest.approx(1, abs=0.1)
    assert 0.01 < found.p_rows_columns < 0.99
    assert found.enrichment_low < 1 < found.enrichment_high


def test_common_weights_are_seen_among_common_rows() -> None:
    generator = np.random.default_rng(0)
    planted = _in_rows(4, 200, generator)
    a, b = (np.union1d(planted, _in_rows(4, 500, generator)) for _ in range(2))
    found = mask_overlap(a, b, MANY)
    assert found.enrichment_low > 1
    assert found.p_rows_columns < 1e-6


def test_the_interval_is_wide_where_one_matrix_holds_all_that_is_shared() -> None:
    generator = np.random.default_rng(0)

    def both(planted: FlatIndices) -> Overlap:
        a, b = (np.union1d(planted, _random(1000, generator)) for _ in range(2))
        return mask_overlap(a, b, MANY)

    spread = both(_random(120, generator))
    alone = both(np.sort(generator.choice(2000, 120, replace=False)))
    assert alone.p_rows_columns < 1e-6
    width = [one.enrichment_high - one.enrichment_low for one in (spread, alone)]
    assert width[1] > 1.5 * width[0]


def test_the_nulls_differ_where_masks_crowd() -> None:
    found = mask_overlap(A, B, LAYOUT)
    assert found.expected_uniform < found.expected_matrix < found.expected_rows_columns
    assert found.p_uniform < found.p_matrix < found.p_rows_columns


def test_many_pairs_at_once_are_the_same() -> None:
    generator = np.random.default_rng(0)
    masks = {name: _random(1000, generator) for name in "abc"}
    found = overlaps(masks, MANY, seed=4)
    assert list(found) == [("a", "b"), ("a", "c"), ("b", "c")]
    again, other = (mask_overlap(masks["a"], masks["b"], MANY, seed=seed) for seed in (4, 5))
    assert found["a", "b"] == again
    # The seed moves the interval, and nothing else.
    assert again[:-2] == other[:-2]
    assert again[-2:] != other[-2:]
    assert again[-2:] == pytest.approx(other[-2:], rel=0.1)


def test_the_order_of_two_masks_does_not_matter() -> None:
    one, other = mask_overlap(A, B, LAYOUT), mask_overlap(B, A, LAYOUT)
    assert one[2:] == pytest.approx(other[2:])


@pytest.mark.parametrize(
    "chances",
    [
        np.full(1000, 0.004),  # Poisson
        np.full(10, 0.5),  # symmetric
        np.full(2000, 0.3),  # normal
        np.r_[np.ones(30), np.full(100, 0.01)],  # most of it is certain
        np.linspace(0, 1, 60) ** 3,
    ],
)
def test_the_tail_of_a_sum_of_unlike_draws(chances: Dense) -> None:
    exact = np.ones(1)
    for chance in chances:
        exact = np.convolve(exact, [1 - chance, chance])
    tail = exact[::-1].cumsum()[::-1]
    mean, variance = float(chances.sum()), float((chances * (1 - chances)).sum())
    found = np.array([at_least(count, mean, variance) for count in range(tail.size)])
    assert found == pytest.approx(tail, abs=0.05)
    # Where it matters it errs to the safe side, if at all.
    rare = (tail < 0.01) & (tail > 1e-12)
    assert (found[rare] > 0.85 * tail[rare]).all()
