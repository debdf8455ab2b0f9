"""Unfinished scoring on disk: a killed job goes on from what it has summed up.

Sums are kept as they are in memory, so the scores are the same bytes as without the break.
"""

import shutil
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from lesion.io.checksums import checksum
from lesion.io.formats import BadFile, atomic, read_json, write_json
from lesion.scores.collect import Sums
from lesion.scores.store import read_checksums, write_shard

_SECTIONS = ("total", "absolute", "norms")


class Resumable:
    """One pass's sums in a folder, saved every so often."""

    def __init__(self, folder: Path, key: str, seconds: float) -> None:
        """Use what lies in `folder` if it was saved under the same key.

        Args:
            folder: of its own.
            key: digest of all that decides the sums.
            seconds: least time between two savings.
        """
        self.folder, self.key, self.seconds = folder, key, seconds
        self._saved = time.monotonic()

    @property
    def _file(self) -> Path:
        return self.folder / "sums.safetensors"

    def restore(self, sums: Sums) -> tuple[int, float, int]:
        """Fill `sums`; return the batches done, the sum of their losses, and their examples."""
        try:
            with safe_open(self._file, "pt") as file:
                about = file.metadata() or {}
                if about.get("key") != self.key:
                    return 0, 0.0, 0
                wanted = read_checksums(about)
                for section, tensors in zip(_SECTIONS, sums, strict=True):
                    for name, one in tensors.items():
                        saved = file.get_tensor(f"{section}/{name}")
                        if checksum(saved.numpy()) != wanted.get(f"{section}/{name}"):
                            raise BadFile(f"{self._file}: `{section}/{name}` is damaged")
                        one.copy_(saved)
        except (OSError, SafetensorError, BadFile):
            for tensors in sums:
                for one in tensors.values():
                    one.zero_()
            return 0, 0.0, 0
        return int(about["done"]), float.fromhex(about["loss"]), int(about["examples"])

    def save(self, sums: Sums, done: int, loss: float, examples: int) -> None:
        """Keep `sums` after `done` batches, if it is time."""
        if time.monotonic() - self._saved < self.seconds:
            return
        tensors: dict[str, Tensor] = {
            f"{section}/{name}": one.cpu()
            for section, group in zip(_SECTIONS, sums, strict=True)
            for name, one in group.items()
        }
        numbers = {"done": str(done), "loss": loss.hex(), "examples": str(examples)}
        write_shard(tensors, self._file, {"key": self.key, **numbers})
        self._saved = time.monotonic()


class Workplace:
    """Where a job's shards lie until all are there: passes that were finished are not repeated."""

    def __init__(self, folder: Path, key: str) -> None:
        """Keep what lies in `folder` if it is of the same job, else begin anew."""
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
        """Where the pass with this number keeps its sums."""
        return Resumable(self.folder, f"{self.key}/{number}", seconds)

    def finished(self, number: int, files: Iterable[str]) -> dict[str, float] | None:
        """What was noted of a finished pass; None if it isn't, or a job that was killed while it
        moved the files has taken some away.
        """
        if not all((self.folder / name).is_file() for name in files):
            return None
        try:
            noted: dict[str, float] = read_json(self.folder / f"pass-{number}.json")
        except BadFile:
            return None
        return noted

    def finish(self, number: int, noted: Mapping[str, float]) -> None:
        """Note that a pass's shards are written."""
        write_json(dict(noted), self.folder / f"pass-{number}.json")
        (self.folder / "sums.safetensors").unlink(missing_ok=True)

    def move(self, names: list[str], to: Path) -> None:
        """Move finished files to their place."""
        for name in names:
            with atomic(to / name) as part:
                (self.folder / name).replace(part)

    def remove(self) -> None:
        """Everything is in its place."""
        shutil.rmtree(self.folder)
