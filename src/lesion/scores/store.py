"""Reading scores, one parameter at a time and by slices, with every check of the files."""

import os
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from functools import lru_cache, reduce
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from lesion.io.checksums import checksum, xxh3_64
from lesion.io.formats import (
    BadFile,
    LesionError,
    Stored,
    read_json,
    safetensors_header,
    safetensors_metadata,
)
from lesion.models.layout import Flat
from lesion.scores.jobs import Coverage
from lesion.scores.shards import index_name, index_type, read_checksums

_FILL = {"snip": np.float32(np.inf), "preservation": np.float32(-np.inf)}
"""The value of a score that a tail does not contain, so that it is never selected or preserved."""


class Values(Protocol):
    """The flat float32 scores of one parameter, of which only the requested slice is read."""

    def __getitem__(self, part: slice, /) -> Flat: ...


class Source(Protocol):
    """Scores of one kind, opened one parameter at a time."""

    def open(self, name: str, /) -> Values:
        """The scores of a parameter."""
        ...


class _Shard(NamedTuple):
    """A file of scores that is open for reading, its header and its tensors' checksums."""

    path: Path
    file: BinaryIO
    header: dict[str, Stored]
    checksums: dict[str, str]


class _Dense:
    """Scores stored densely, checked for NaN and infinity as they are read.

    Where they are read from first to last, in slices, their checksum is compared at the end.
    """

    def __init__(self, shard: _Shard, name: str) -> None:
        self.shard, self.name = shard, name
        self._next, self._sum = 0, xxh3_64()

    def __getitem__(self, part: slice) -> Flat:
        entry = self.shard.header[self.name]
        # Read and not mapped, because mapped pages count as this job's memory.
        data = _pread(self.shard.file, entry.begin + 4 * part.start, 4 * (part.stop - part.start))
        block = data.view(np.float32)
        if block.size and not np.isfinite([block.min(), block.max()]).all():
            raise BadFile(
                f"{self.shard.path}: `{self.name}` holds scores that are not finite. Delete the "
                "file and run `snakemake` again."
            )
        if part.start == 0:
            self._next, self._sum = 0, xxh3_64()
        if part.start == self._next:
            self._next = part.stop
            self._sum.update(data.data)
            if self._next == (entry.end - entry.begin) // 4:
                sums = self.shard.checksums
                _check_sum(self.shard.path, self.name, self._sum.hexdigest(), sums)
        return block


class _Sparse:
    """Truncated scores that read as if they were dense."""

    def __init__(self, indices: NDArray[Any], values: Flat, fill: np.float32) -> None:
        self.indices, self.values, self.fill = indices, values, fill

    def __getitem__(self, part: slice) -> Flat:
        # np.searchsorted would copy all indices into the dtype of the searched value.
        first, last = bisect_left(self.indices, part.start), bisect_left(self.indices, part.stop)
        block = np.full(part.stop - part.start, self.fill, np.float32)
        block[self.indices[first:last].astype(np.int64) - part.start] = self.values[first:last]
        return block


