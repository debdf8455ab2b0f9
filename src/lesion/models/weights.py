"""A checkpoint's own weights, one parameter at a time, without torch."""

from pathlib import Path

import numpy as np

from lesion.formats import LesionError, Stored, safetensors_header
from lesion.models.layout import Flat


class StoredWeights:
    """The weights of a checkpoint folder as flat float32."""

    def __init__(self, folder: Path) -> None:
        """Read the headers of the folder's shards."""
        self.folder = folder
        self._where: dict[str, tuple[Path, Stored]] = {
            name: (shard, entry)
            for shard in sorted(folder.glob("*.safetensors"))
            for name, entry in safetensors_header(shard).items()
        }

    def open(self, name: str) -> Flat:
        """A parameter's weights.

        Raises:
            LesionError: the checkpoint does not store it, or in a dtype that is no plain float.
        """
        if name not in self._where:
            raise LesionError(
                f"{self.folder}: stores no `{name}` (transformers may fuse it on loading), so a "
                "control that looks at weights cannot be made. Take it from `masks.controls`."
            )
        path, entry = self._where[name]
        count = int(np.prod(entry.shape))
        if entry.dtype == "BF16":
            half = np.fromfile(path, np.uint16, count, offset=entry.begin)
            return (half.astype(np.uint32) << 16).view(np.float32)
        if entry.dtype not in _FLOATS:
            raise LesionError(f"{path}: `{name}` is {entry.dtype}; only plain floats are read")
        values = np.fromfile(path, _FLOATS[entry.dtype], count, offset=entry.begin)
        return values.astype(np.float32, copy=False)


_FLOATS = {"F32": np.float32, "F16": np.float16, "F64": np.float64}
