"""A checkpoint's weights, one parameter at a time, without torch if the files allow it."""

from functools import cached_property
from pathlib import Path

import numpy as np

from lesion.io.formats import LesionError
from lesion.models.files import stored_tensors
from lesion.models.layout import Flat
from lesion.models.parts import Part, box_in, box_of, unchanged_part
from lesion.models.record import candidate_shapes, unstored

_FLOATS = {"F32": np.float32, "F16": np.float16, "F64": np.float64}


class StoredWeights:
    """The weights of a prepared checkpoint folder as flat float32."""

    def __init__(self, folder: Path) -> None:
        """Read the headers of the folder's shards."""
        self.folder = folder
        self._where = stored_tensors(folder)
        self._moved = set(unstored(folder))

    def open(self, name: str) -> Flat:
        """A candidate's weights, as they are in memory.

        Raises:
            LesionError: the checkpoint does not store it, or not in a plain float dtype.
        """
        if name in self._where and name not in self._moved:
            return self._read(name)
        parts = self._parts.get(name)
        if parts is None:
            raise LesionError(
                f"{self.folder}: `{name}` cannot be traced to stored tensors, so `wanda` and "
                "`random-magnitude` cannot be computed. Remove them from `masks.controls`."
            )
        shape = candidate_shapes(self.folder)[name]
        if parts == (unchanged_part(parts[0].name, shape),):
            return self._read(parts[0].name)
        values = np.empty(shape, np.float32)
        for part in parts:
            values[box_in(part)] = box_of(part, self._read(part.name).reshape(part.stored))
        return values.reshape(-1)

    @cached_property
    def _parts(self) -> dict[str, tuple[Part, ...]]:
        # Importing it takes seconds, and most checkpoints store weights as they are in memory.
        from lesion.models.conversion import empty_model, stored_parts

        return stored_parts(empty_model(self.folder), self.folder)

    def _read(self, name: str) -> Flat:
        """A tensor as the files store it."""
        path, entry = self._where[name]
        count = int(np.prod(entry.shape))
        if entry.dtype == "BF16":
            half = np.fromfile(path, np.uint16, count, offset=entry.begin)
            return (half.astype(np.uint32) << 16).view(np.float32)
        if entry.dtype not in _FLOATS:
            raise LesionError(f"{path}: `{name}` is {entry.dtype}; only plain floats are read")
        values = np.fromfile(path, _FLOATS[entry.dtype], count, offset=entry.begin)
        return values.astype(np.float32, copy=False)
