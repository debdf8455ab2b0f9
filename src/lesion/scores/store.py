"""Scores on disk: safetensors shards with an index, in Hugging Face's sharding layout.

`full` storage holds every score. `tail` storage holds what any selection up to a stated (p, q)
can use, as sorted indices and values; every other score reads as one that is never selected.
"""

import importlib
import json
import os
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from lesion.io.checksums import checksum, xxh3_64
from lesion.io.formats import (
    BadFile,
    LesionError,
    Stored,
    atomic,
    read_json,
    safetensors_header,
    safetensors_metadata,
    stable_header,
    write_json,
)
from lesion.models.layout import Flat
from lesion.scores.jobs import Coverage

CHECKSUMS = "xxh3_64"
"""Key of a shard's metadata: the checksum of every tensor, as JSON."""
_FILL = {"snip": np.float32(np.inf), "preservation": np.float32(-np.inf)}
"""The value of a score that a tail does not contain, so that it is never selected or preserved."""


def shard_names(kind: str, shards: int) -> list[str]:
    """File names of a kind of score in a fixed number of shards."""
    return [f"{kind}-{i:05}-of-{shards:05}.safetensors" for i in range(1, shards + 1)]


def index_name(kind: str) -> str:
    """File name of a kind's index."""
    return f"{kind}.safetensors.index.json"


def shard_groups(sizes: Mapping[str, int], shards: int) -> list[list[str]]:
    """Divide the names, in order, into `shards` groups of about the same number of elements."""
    target = sum(sizes.values()) / shards
    groups: list[list[str]] = [[] for _ in range(shards)]
    before = 0
    for name, size in sizes.items():
        groups[min(int((before + size / 2) / target), shards - 1)].append(name)
        before += size
    return groups


def write_shard(tensors: Mapping[str, Any], path: Path, metadata: Mapping[str, str]) -> None:
    """Write one shard of torch tensors or numpy arrays atomically.

    Its metadata gets the checksum of each tensor, which readers compare with what they read.
    """
    # Imported here, because writing a tail does not need torch.
    arrays = any(isinstance(one, np.ndarray) for one in tensors.values())
    kind = importlib.import_module(f"safetensors.{'numpy' if arrays else 'torch'}")
    sums = {name: checksum(np.ascontiguousarray(one)) for name, one in sorted(tensors.items())}
    with atomic(path) as part:
        kind.save_file(
            dict(tensors), part, {**metadata, "format": "pt", CHECKSUMS: json.dumps(sums)}
        )
        stable_header(part)


def write_index(
    folder: Path,
    kind: str,
    groups: Sequence[Iterable[str]],
    metadata: Mapping[str, str],
    tail: Coverage | None = None,
) -> None:
    """Write the index of the shards in `folder`: parameters by shard, sizes and metadata."""
    names = shard_names(kind, len(groups))
    files = {name: (folder / name).stat().st_size for name in names}
    where = {key: name for name, group in zip(names, groups, strict=True) for key in group}
    about = {
        **metadata,
        "storage": "tail" if tail else "full",
        "tail": tail.model_dump() if tail else None,
        "total_size": sum(one.end - one.begin for path in files for one in _stored(folder / path)),
        "files": files,
    }
    write_json({"metadata": about, "weight_map": where}, folder / index_name(kind))


def _stored(path: Path) -> list[Stored]:
    return list(safetensors_header(path).values())


def read_checksums(metadata: Mapping[str, str]) -> dict[str, str]:
    """The checksums in a shard's metadata, by tensor; empty where there are none."""
    try:
        sums: dict[str, str] = json.loads(metadata.get(CHECKSUMS, "{}"))
    except ValueError:
        return {}
    return sums


class Values(Protocol):
    """The flat float32 scores of one parameter, of which only the requested slice is read."""

    def __getitem__(self, part: slice, /) -> Flat: ...


class Source(Protocol):
    """Scores of one kind, opened one parameter at a time."""

    def open(self, name: str, /) -> Values:
        """The scores of a parameter."""
        ...


class _Dense:
    """Scores stored densely, checked for NaN and infinity as they are read.

    Where they are read from first to last, in slices, their checksum is compared at the end.
    """

    def __init__(self, file: BinaryIO, entry: Stored, what: str, wanted: str | None) -> None:
        self.file, self.begin, self.what = file, entry.begin, what
        self.size, self.wanted = (entry.end - entry.begin) // 4, wanted
        self._next, self._sum = 0, xxh3_64()

    def __getitem__(self, part: slice) -> Flat:
        # Read and not mapped, because mapped pages count as this job's memory.
        found = _pread(self.file, self.begin + 4 * part.start, 4 * (part.stop - part.start))
        block = found.view(np.float32)
        if block.size and not np.isfinite([block.min(), block.max()]).all():
            raise BadFile(
                f"{self.what} holds scores that are not finite. Delete the file and run "
                "`snakemake` again."
            )
        self._add(part, found)
        return block

    def _add(self, part: slice, found: NDArray[np.uint8]) -> None:
        if part.start == 0:
            self._next, self._sum = 0, xxh3_64()
        if part.start != self._next:
            return
        self._next = part.stop
        self._sum.update(found.data)
        if self._next == self.size:
            _check_sum(self.what, self._sum.hexdigest(), self.wanted)


