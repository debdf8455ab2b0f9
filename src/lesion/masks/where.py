"""The distribution of a mask's weights over matrices, and over rows and columns within them.

A row is an output unit and a column is an input, regardless of how the model stores its matrices.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lesion.models.layout import FlatIndices, Layout

Counts = NDArray[np.int64]

TOP = 100
"""The share in the top rows is that of the fullest 1 / TOP of the rows, and of at least one row."""

_KEY = {"mask": pl.String, "layer": pl.Int64, "module": pl.String}

WHERE = {
    **_KEY,
    "weights": pl.Int64,
    "candidates": pl.Int64,
}

CONCENTRATION = {
    **_KEY,
    "weights": pl.Int64,
    "rows": pl.Int64,
    "columns": pl.Int64,
    "rows_touched": pl.Int64,
    "columns_touched": pl.Int64,
    "rows_top_share": pl.Float64,
    "columns_top_share": pl.Float64,
    "rows_gini": pl.Float64,
    "columns_gini": pl.Float64,
}

LINES = {
    **_KEY,
    "axis": pl.String,
    "index": pl.Int64,
    "weights": pl.Int64,
    "share": pl.Float64,
}


class _Matrix(NamedTuple):
    """The counts of a mask's weights in one matrix, by output unit and by input."""

    layer: int
    module: str
    rows: Counts
    columns: Counts


def where_table(masks: Mapping[str, FlatIndices], layout: Layout) -> pl.DataFrame:
    """The number of each mask's weights in each matrix, as a table of WHERE."""
    rows = [
        (name, *_layer_module(parameter), part.size, int(np.prod(shape)))
        for name, mask in masks.items()
        for parameter, part, shape in zip(
            layout.names, layout.split(mask), layout.shapes, strict=True
        )
    ]
    return pl.DataFrame(rows, schema=WHERE, orient="row")


def concentration_table(masks: Mapping[str, FlatIndices], layout: Layout) -> pl.DataFrame:
    """How unevenly each mask is distributed over the rows and columns of every matrix it touches.

    Args:
        masks: sorted flat indices, by name.
        layout: the prunable parameters.

    Returns:
        A table of CONCENTRATION, one row for each mask and matrix touched: the number of rows and
        columns, and how many of them the mask touches; the share of the mask's weights in the
        fullest 1% of the rows and of the columns (`TOP`), in (0, 1]; and the Gini coefficients of
        the weights by row and by column, with zeros for untouched ones: 0 is even, 1 is all in one.
        Few weights are never evenly distributed, so compare with a random mask of the same size.
    """
    rows = [
        (
            *(name, matrix.layer, matrix.module, int(matrix.rows.sum())),
            *(counts.size for counts in (matrix.rows, matrix.columns)),
            *(int(np.count_nonzero(counts)) for counts in (matrix.rows, matrix.columns)),
            *(top_share(counts) for counts in (matrix.rows, matrix.columns)),
            *(gini(counts) for counts in (matrix.rows, matrix.columns)),
        )
        for name, mask in masks.items()
        for matrix in _touched(mask, layout)
    ]
    return pl.DataFrame(rows, schema=CONCENTRATION, orient="row")


def top_lines(masks: Mapping[str, FlatIndices], layout: Layout, most: int = 10) -> pl.DataFrame:
    """The rows and the columns with the most of each mask's weights.

    Args:
        masks: sorted flat indices, by name.
        layout: the prunable parameters.
        most: how many rows and columns to list of each mask; ties go by layer, module, index.

    Returns:
        A table of LINES, for each mask first its rows, then its columns, the fullest first.
        `index` counts from 0 within the matrix; `share` is of all the mask's weights.
    """
    tables = [pl.DataFrame(schema=LINES)]
    for name, mask in masks.items():
        matrices = list(_touched(mask, layout))
        for axis in ("row", "column"):
            lines = [pl.DataFrame(schema=LINES)]
            for matrix in matrices:
                counts = matrix.rows if axis == "row" else matrix.columns
                index = np.flatnonzero(counts)
                weights = counts[index]
                shares = weights / mask.size
                columns = (name, matrix.layer, matrix.module, axis, index, weights, shares)
                lines.append(pl.DataFrame(dict(zip(LINES, columns, strict=True)), schema=LINES))
            ordered = pl.concat(lines).sort(-pl.col("weights"), "layer", "module", "index")
            tables.append(ordered.head(most))
    return pl.concat(tables)


def _touched(mask: FlatIndices, layout: Layout) -> Iterator[_Matrix]:
    shapes = dict(zip(layout.names, layout.shapes, strict=True))
    for name, part in layout.by_name(mask).items():
        stored = np.divmod(part, shapes[name][1])
        rows, columns = (
            np.bincount(lines, minlength=size)
            for lines, size in zip(stored, shapes[name], strict=True)
        )
        if name in layout.transposed:
            rows, columns = columns, rows
        yield _Matrix(*_layer_module(name), rows, columns)


def top_share(counts: Counts) -> float:
    """Share of the sum that the largest 1% of the counts make up, at least one of them."""
    top = max(1, counts.size // TOP)
    return float(np.partition(counts, -top)[-top:].sum() / counts.sum())


def gini(counts: Counts) -> float:
    """Gini coefficient: 0 if all counts are equal, 1 − 1/n if one of n has everything."""
    ordered = np.sort(counts)
    ranks = np.arange(1, counts.size + 1)
    return float((2 * ranks - counts.size - 1) @ ordered / (counts.size * ordered.sum()))


def _layer_module(parameter: str) -> tuple[int, str]:
    """`model.layers.3.mlp.up_proj.weight` is in layer 3, module `mlp.up_proj`."""
    parts = parameter.removesuffix(".weight").split(".")
    position = next(i for i, part in enumerate(parts) if part.isdigit())
    return int(parts[position]), ".".join(parts[position + 1 :])
