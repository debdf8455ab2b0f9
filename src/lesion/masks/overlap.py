"""How much two masks share, and how much they would by chance. Pure arithmetic.

Three nulls, each stricter than the last: weights drawn anywhere among the candidates; within each
matrix; and within each matrix given both masks' row and column counts, because a row or column
that matters at all matters for everything.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lesion.masks.select import Places


class Overlap(NamedTuple):
    """Sizes and counts in weights; `jaccard` in [0, 1]; `expected_*` are means under each null."""

    size_a: int
    size_b: int
    shared: int
    jaccard: float
    overlap_coefficient: float
    expected_uniform: float
    expected_matrix: float
    expected_rows_columns: float


class Layout(NamedTuple):
    """Where the matrices lie among the flat candidates."""

    names: list[str]
    shapes: list[tuple[int, int]]
    offsets: NDArray[np.int64]

    @classmethod
    def of(cls, shapes: "dict[str, Sequence[int]]") -> "Layout":
        """The layout of candidates in the given order."""
        sizes = [int(np.prod(shape)) for shape in shapes.values()]
        pairs = [(int(np.prod(shape[:-1])), int(shape[-1])) for shape in shapes.values()]
        return cls(list(shapes), pairs, np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64))

    def split(self, mask: Places) -> list[Places]:
        """The mask's places within each matrix."""
        edges = np.searchsorted(mask, self.offsets)
        return [
            mask[first:last] - start
            for start, first, last in zip(self.offsets[:-1], edges[:-1], edges[1:], strict=True)
        ]


def overlap(a: Places, b: Places, layout: Layout) -> Overlap:
    """Overlap of two masks over the same candidates, with its expectation under the three nulls."""
    shared = int(np.intersect1d(a, b, assume_unique=True).size)
    parts = list(zip(layout.split(a), layout.split(b), layout.shapes, strict=True))
    in_matrix = sum(x.size * y.size / (rows * cols) for x, y, (rows, cols) in parts)
    return Overlap(
        size_a=a.size,
        size_b=b.size,
        shared=shared,
        jaccard=shared / max(1, a.size + b.size - shared),
        overlap_coefficient=shared / max(1, min(a.size, b.size)),
        expected_uniform=a.size * b.size / int(layout.offsets[-1]),
        expected_matrix=in_matrix,
        expected_rows_columns=sum(_given_margins(x, y, shape) for x, y, shape in parts),
    )


def _given_margins(a: Places, b: Places, shape: tuple[int, int]) -> float:
    """Expected overlap in one matrix when each mask falls into a cell in proportion to its row's
    and column's count: sum over cells of `ra*ca/na * rb*cb/nb`, which factors by rows and columns.
    """
    if not a.size or not b.size:
        return 0.0
    rows_a, columns_a = _margins(a, shape)
    rows_b, columns_b = _margins(b, shape)
    return float(rows_a @ rows_b) * float(columns_a @ columns_b) / (a.size * b.size)


def _margins(
    places: Places, shape: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rows, columns = np.divmod(places, shape[1])
    return (
        np.bincount(rows, minlength=shape[0]).astype(np.float64),
        np.bincount(columns, minlength=shape[1]).astype(np.float64),
    )