def _wanted(sums: Mapping[str, str], name: str) -> str | None:
    """A tensor's checksum as written; None if the file's version had none or another one."""
    return sums.get(name, "") if sums else None


def _check_sum(what: str, found: str, wanted: str | None) -> None:
    if wanted not in (None, found):
        raise BadFile(
            f"{what} is not as it was written: a bit has changed. Delete the file and run "
            "`snakemake` again."
        )


class _Sparse:
    """Truncated scores that read as if they were dense."""

    def __init__(self, places: NDArray[Any], values: Flat, fill: np.float32) -> None:
        self.places, self.values, self.fill = places, values, fill

    def __getitem__(self, part: slice) -> Flat:
        # np.searchsorted would copy all indices into the dtype of the searched value.
        first, last = bisect_left(self.places, part.start), bisect_left(self.places, part.stop)
        block = np.full(part.stop - part.start, self.fill, np.float32)
        block[self.places[first:last].astype(np.int64) - part.start] = self.values[first:last]
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
            self._check_size(folder / name, size)
        self._headers: dict[str, dict[str, Stored]] = {}
        self._sums: dict[str, dict[str, str]] = {}
        self._files: dict[str, BinaryIO] = {}

    @staticmethod
    def _check_size(path: Path, size: int) -> None:
        found = path.stat().st_size if path.is_file() else 0
        if found != size:
            raise BadFile(
                f"{path}: is missing or cut short ({found} of {size} bytes). Delete it and run "
                "`snakemake` again."
            )

    def check_covers(self, p: float, q: float, scope: str) -> None:
        """Refuse a selection for which truncated scores do not contain enough.

        Raises:
            LesionError: p or q lies beyond the tail, or it was cut for another scope.
        """
        if self.tail and (p > self.tail.p or q > self.tail.q or scope != self.tail.scope):
            raise LesionError(
                f"{self.folder}: its scores are a tail that serves p up to {self.tail.p}, q up to "
                f"{self.tail.q} and scope {self.tail.scope}; p={p}, q={q}, scope {scope} was asked "
                "for. Raise `scores.tail` (the behaviour is scored anew) or ask for less."
            )

    def open(self, name: str) -> Values:
        """The flat scores of a parameter.

        Raises:
            BadFile: the shard is damaged or holds another shape.
        """
        if not self.tail:
            file, entry = self._entry(name, name, "F32")
            wanted = _wanted(self._sums[self.where[name]], name)
            return _Dense(file, entry, f"{self._path(name)}: `{name}`", wanted)
        size = int(np.prod(self.shapes[name]))
        stored, dtype = place_type(size)
        places: NDArray[Any] = self._tensor(name, f"{name}.indices", stored).view(dtype)
        values: Flat = self._tensor(name, f"{name}.values", "F32").view(np.float32)
        _check_tail(places, values, size, self._path(name), name)
        return _Sparse(places, values, _FILL[self.kind])

    def _path(self, name: str) -> Path:
        return self.folder / self.where[name]

    def _tensor(self, name: str, key: str, dtype: str) -> NDArray[np.uint8]:
        """The bytes of a tensor."""
        file, entry = self._entry(name, key, dtype)
        found = _pread(file, entry.begin, entry.end - entry.begin)
        wanted = _wanted(self._sums[self.where[name]], key)
        _check_sum(f"{self._path(name)}: `{key}`", checksum(found), wanted)
        return found

    def _entry(self, name: str, key: str, dtype: str) -> tuple[BinaryIO, Stored]:
        """The open shard, and the position of a tensor in it."""
        shard = self.where[name]
        if shard not in self._files:
            self._headers[shard] = safetensors_header(self.folder / shard)
            self._sums[shard] = self._check_origin(self.folder / shard)
            self._files[shard] = (self.folder / shard).open("rb", buffering=0)
        entry = self._headers[shard].get(key)
        shape = self.shapes[name]
        if (
            entry is None
            or entry.dtype != dtype
            or entry.end - entry.begin != _bytes(entry)
            or (not self.tail and entry.shape != shape)
        ):
            found = (
                f"{entry.dtype} {list(entry.shape)} in {entry.end - entry.begin} bytes"
                if entry
                else "missing"
            )
            raise BadFile(
                f"{self.folder / shard}: `{key}` is {found}, not {dtype} {list(shape)}. Delete the "
                "file and run `snakemake` again."
            )
        return self._files[shard], entry

    def _check_origin(self, path: Path) -> dict[str, str]:
        """Refuse a shard of another behaviour, model or kind.

        Returns:
            The checksums of its tensors.
        """
        metadata = safetensors_metadata(path)
        for key, text in metadata.items():
            if self.metadata.get(key, text) != text:
                raise BadFile(
                    f"{path}: its `{key}` is {text!r}, and its index says {self.metadata[key]!r}: "
                    "it is another's shard. Delete it and run `snakemake` again."
                )
        return read_checksums(metadata)

    def flat(self) -> Flat:
        """All scores in the order of `shapes`, float32 [candidates]."""
        sizes = {name: int(np.prod(shape)) for name, shape in self.shapes.items()}
        return np.concatenate([self.open(name)[0:size] for name, size in sizes.items()])