class StoredScores:
    """One kind of score of one behaviour, read by slices of parameters."""

    def __init__(self, folder: Path, kind: str, shapes: Mapping[str, Sequence[int]]) -> None:
        """Open the index; check that it covers `shapes` and that every shard is complete.

        Raises:
            BadFile: a shard is missing or cut short, or the scores are of another model.
        """
        self.folder, self.kind = folder, kind
        self.shapes = {name: tuple(shape) for name, shape in shapes.items()}
        index = read_json(folder / index_name(kind))
        try:
            self.metadata: dict[str, Any] = index["metadata"]
            self.where: dict[str, str] = index["weight_map"]
            files: dict[str, int] = self.metadata["files"]
            tail = self.metadata["tail"]
        except (KeyError, TypeError) as error:
            raise BadFile(
                f"{folder / index_name(kind)}: is of another version (no {error}). Delete it and "
                "run `snakemake` again."
            ) from error
        self.tail = Coverage(**tail) if tail else None
        if set(self.where) != set(shapes):
            raise BadFile(f"{folder / index_name(kind)}: holds scores of another model's weights")
        for name, size in files.items():
            path = folder / name
            n_bytes = path.stat().st_size if path.is_file() else 0
            if n_bytes != size:
                raise BadFile(
                    f"{path}: is missing or cut short ({n_bytes} of {size} bytes). Delete it and "
                    "run `snakemake` again."
                )
        self._shards: dict[str, _Shard] = {}

    def check_covers(self, p: float, q: float, scope: str) -> None:
        """Refuse a selection for which truncated scores do not contain enough.

        Raises:
            LesionError: p or q lies beyond the tail, or it was cut for another scope.
        """
        if self.tail and (p > self.tail.p or q > self.tail.q or scope != self.tail.scope):
            raise LesionError(
                f"{self.folder}: its scores are a tail that serves p up to {self.tail.p}, q up to "
                f"{self.tail.q} and scope {self.tail.scope}; p={p}, q={q}, scope {scope} was asked "
                "for. Raise `scores.tail` (the behaviour is scored again) or ask for less."
            )

    def open(self, name: str) -> Values:
        """The flat scores of a parameter.

        Raises:
            BadFile: the shard is damaged or holds another shape.
        """
        shard = self._shard(name)
        if not self.tail:
            self._check_entry(shard, name, "F32", self.shapes[name])
            return _Dense(shard, name)
        size = int(np.prod(self.shapes[name]))
        stored, dtype = index_type(size)
        indices: NDArray[Any] = self._tensor(shard, name, "indices", stored).view(dtype)
        values: Flat = self._tensor(shard, name, "values", "F32").view(np.float32)
        same_size = indices.size == values.size and bool(np.isfinite(values).all())
        ordered = bool((indices[1:] > indices[:-1]).all())
        inside = not indices.size or (int(indices[0]) >= 0 and int(indices[-1]) < size)
        if not (same_size and ordered and inside):
            raise BadFile(
                f"{shard.path}: the tail of `{name}` does not hold finite scores at ascending "
                "indices inside it. Delete the file and run `snakemake` again."
            )
        return _Sparse(indices, values, _FILL[self.kind])

    def _shard(self, name: str) -> _Shard:
        """The open shard of a parameter; one of another behaviour, model or kind is refused."""
        file = self.where[name]
        if file not in self._shards:
            path = self.folder / file
            header, metadata = safetensors_header(path), safetensors_metadata(path)
            for key, text in metadata.items():
                if self.metadata.get(key, text) != text:
                    raise BadFile(
                        f"{path}: its `{key}` is {text!r}, and its index says "
                        f"{self.metadata[key]!r}: it is of another model, behaviour or kind. "
                        "Delete it and run `snakemake` again."
                    )
            opened = path.open("rb", buffering=0)
            self._shards[file] = _Shard(path, opened, header, read_checksums(metadata))
        return self._shards[file]

    def _tensor(self, shard: _Shard, name: str, part: str, dtype: str) -> NDArray[np.uint8]:
        """The bytes of a part of a parameter's tail."""
        key = f"{name}.{part}"
        entry = self._check_entry(shard, key, dtype, self.shapes[name])
        data = _pread(shard.file, entry.begin, entry.end - entry.begin)
        _check_sum(shard.path, key, checksum(data), shard.checksums)
        return data

    def _check_entry(self, shard: _Shard, key: str, dtype: str, shape: tuple[int, ...]) -> Stored:
        """A tensor's header entry, which must have this dtype and, unless of a tail, this shape."""
        entry = shard.header.get(key)
        known_shape = entry is not None and (self.tail is not None or entry.shape == shape)
        if entry and known_shape and entry.dtype == dtype and _is_consistent(entry):
            return entry
        description = _described(entry) if entry else "missing"
        raise BadFile(
            f"{shard.path}: `{key}` is {description}, not {dtype} {list(shape)}. Delete the file "
            "and run `snakemake` again."
        )


def _check_sum(path: Path, key: str, actual: str, sums: Mapping[str, str]) -> None:
    """Compare a tensor's checksum with the written one, if the file's version wrote any."""
    if sums and sums.get(key) != actual:
        raise BadFile(
            f"{path}: `{key}` is not as it was written: a bit has changed. Delete the file and run "
            "`snakemake` again."
        )


def _pread(file: BinaryIO, begin: int, size: int) -> NDArray[np.uint8]:
    """Bytes of a file, whose size has been checked."""
    data = np.empty(size, np.uint8)
    done = 0
    while done < size and (more := os.preadv(file.fileno(), [data.data[done:]], begin + done)):
        done += more
    if done < size:
        raise BadFile(f"{file.name}: was cut short while it was read. Run `snakemake` again.")
    return data


def _is_consistent(entry: Stored) -> bool:
    """Whether a tensor has as many bytes as its shape says."""
    return entry.end - entry.begin == int(np.prod(entry.shape)) * int(entry.dtype[1:]) // 8


def _described(entry: Stored) -> str:
    return f"{entry.dtype} {list(entry.shape)} in {entry.end - entry.begin} bytes"


