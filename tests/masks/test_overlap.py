import numpy as np
import pytest
from numpy.typing import NDArray

from lesion.masks.overlap import Layout, overlap

SHAPES = {"layers.0.a.weight": (6, 8), "layers.0.b.weight": (10, 5), "layers.1.a.weight": (6, 8)}
LAYOUT = Layout.of(SHAPES)
TOTAL = 146
DRAWS = 4_000


def _masks() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Two masks with crowded rows, and of other sizes in each matrix."""
    generator = np.random.default_rng(3)
    weights = np.ones(TOTAL)
    weights[:16] = 12
    weights[48:60] = 6
    weights /= weights.sum()
    a, b = (np.sort(generator.choice(TOTAL, size, replace=False, p=weights)) for size in (24, 31))
    return a, b


A, B = _masks()


def _close(draws: list[float], expected: float) -> None:
    error = np.std(draws) / np.sqrt(len(draws))
    assert expected == pytest.approx(np.mean(draws), abs=4 * float(error))


def test_counts() -> None:
    a, b = np.array([0, 1, 2, 50]), np.array([1, 2, 60])
    found = overlap(a, b, LAYOUT)
    assert (found.size_a, found.size_b, found.shared) == (4, 3, 2)
    assert found.jaccard == 2 / 5
    assert found.overlap_coefficient == 2 / 3


def test_empty_masks_share_nothing() -> None:
    empty = np.empty(0, np.int64)
    assert overlap(empty, empty, LAYOUT)[2:] == (0, 0, 0, 0, 0, 0)
    assert overlap(A, empty, LAYOUT).expected_rows_columns == 0


def test_the_layout_splits_by_matrix() -> None:
    parts = LAYOUT.split(np.array([0, 47, 48, 97, 98, 145]))
    assert [part.tolist() for part in parts] == [[0, 47], [0, 49], [0, 47]]


def test_the_uniform_null() -> None:
    generator = np.random.default_rng(0)
    draws = [
        float(np.isin(generator.choice(TOTAL, A.size, replace=False), B).sum())
        for _ in range(DRAWS)
    ]
    _close(draws, overlap(A, B, LAYOUT).expected_uniform)


def test_the_null_within_each_matrix() -> None:
    generator = np.random.default_rng(0)
    draws = []
    for _ in range(DRAWS):
        shared = 0
        for own, other, (rows, columns) in zip(
            LAYOUT.split(A), LAYOUT.split(B), LAYOUT.shapes, strict=True
        ):
            made = generator.choice(rows * columns, own.size, replace=False)
            shared += int(np.isin(made, other).sum())
        draws.append(float(shared))
    _close(draws, overlap(A, B, LAYOUT).expected_matrix)


def test_the_null_given_rows_and_columns() -> None:
    """Each mask's columns are dealt to its rows at random, so that both counts stay."""
    generator = np.random.default_rng(0)

    def dealt(mask: NDArray[np.int64], shape: tuple[int, int]) -> NDArray[np.int64]:
        rows, columns = np.divmod(mask, shape[1])
        return np.bincount(
            rows * shape[1] + generator.permutation(columns), minlength=shape[0] * shape[1]
        )

    draws = []
    for _ in range(DRAWS):
        shared = 0
        for own, other, shape in zip(LAYOUT.split(A), LAYOUT.split(B), LAYOUT.shapes, strict=True):
            shared += int(dealt(own, shape) @ dealt(other, shape))
        draws.append(float(shared))
    _close(draws, overlap(A, B, LAYOUT).expected_rows_columns)


def test_the_nulls_differ_where_masks_crowd() -> None:
    found = overlap(A, B, LAYOUT)
    assert found.expected_uniform < found.expected_matrix < found.expected_rows_columns