def _pread(file: BinaryIO, begin: int, size: int) -> NDArray[np.uint8]:
    """Bytes of a file, whose size has been checked."""
    found = np.empty(size, np.uint8)
    done = 0
    while done < size and (more := os.preadv(file.fileno(), [found.data[done:]], begin + done)):
        done += more
    if done < size:
        raise BadFile(f"{file.name}: was cut short while it was read. Run `snakemake` again.")
    return found


def _bytes(entry: Stored) -> int:
    return int(np.prod(entry.shape)) * int(entry.dtype[1:]) // 8


def place_type(size: int) -> tuple[str, type[np.unsignedinteger[Any]] | type[np.int64]]:
    """The dtype of a tail's indices in a parameter of `size` weights, in safetensors and numpy."""
    return ("U32", np.uint32) if size <= 2**32 else ("I64", np.int64)


def _check_tail(places: NDArray[Any], values: Flat, size: int, path: Path, name: str) -> None:
    whole = places.size == values.size and bool(np.isfinite(values).all())
    ordered = bool((places[1:] > places[:-1]).all())
    inside = not places.size or (int(places[0]) >= 0 and int(places[-1]) < size)
    if not (whole and ordered and inside):
        raise BadFile(
            f"{path}: the tail of `{name}` is not finite scores at sorted places inside it. Delete "
            "the file and run `snakemake` again."
        )


class Pooled:
    """Preservation importance pooled over several behaviours.

    `mean` weights each behaviour by its examples, as if all were one set. `max` takes the largest
    value, so that a weight which only one behaviour needs is preserved too. Only `max` is exact
    over truncated scores, because a weight's rank in a mean depends on scores that they lack.
    """

    def __init__(self, parts: Sequence[StoredScores], how: str) -> None:
        """Pool scores of kind `preservation`.

        Raises:
            LesionError: a mean of several tails.
        """
        if how == "mean" and len(parts) > 1 and any(part.tail for part in parts):
            raise LesionError(
                "masks: the mean of several behaviours' preservation importance cannot be taken "
                "from tails. Set `masks.preservation_pooling: max`, or leave `scores.tail` out."
            )
        self.parts, self.how = parts, how
        counts = [int(part.metadata["examples"]) for part in parts]
        self.shares = [np.float32(count / sum(counts)) for count in counts]

    def open(self, name: str) -> Values:
        """The pooled importance of a parameter."""
        opened = [part.open(name) for part in self.parts]
        return _PooledValues(opened, self.shares if self.how == "mean" else None)


class _PooledValues:
    def __init__(self, parts: Sequence[Values], shares: Sequence[np.float32] | None) -> None:
        self.parts, self.shares = parts, shares

    def __getitem__(self, part: slice) -> Flat:
        if len(self.parts) == 1:
            return self.parts[0][part]
        if self.shares is None:
            out = self.parts[0][part].copy()
            for one in self.parts[1:]:
                np.maximum(out, one[part], out=out)
            return out
        out = self.parts[0][part] * self.shares[0]
        scratch = np.empty_like(out)
        for one, share in zip(self.parts[1:], self.shares[1:], strict=True):
            np.multiply(one[part], share, out=scratch)
            out += scratch
        return out


NORMS = "norms.safetensors"


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
        if name not in self._header:
            raise LesionError(
                f"{self.path}: has no inputs' norm of `{name}`: stacked experts and weights that a "
                "model uses without calling their module have none. Take `wanda` from "
                "`masks.controls`."
            )
        entry = self._header[name]
        if entry.dtype != "F32" or entry.end - entry.begin != _bytes(entry):
            raise BadFile(
                f"{self.path}: `{name}` is {entry.dtype} {list(entry.shape)} in "
                f"{entry.end - entry.begin} bytes. Delete the file and run `snakemake` again."
            )
        found = np.fromfile(self.path, np.float32, entry.shape[0], offset=entry.begin)
        _check_sum(f"{self.path}: `{name}`", checksum(found), _wanted(self._sums, name))
        return found
