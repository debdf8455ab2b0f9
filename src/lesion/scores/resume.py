"""Unfinished scoring on disk, so that a killed job resumes from the sums it has saved.

The sums are saved exactly as they are in memory, so the scores of a resumed job are the same bytes.
"""

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError, safe_open
from torch import Tensor

from lesion.io.checksums import checksum
from lesion.io.formats import BadFile, atomic, read_json, write_json
from lesion.scores.shards import read_checksums, write_shard

_SUMS = "sums.safetensors"


class Sums(NamedTuple):
    """The sums of a pass; float32, on the weights' device or the CPU."""

    total: dict[str, Tensor]
    absolute: dict[str, Tensor]
    norms: dict[str, Tensor]

    def by_name(self) -> dict[str, Tensor]:
        """All of them, by their names in a file."""
        return {
            f"{section}/{name}": tensor
            for section, tensors in self._asdict().items()
            for name, tensor in tensors.items()
        }


class Resumable:
    """The sums of one pass in a folder, saved at intervals, so that a killed pass can resume."""

    def __init__(self, folder: Path, key: str, seconds: float) -> None:
        """Use the sums in `folder` if they were saved under the same key, a digest of everything
        that determines them; `seconds` is the least time between two saves.
        """
        self.key, self.seconds = key, seconds
        self._file, self._saved = folder / _SUMS, time.monotonic()

    def restore(self, sums: Sums) -> tuple[int, float, int]:
        """Fill `sums`; return the batches done, the sum of their losses, and their examples."""
        try:
            with safe_open(self._file, "pt") as file:
                about = file.metadata() or {}
                if about.get("key") != self.key:
                    return 0, 0.0, 0
                wanted = read_checksums(about)
                for name, tensor in sums.by_name().items():
                    saved = file.get_tensor(name)
                    if checksum(saved.numpy()) != wanted.get(name):
                        raise BadFile(f"{self._file}: `{name}` is damaged")
                    tensor.copy_(saved)
        except (OSError, SafetensorError, BadFile):
            for tensor in sums.by_name().values():
                tensor.zero_()
            return 0, 0.0, 0
        return int(about["done"]), float.fromhex(about["loss"]), int(about["examples"])

    def save(self, sums: Sums, done: int, loss: float, examples: int) -> None:
        """Save `sums` after `done` batches, if the last save is old enough."""
        if time.monotonic() - self._saved < self.seconds:
            return
        tensors = {name: tensor.cpu() for name, tensor in sums.by_name().items()}
        numbers = {"done": str(done), "loss": loss.hex(), "examples": str(examples)}
        write_shard(tensors, self._file, {"key": self.key, **numbers})
        self._saved = time.monotonic()


class FinishedPasses:
    """A folder for a job's shards until all are written, so that no finished pass is repeated."""

    def __init__(self, folder: Path, key: str) -> None:
        """Keep the content of `folder` if it belongs to the same job, otherwise delete it."""
        self.folder, self.key = folder, key
        marker = folder / "job.json"
        try:
            same = read_json(marker) == {"key": key}
        except BadFile:
            same = False
        if not same:
            shutil.rmtree(folder, ignore_errors=True)
            write_json({"key": key}, marker)

    def sums(self, number: int, seconds: float) -> Resumable:
        """The saved sums of the pass with this number."""
        return Resumable(self.folder, f"{self.key}/{number}", seconds)

    def finished(self, number: int) -> float | None:
        """The loss of a finished pass; None if it is unfinished, or if a job that was killed while
        it moved the files has moved some of them.
        """
        try:
            noted = read_json(self.folder / f"finished-{number}.json")
        except BadFile:
            return None
        there = all((self.folder / name).is_file() for name in noted["files"])
        return float(noted["loss"]) if there else None

    def finish(self, number: int, loss: float, files: Sequence[str]) -> None:
        """Record that the files of a pass are written."""
        write_json({"loss": loss, "files": list(files)}, self.folder / f"finished-{number}.json")
        (self.folder / _SUMS).unlink(missing_ok=True)

    def move(self, names: list[str], to: Path) -> None:
        """Move finished files to their destination."""
        for name in names:
            with atomic(to / name) as part:
                (self.folder / name).replace(part)

    def remove(self) -> None:
        """Remove the folder; all files have been moved."""
        shutil.rmtree(self.folder)
