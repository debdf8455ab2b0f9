"""Truncated scores: those that a selection up to a stated (p, q) can use."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from lesion.models.layout import FlatIndices, Layout
from lesion.scores.jobs import Coverage
from lesion.scores.lowest import BLOCK, Lowest, lowest_of_each
from lesion.scores.shards import index_type, shard_groups, shard_names, write_index, write_shard
from lesion.scores.store import Source


def tail_indices(source: Source, kind: str, layout: Layout, tail: Coverage) -> FlatIndices:
    """Sorted flat indices of the scores that a selection can use.

    Of signed scores these are the p + q most negative ones, since at most p of them are preserved
    and a selection takes q of the others. Of importances they are the p largest.
    """
    signed = kind == "snip"
    parts, below = ([tail.p, tail.q], 0.0) if signed else ([tail.p], np.inf)
    matrices = zip(layout.sizes.items(), layout.offsets, strict=False)
    if tail.scope == "global":
        lowest = Lowest(sum(round(part * layout.size) for part in parts), below)
        for (name, size), start in matrices:
            values = source.open(name)
            for first in range(0, size, BLOCK):
                block = values[first : min(first + BLOCK, size)]
                flat = np.arange(start + first, start + first + block.size)
                lowest.add(block if signed else -block, flat)
        return lowest.kept()[1]
    indices = [np.empty(0, np.int64)]
    for (name, size), start in matrices:
        units = layout.units(name, tail.scope)
        lines = units.arrange(source.open(name)[0:size])
        lines = lines if signed else -lines
        count = sum(round(part * lines.shape[1]) for part in parts)
        chosen = units.back(lowest_of_each(lines, count) & (lines < below))
        indices.append(np.flatnonzero(chosen) + start)
    return np.concatenate(indices)


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
    sizes = layout.sizes
    groups = shard_groups(sizes, shards)
    for path, group in zip(shard_names(kind, shards), groups, strict=True):
        tensors: dict[str, np.ndarray] = {}
        for name in group:
            indices = kept.get(name, np.empty(0, np.int64))
            values = source.open(name)[0 : sizes[name]]
            tensors[f"{name}.indices"] = indices.astype(index_type(sizes[name])[1])
            tensors[f"{name}.values"] = np.ascontiguousarray(values[indices])
        write_shard(tensors, folder / path, metadata)
    write_index(folder, kind, groups, metadata, tail)
