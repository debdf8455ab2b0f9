"""The record beside a checkpoint's own files; reading it needs no torch."""

from pathlib import Path
from typing import Any

from lesion.formats import BadFile, read_json

RECORD = "lesion.json"
FORMAT = 1


def read_record(folder: Path) -> dict[str, Any]:
    """Digest, sizes of files, candidates' shapes, architecture and licence of a checkpoint folder.

    Raises:
        BadFile: the record is of another version, or a file is not as long as it says.
    """
    record: dict[str, Any] = read_json(folder / RECORD)
    if record.get("format") != FORMAT:
        raise BadFile(f"{folder / RECORD}: is of another version. Delete it and run again.")
    for name, size in record["files"].items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != size:
            raise BadFile(
                f"{path}: is missing or cut short ({size} bytes expected). Delete "
                f"{folder / RECORD} and run `snakemake` again."
            )
    return record


def candidate_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of the candidate weights, in the model's order."""
    return {name: tuple(shape) for name, shape in read_record(folder)["candidates"].items()}
