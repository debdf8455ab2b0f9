"""Truncated scores: those that a selection up to a stated (p, q) can use."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lesion.models.layout import Flat, FlatIndices, Layout
from lesion.scores.jobs import Coverage
from lesion.scores.lowest import BLOCK, Lowest, lowest_of_each
from lesion.scores.store import (
    Source,
    Values,
    place_type,
    shard_groups,
    shard_names,
    write_index,
    write_shard,
)


def tail_indices(source: Source, kind: str, layout: Layout, tail: Coverage) -> FlatIndices:
    """Sorted flat indices of the scores that a selection can use.

    Of signed scores these are the p + q most negative ones, since at most p of them are preserved
    and a selection takes q of the others. Of importances they are the p largest.
    """
    signed = kind == "snip"
    parts = [tail.p, tail.q] if signed else [tail.p]
    source, below = (source, 0.0) if signed else (_Negated(source), np.inf)
    if tail.scope == "global":
        count = sum(round(part * layout.size) for part in parts)
        return _global(source, layout, count, below)
    return _each(source, layout, parts, tail.scope, below)


def _global(source: Source, layout: Layout, count: int, below: float) -> FlatIndices:
    lowest = Lowest(count, below)
    for name, shape, start in zip(layout.names, layout.shapes, layout.offsets, strict=False):
        values, size = source.open(name), shape[0] * shape[1]
        for first in range(0, size, BLOCK):
            block = values[first : min(first + BLOCK, size)]
            lowest.add(block, np.arange(start + first, start + first + block.size))
    return lowest.kept()[1]


def _each(
    source: Source, layout: Layout, parts: Sequence[float], scope: str, below: float
) -> FlatIndices:
    indices_found = [np.empty(0, np.int64)]
    for name, shape, start in zip(layout.names, layout.shapes, layout.offsets, strict=False):
        units = layout.units(name, scope)
        lines = units.arrange(source.open(name)[0 : shape[0] * shape[1]])
        count = sum(round(part * lines.shape[1]) for part in parts)
        chosen = units.back(lowest_of_each(lines, count) & (lines < below))
        indices_found.append(np.flatnonzero(chosen) + start)
    return np.concatenate(indices_found)


class _Negated:
    def __init__(self, source: Source) -> None:
        self.source = source

    def open(self, name: str) -> Values:
        return _NegatedValues(self.source.open(name))


class _NegatedValues:
    def __init__(self, values: Values) -> None:
        self.values = values

    def __getitem__(self, part: slice) -> Flat:
        return -self.values[part]


def write_tail(
    source: Source,
    folder: Path,
    kind: str,
    shards: int,
    layout: Layout,
    tail: Coverage,
    metadata: Mapping[str, str],
) -> None:
    """Write the truncated scores of `source` as shards and an index."""
    kept = layout.by_name(tail_indices(source, kind, layout, tail))
    sizes = {
        name: rows * columns
        for name, (rows, columns) in zip(layout.names, layout.shapes, strict=True)
    }
    groups = shard_groups(sizes, shards)
    empty = np.empty(0, np.int64)
    for path, group in zip(shard_names(kind, shards), groups, strict=True):
        tensors: dict[str, np.ndarray] = {}
        for name in group:
            indices = kept.get(name, empty)
            values = source.open(name)[0 : sizes[name]]
            tensors[f"{name}.indices"] = indices.astype(place_type(sizes[name])[1])
            tensors[f"{name}.values"] = np.ascontiguousarray(values[indices])
        write_shard(tensors, folder / path, metadata)
    write_index(folder, kind, groups, metadata, tail)
