"""Scores on disk: safetensors shards with an index, in Hugging Face's sharding layout."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from lesion.formats import BadFile, atomic, read_json, stable_header, write_json

KINDS = ("snip", "preservation")


def shard_names(kind: str, shards: int) -> list[str]:
    """File names of a kind of score in a fixed number of shards."""
    return [f"{kind}-{i:05}-of-{shards:05}.safetensors" for i in range(1, shards + 1)]


def index_name(kind: str) -> str:
    """File name of a kind's index."""
    return f"{kind}.safetensors.index.json"


def write_scores(
    scores: Mapping[str, Any], folder: Path, kind: str, shards: int, metadata: Mapping[str, str]
) -> None:
    """Write one kind of score (float32 torch tensors) as about equal shards, and an index."""
    from safetensors.torch import save_file

    groups = _groups({name: value.numel() for name, value in scores.items()}, shards)
    names = shard_names(kind, shards)
    for name, group in zip(names, groups, strict=True):
        with atomic(folder / name) as part:
            save_file({key: scores[key].cpu() for key in group}, part, {**metadata, "format": "pt"})
            stable_header(part)
    total = sum(value.numel() * 4 for value in scores.values())
    where = {key: name for name, group in zip(names, groups, strict=True) for key in group}
    sizes = {name: (folder / name).stat().st_size for name in names}
    index = {"metadata": {**metadata, "total_size": total, "files": sizes}, "weight_map": where}
    write_json(index, folder / index_name(kind))


def _groups(sizes: Mapping[str, int], shards: int) -> list[list[str]]:
    """Cut the names, in order, into `shards` runs of about the same number of elements."""
    target = sum(sizes.values()) / shards
    groups: list[list[str]] = [[] for _ in range(shards)]
    before = 0
    for name, size in sizes.items():
        groups[min(int((before + size / 2) / target), shards - 1)].append(name)
        before += size
    return groups


class StoredScores:
    """One kind of score of one behaviour, read a parameter at a time."""

    def __init__(self, folder: Path, kind: str, shapes: Mapping[str, Sequence[int]]) -> None:
        """Open the index and check that it covers `shapes` and that every shard is whole.

        Raises:
            BadFile: a shard is missing or cut short, or the scores are of another model.
        """
        self.folder = folder
        self.shapes = {name: tuple(shape) for name, shape in shapes.items()}
        index = read_json(folder / index_name(kind))
        self.metadata: dict[str, Any] = index["metadata"]
        self.where: dict[str, str] = index["weight_map"]
        if set(self.where) != set(shapes):
            raise BadFile(f"{folder / index_name(kind)}: holds scores of another model's weights")
        for name, size in self.metadata["files"].items():
            self._check_size(folder / name, size)

    @staticmethod
    def _check_size(path: Path, size: int) -> None:
        found = path.stat().st_size if path.is_file() else 0
        if found != size:
            raise BadFile(
                f"{path}: is missing or cut short ({found} of {size} bytes). Delete it and run "
                "`snakemake` again."
            )

    def __iter__(self) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """Parameter name and flat scores, in the order of `shapes`, one parameter in memory."""
        opened: dict[str, Any] = {}
        for name, shape in self.shapes.items():
            shard = self.where[name]
            if shard not in opened:
                opened = {shard: self._open(self.folder / shard)}
            values = self._read(opened[shard], self.folder / shard, name)
            if values.shape != shape:
                raise BadFile(f"{self.folder / shard}: `{name}` is {values.shape}, not {shape}")
            yield name, values.reshape(-1)

    @staticmethod
    def _open(path: Path) -> Any:
        try:
            return safe_open(path, "np")
        except (SafetensorError, OSError, json.JSONDecodeError) as error:
            raise BadFile(
                f"{path}: is not a whole safetensors file ({error}). Delete it and run "
                "`snakemake` again."
            ) from error

    @staticmethod
    def _read(shard: Any, path: Path, name: str) -> NDArray[np.float32]:
        try:
            values: NDArray[np.float32] = shard.get_tensor(name)
        except SafetensorError as error:
            raise BadFile(f"{path}: `{name}` cannot be read ({error}). Delete the file.") from error
        if not np.isfinite(values).all():
            raise BadFile(f"{path}: `{name}` holds scores that are not finite. Delete the file.")
        return values

    def flat(self) -> NDArray[np.float32]:
        """All scores in the order of `shapes`, float32 [candidates]."""
        out = np.empty(sum(int(np.prod(shape)) for shape in self.shapes.values()), np.float32)
        start = 0
        for _, values in self:
            out[start : start + values.size] = values
            start += values.size
        return out
