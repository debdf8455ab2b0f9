"""The part of a behaviour's scores that any selection up to a stated (p, q) can use."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lesion.models.layout import Flat, Layout, Places
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


def tail_places(source: Source, kind: str, layout: Layout, tail: Coverage) -> Places:
    """Sorted places that a selection can use.

    Of signed scores, the p + q most negative: a selection takes q of those that are left when p of
    them at most are preserved. Of importances, the p largest.
    """
    signed = kind == "snip"
    parts = [tail.p, tail.q] if signed else [tail.p]
    source, below = (source, 0.0) if signed else (_Negated(source), np.inf)
    if tail.scope == "global":
        count = sum(round(part * layout.size) for part in parts)
        return _global(source, layout, count, below)
    return _each(source, layout, parts, tail.scope, below)


def _global(source: Source, layout: Layout, count: int, below: float) -> Places:
    lowest = Lowest(count, below)
    for name, shape, start in zip(layout.names, layout.shapes, layout.offsets, strict=False):
        values, size = source.open(name), shape[0] * shape[1]
        for first in range(0, size, BLOCK):
            block = values[first : min(first + BLOCK, size)]
            lowest.add(block, np.arange(start + first, start + first + block.size))
    return lowest.kept()[1]


def _each(
    source: Source, layout: Layout, parts: Sequence[float], scope: str, below: float
) -> Places:
    found = [np.empty(0, np.int64)]
    for name, shape, start in zip(layout.names, layout.shapes, layout.offsets, strict=False):
        units = layout.units(name, scope)
        lines = units.arrange(source.open(name)[0 : shape[0] * shape[1]])
        count = sum(round(part * lines.shape[1]) for part in parts)
        chosen = units.back(lowest_of_each(lines, count) & (lines < below))
        found.append(np.flatnonzero(chosen) + start)
    return np.concatenate(found)


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
    """Write the tail of `source` as shards and an index."""
    kept = layout.by_name(tail_places(source, kind, layout, tail))
    sizes = {
        name: rows * columns
        for name, (rows, columns) in zip(layout.names, layout.shapes, strict=True)
    }
    groups = shard_groups(sizes, shards)
    nothing = np.empty(0, np.int64)
    for path, group in zip(shard_names(kind, shards), groups, strict=True):
        tensors: dict[str, np.ndarray] = {}
        for name in group:
            places = kept.get(name, nothing)
            values = source.open(name)[0 : sizes[name]]
            tensors[f"{name}.indices"] = places.astype(place_type(sizes[name])[1])
            tensors[f"{name}.values"] = np.ascontiguousarray(values[places])
        write_shard(tensors, folder / path, metadata)
    write_index(folder, kind, groups, metadata, tail)
