"""Masks on disk: safetensors of sorted flat int64 indices, with their origin in the header."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from lesion.io.formats import SEAL, BadFile, atomic, check_seal, seal, stable_header
from lesion.models.layout import FlatIndices, Layout

FORMAT = "1"
_KEY, _START = b'"lesion_format"', 2**20
"""What the header of every mask contains, and within how many bytes from the file's beginning."""


class Mask(NamedTuple):
    """Sorted flat int64 indices per parameter, the parameters' shapes, and the header's strings."""

    indices: dict[str, FlatIndices]
    shapes: dict[str, tuple[int, ...]]
    metadata: dict[str, str]

    @property
    def size(self) -> int:
        """Number of weights in the mask."""
        return sum(indices.size for indices in self.indices.values())

    def flat(self) -> FlatIndices:
        """Flat indices over all prunable parameters, in the order of `shapes`."""
        layout = Layout.of(dict(self.shapes))
        parts = [
            self.indices[name] + start
            for name, start in zip(layout.names, layout.offsets, strict=False)
            if name in self.indices
        ]
        return np.concatenate(parts) if parts else np.empty(0, np.int64)


def write_mask(
    mask: FlatIndices,
    shapes: Mapping[str, tuple[int, ...]],
    metadata: Mapping[str, str],
    path: Path,
) -> None:
    """Write a mask given as flat indices; matrices that it does not touch have no entry."""
    layout = Layout.of(dict(shapes))
    tensors = {
        f"{name}.indices": np.ascontiguousarray(part, np.int64)
        for name, part in zip(layout.names, layout.split(mask), strict=True)
        if part.size
    }
    header = {
        **metadata,
        **SEAL,
        "lesion_format": FORMAT,
        "weights": str(mask.size),
        "candidates": str(int(layout.offsets[-1])),
        "shapes": json.dumps({name: list(shape) for name, shape in shapes.items()}),
    }
    with atomic(path) as part_path:
        part_path.write_bytes(save(tensors, header))
        stable_header(part_path)
        seal(part_path)


def read_mask(path: Path) -> Mask:
    """Read a mask and check it.

    Raises:
        BadFile: it is missing, no mask, damaged, of another version, or its indices are not sorted
            or lie outside their parameters.
    """
    _check_written_by_lesion(path)
    try:
        check_seal(path)
        with safe_open(path, "np") as file:
            metadata = {
                key: text for key, text in (file.metadata() or {}).items() if key not in SEAL
            }
            stored = {key.removesuffix(".indices"): file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        if metadata.get("lesion_format") != FORMAT:
            raise BadFile(f"{path}: is not a mask of format {FORMAT}. Delete it and run again.")
        shapes = {name: tuple(shape) for name, shape in json.loads(metadata["shapes"]).items()}
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise BadFile(f"{path}: is not a whole mask ({error}). Delete it and run again.") from error
    for name, indices in stored.items():
        inside = name in shapes and indices.size and indices[-1] < np.prod(shapes[name])
        if not (inside and indices[0] >= 0 and (np.diff(indices) > 0).all()):
            raise BadFile(
                f"{path}: the indices of `{name}` are not sorted flat indices inside it. "
                "Delete it and run again."
            )
    return Mask({name: stored[name] for name in shapes if name in stored}, shapes, metadata)


def _check_written_by_lesion(path: Path) -> None:
    """Refuse a file that users may have given by mistake, which they must not be told to delete."""
    give = "Give a mask: results/STUDY/masks/MODEL/NAME.safetensors"
    try:
        with path.open("rb") as file:
            start = file.read(_START)
    except FileNotFoundError as error:
        raise BadFile(f"{path}: is missing: there is no such file. {give}.") from error
    except OSError as error:
        raise BadFile(f"{path}: could not be read: {error.strerror or error}. {give}.") from error
    if _KEY not in start:
        raise BadFile(
            f"{path}: is no mask that lesion wrote. {give}. If it lies there, it is damaged: "
            "remove it and run the study again."
        )