class Pooled:
    """Scores pooled over several behaviours: preservation importance, or signed ones.

    `mean` weights each behaviour by its examples, as if all were one set. `max` takes the largest
    value, so that a weight which only one behaviour needs is preserved too. Only `max` is exact
    over truncated scores, because a weight's rank in a mean depends on scores that they lack.
    """

    def __init__(self, parts: Sequence[StoredScores], how: str) -> None:
        """Pool scores of the same kind; signed ones by `mean`.

        Raises:
            LesionError: a mean of several tails.
        """
        if how == "mean" and len(parts) > 1 and any(part.tail for part in parts):
            raise LesionError(
                "masks: the mean of several behaviours' preservation importance cannot be taken "
                "from tails. Set `masks.preservation_pooling: max`, or leave `scores.tail` out."
            )
        self.parts = parts
        counts = [int(part.metadata["examples"]) for part in parts]
        shares = [np.float32(count / sum(counts)) for count in counts]
        self.shares = shares if how == "mean" else None

    def open(self, name: str) -> Values:
        """The pooled importance of a parameter."""
        return _PooledValues([part.open(name) for part in self.parts], self.shares)


class _PooledValues:
    def __init__(self, parts: Sequence[Values], shares: Sequence[np.float32] | None) -> None:
        self.parts, self.shares = parts, shares

    def __getitem__(self, part: slice) -> Flat:
        blocks = (values[part] for values in self.parts)
        if self.shares is None:
            return reduce(np.maximum, blocks)
        weighted = (block * share for block, share in zip(blocks, self.shares, strict=True))
        return reduce(np.add, weighted)


class Contrast:
    """Signed scores of one behaviour minus multiples of others.

    Only weights that promote the first behaviour keep a negative score: the difference alone would
    also select weights that merely hinder the other ones.
    """

    def __init__(self, scores: StoredScores, minus: Sequence[tuple[Source, float]]) -> None:
        """Contrast scores of kind `snip` with others, each times a weight.

        Raises:
            LesionError: any are tails; see `check_whole`.
        """
        check_whole([scores, *(source for source, _ in minus if isinstance(source, StoredScores))])
        self.scores = scores
        self.minus = [(source, np.float32(weight)) for source, weight in minus]

    def open(self, name: str) -> Values:
        """The contrast of a parameter."""
        minus = [(source.open(name), weight) for source, weight in self.minus]
        return _ContrastValues(self.scores.open(name), minus)


class _ContrastValues:
    def __init__(self, scores: Values, minus: Sequence[tuple[Values, np.float32]]) -> None:
        self.scores, self.minus = scores, minus

    def __getitem__(self, part: slice) -> Flat:
        scores = self.scores[part]
        contrast = scores.copy()
        for values, weight in self.minus:
            contrast -= weight * values[part]
        # Four times as fast as to choose between the contrast and 0.
        contrast *= scores < 0
        return contrast


class Remembered:
    """A source of which several contrasts read the same part, one after another."""

    def __init__(self, source: Pooled) -> None:
        """Read nothing yet."""
        self.source = source
        self._open = lru_cache(maxsize=1)(lambda name: _RememberedValues(source.open(name)))

    def open(self, name: str) -> Values:
        """The scores of a parameter."""
        return self._open(name)


class _RememberedValues:
    def __init__(self, values: Values) -> None:
        self.values = values
        self.part: slice | None = None
        self.block = np.empty(0, np.float32)

    def __getitem__(self, part: slice) -> Flat:
        if part != self.part:
            self.part, self.block = part, self.values[part]
        return self.block


def check_whole(parts: Sequence[StoredScores]) -> None:
    """Refuse a contrast of truncated scores, which lack the second score of most weights.

    Raises:
        LesionError: any of them is a tail.
    """
    if any(part.tail for part in parts):
        raise LesionError(
            "masks: a contrast cannot be taken from truncated scores. Set `masks.contrast: 0`, or "
            "leave `scores.tail` out."
        )


class StoredNorms:
    """Sums of squares of each module's inputs over a behaviour's pairs (Wanda's ||X||^2)."""

    def __init__(self, path: Path) -> None:
        """Read the header."""
        self.path = path
        self._header = safetensors_header(path)
        self._sums = read_checksums(safetensors_metadata(path))

    def open(self, name: str) -> Flat:
        """float32 [inputs].

        Raises:
            LesionError: the parameter has no norm of its own.
            BadFile: its bytes are not as many as its shape says.
        """
        entry = self._header.get(name)
        if entry is None:
            raise LesionError(
                f"{self.path}: has no inputs' norm of `{name}`: stacked experts and weights that a "
                "model uses without calling their module have none. Remove `wanda` from "
                "`masks.controls`."
            )
        if entry.dtype != "F32" or not _is_consistent(entry):
            raise BadFile(
                f"{self.path}: `{name}` is {_described(entry)}. Delete the file and run "
                "`snakemake` again."
            )
        norms = np.fromfile(self.path, np.float32, entry.shape[0], offset=entry.begin)
        _check_sum(self.path, name, checksum(norms), self._sums)
        return norms
