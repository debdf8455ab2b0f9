"""Where a mask's weights lie: by matrix, and how they crowd in rows and columns.

A row is an output unit here, a column an input, however the model stores its matrices.
"""

from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lesion.models.layout import Layout, Places

Counts = NDArray[np.int64]
Line = Literal["row", "column"]

TOP = 100
"""The share in the top rows is that of one in so many rows, and at least of one."""

WHERE = {
    "mask": pl.String,
    "layer": pl.Int64,
    "module": pl.String,
    "weights": pl.Int64,
    "candidates": pl.Int64,
}

CONCENTRATION = {
    "mask": pl.String,
    "layer": pl.Int64,
    "module": pl.String,
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
    "mask": pl.String,
    "layer": pl.Int64,
    "module": pl.String,
    "axis": pl.String,
    "index": pl.Int64,
    "weights": pl.Int64,
    "share": pl.Float64,
}


class _Matrix(NamedTuple):
    """A mask's weights in one matrix, counted by output unit and by input."""

    layer: int
    module: str
    rows: Counts
    columns: Counts


def where_table(masks: Mapping[str, Places], layout: Layout) -> pl.DataFrame:
    """How many of each mask's weights lie in each matrix: layer, module, weights, candidates."""
    rows = [
        (name, *_layer_module(parameter), part.size, int(np.prod(shape)))
        for name, mask in masks.items()
        for parameter, part, shape in zip(
            layout.names, layout.split(mask), layout.shapes, strict=True
        )
    ]
    return pl.DataFrame(rows, schema=WHERE, orient="row")


def concentration_table(masks: Mapping[str, Places], layout: Layout) -> pl.DataFrame:
    """How unevenly each mask lies over the rows and columns of every matrix it touches.

    Args:
        masks: sorted places among the candidates, by name.
        layout: where the matrices lie.

    Returns:
        A table of CONCENTRATION, one row for each mask and matrix touched: how many rows and
        columns the matrix has, and how many of them the mask touches; the share of the mask's
        weights there that lies in the fullest 1% of the rows, and of the columns (`TOP`), in
        (0, 1]; and the Gini coefficients of the weights by row and by column, untouched ones
        counted as zeros: 0 is even, 1 is all in one. Few weights cannot be even, whatever they
        are: compare with a random mask of as many.
    """
    rows = [
        (
            *(name, one.layer, one.module, int(one.rows.sum())),
            *(one.rows.size, one.columns.size),
            *(int(np.count_nonzero(counts)) for counts in (one.rows, one.columns)),
            *(top_share(counts) for counts in (one.rows, one.columns)),
            *(gini(counts) for counts in (one.rows, one.columns)),
        )
        for name, mask in masks.items()
        for one in _touched(mask, layout)
    ]
    return pl.DataFrame(rows, schema=CONCENTRATION, orient="row")


def top_lines(masks: Mapping[str, Places], layout: Layout, most: int = 10) -> pl.DataFrame:
    """The rows and the columns that hold the most of each mask's weights.

    Args:
        masks: sorted places among the candidates, by name.
        layout: where the matrices lie.
        most: rows, and likewise columns, listed of each mask; ties go by layer, module, index.

    Returns:
        A table of LINES, for each mask first its rows, then its columns, the fullest first.
        `index` counts from 0 within the matrix; `share` is of all the mask's weights.
    """
    found = [
        (name, layer, module, axis, index, weights, weights / mask.size)
        for name, mask in masks.items()
        for axis, lines in _by_axis(mask, layout).items()
        for weights, layer, module, index in sorted(lines, key=_fullest_first)[:most]
    ]
    return pl.DataFrame(found, schema=LINES, orient="row")


_Found = tuple[int, int, str, int]
"""Weights, layer, module, index."""


def _fullest_first(line: _Found) -> _Found:
    return (-line[0], *line[1:])


def _by_axis(mask: Places, layout: Layout) -> dict[Line, list[_Found]]:
    """Every row and every column that the mask touches."""
    lines: dict[Line, list[_Found]] = {"row": [], "column": []}
    for one in _touched(mask, layout):
        sides: tuple[tuple[Line, Counts], ...] = (("row", one.rows), ("column", one.columns))
        for axis, counts in sides:
            lines[axis] += [
                (int(counts[index]), one.layer, one.module, int(index))
                for index in np.flatnonzero(counts)
            ]
    return lines


def _touched(mask: Places, layout: Layout) -> Iterator[_Matrix]:
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
    """`model.layers.3.mlp.up_proj.weight` lies in layer 3, module `mlp.up_proj`."""
    parts = parameter.removesuffix(".weight").split(".")
    place = next(i for i, part in enumerate(parts) if part.isdigit())
    return int(parts[place]), ".".join(parts[place + 1 :])
