"""Writing scores: safetensors shards with an index, in Hugging Face's sharding layout.

`full` storage holds every score. `tail` storage holds what any selection up to a stated (p, q)
can use, as sorted indices and values; every other score reads as one that is never selected.
"""

import importlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from lesion.io.checksums import checksum
from lesion.io.formats import atomic, safetensors_header, stable_header, write_json
from lesion.scores.jobs import Coverage

NORMS = "norms.safetensors"
"""File name of the norms of a behaviour's inputs."""
_Name = TypeVar("_Name")
CHECKSUMS = "xxh3_64"
"""Key of a shard's metadata: the checksum of every tensor, as JSON."""


def shard_names(kind: str, shards: int) -> list[str]:
    """File names of a kind of score in a fixed number of shards."""
    return [f"{kind}-{i:05}-of-{shards:05}.safetensors" for i in range(1, shards + 1)]


def index_name(kind: str) -> str:
    """File name of a kind's index."""
    return f"{kind}.safetensors.index.json"


def shard_groups(sizes: Mapping[_Name, int], shards: int) -> list[list[_Name]]:
    """Divide the names, in order, into `shards` groups of about the same number of elements."""
    target = sum(sizes.values()) / shards
    groups: list[list[_Name]] = [[] for _ in range(shards)]
    before = 0
    for name, size in sizes.items():
        groups[min(int((before + size / 2) / target), shards - 1)].append(name)
        before += size
    return groups


def index_type(size: int) -> tuple[str, type[np.unsignedinteger[Any]] | type[np.int64]]:
    """The dtype of a tail's indices in a parameter of `size` weights, in safetensors and numpy."""
    return ("U32", np.uint32) if size <= 2**32 else ("I64", np.int64)


def write_shard(tensors: Mapping[str, Any], path: Path, metadata: Mapping[str, str]) -> None:
    """Write one shard of torch tensors or numpy arrays atomically.

    Its metadata gets the checksum of each tensor, which readers compare with what they read.
    """
    # Imported here, because writing a tail does not need torch.
    arrays = any(isinstance(tensor, np.ndarray) for tensor in tensors.values())
    library = importlib.import_module(f"safetensors.{'numpy' if arrays else 'torch'}")
    sums = {
        name: checksum(np.ascontiguousarray(tensor)) for name, tensor in sorted(tensors.items())
    }
    about = {**metadata, "format": "pt", CHECKSUMS: json.dumps(sums)}
    with atomic(path) as part:
        library.save_file(dict(tensors), part, about)
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
    stored = [entry for name in names for entry in safetensors_header(folder / name).values()]
    about = {
        **metadata,
        "storage": "tail" if tail else "full",
        "tail": tail.model_dump() if tail else None,
        "total_size": sum(entry.end - entry.begin for entry in stored),
        "files": {name: (folder / name).stat().st_size for name in names},
    }
    where = {key: name for name, group in zip(names, groups, strict=True) for key in group}
    write_json({"metadata": about, "weight_map": where}, folder / index_name(kind))


def read_checksums(metadata: Mapping[str, str]) -> dict[str, str]:
    """The checksums in a shard's metadata, by tensor; empty where there are none."""
    try:
        sums: dict[str, str] = json.loads(metadata.get(CHECKSUMS, "{}"))
    except ValueError:
        return {}
    return sums
