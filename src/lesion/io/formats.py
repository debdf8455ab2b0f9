"""Files: written atomically and checked when they are read.

All outputs of the pipeline are written and read by these functions, which write to a temporary
file and rename it, name the file and the fix in errors, and never load a pickle.
"""

import errno
import glob
import hashlib
import json
import os
import platform
import re
import shutil
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import polars as pl
import psutil


class LesionError(Exception):
    """An error whose message says what is wrong and what to do; shown without a traceback."""


class BadFile(LesionError):
    """A file that is missing, truncated, or invalid."""


_HOST = re.sub(r"[^A-Za-z0-9]", "_", platform.node())


@contextmanager
def temporary_folder(parent: Path, name: str) -> Iterator[Path]:
    """An empty folder in `parent` that exists inside the block; its absolute path.

    What killed processes left there under this name is removed.
    """
    folder = _own_part(parent.absolute() / name)
    _clear_others(parent / name)
    folder.mkdir()
    try:
        yield folder
    finally:
        _remove(folder)


def _own_part(path: Path) -> Path:
    """A path beside `path` that only this process uses."""
    return path.with_name(f"{path.name}-{_HOST}-{os.getpid()}")


def _clear_others(path: Path) -> None:
    """Remove such files of killed processes of this machine; others may still be in use."""
    start = f"{path.name}-{_HOST}-"
    for left in path.parent.glob(f"{glob.escape(start)}*"):
        number = left.name.removeprefix(start)
        if number.isdecimal() and not psutil.pid_exists(int(number)):
            _remove(left)


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; rename it there if the block succeeds, else remove it.

    The file is complete even if a process is killed. It is not synced to the disk, since a study
    writes gigabytes of scores; damage by a power cut is caught by readers, which check sizes and
    headers.

    Raises:
        LesionError: the disk is full or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.part")
    part = _own_part(temporary)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _clear_others(temporary)
        yield part
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        part.replace(path)
    except BaseException as error:
        _remove(part)
        explained = _explained(error, path)
        if explained is error:
            raise
        raise explained from error
    finally:
        _remove(part)


def _explained(error: BaseException, path: Path) -> BaseException:
    """Turn an error of a full or read-only disk into a message with the fix.

    Libraries wrap the operating system's error differently (polars and safetensors keep only its
    text), so the text is searched too.
    """
    code = getattr(error, "errno", None)
    text = str(error)
    if code in (errno.ENOSPC, errno.EDQUOT) or "No space left on device" in text:
        free = shutil.disk_usage(path.parent).free / 2**20
        return LesionError(
            f"{path}: the disk is full ({free:.0f} MiB free). No partial file was left; free "
            "some space (or set `results` to another disk) and run the same command again."
        )
    if code in (errno.EROFS, errno.EACCES, errno.EPERM):
        return LesionError(f"{path}: cannot be written ({error}). Check the folder's permissions.")
    return error


def _remove(part: Path) -> None:
    if part.is_dir() and not part.is_symlink():
        shutil.rmtree(part, ignore_errors=True)
    else:
        part.unlink(missing_ok=True)


def write_json(value: Any, path: Path) -> None:
    """Write `value` as indented JSON with sorted keys."""
    with atomic(path) as part:
        part.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file this pipeline wrote.

    Raises:
        BadFile: it is missing or incomplete.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadFile(f"{path}: is missing. Run `snakemake` again to rebuild it.") from error
    except ValueError as error:
        raise BadFile(
            f"{path}: is not complete JSON ({error}). Delete it and run `snakemake` again."
        ) from error


def write_parquet(table: pl.DataFrame, path: Path) -> None:
    """Write a table as zstd parquet; the same table gives the same bytes."""
    with atomic(path) as part:
        table.write_parquet(part, compression="zstd", statistics=False, metadata=SEAL)
        seal(part)


def read_parquet(path: Path, columns: Mapping[str, Any] | None = None) -> pl.DataFrame:
    """Read a parquet table this pipeline wrote, checking that `columns` (name: dtype) are there.

    Raises:
        BadFile: it is missing, truncated, damaged, or lacks a column.
    """
    try:
        # Before reading, because polars may read other values from a damaged page, or panic.
        check_seal(path)
        table = pl.read_parquet(path)
    except FileNotFoundError as error:
        raise BadFile(f"{path}: is missing. Run `snakemake` again to rebuild it.") from error
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        raise BadFile(
            f"{path}: is not a complete parquet file ({error}). Delete it and run "
            "`snakemake` again."
        ) from error
    for name, dtype in (columns or {}).items():
        if table.schema.get(name) != dtype:
            raise BadFile(
                f"{path}: column `{name}` should be {dtype}, found {table.schema.get(name)}. "
                "Delete the file and run `snakemake` again."
            )
    return table


SEAL = {"lesion_crc32": "00000000"}
"""Metadata of a parquet or safetensors file that reserves space for its checksum."""

_SEALS = (b"lesion_crc32\x18\x08", b'"lesion_crc32":"')
"""The bytes before the checksum in a parquet footer (Thrift) and in a safetensors header."""


def seal(path: Path) -> None:
    """Write the CRC-32 of a file's other bytes into the space that `SEAL` reserves.

    Raises:
        BadFile: the file was written without `SEAL`.
    """
    with path.open("r+b") as file:
        at, _, computed = _checksum(file)
        if at is None:
            raise BadFile(f"{path}: was written without room for its checksum")
        file.seek(at)
        file.write(computed)


def check_seal(path: Path) -> None:
    """Compare a sealed file with its checksum; a file without one is not checked.

    Raises:
        ValueError: a byte has changed since it was sealed.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        at, stored, computed = _checksum(file)
    if at is not None and stored != computed:
        raise ValueError(f"its checksum is {computed.decode()}, not {stored!r} as written")


def _checksum(file: BinaryIO) -> tuple[int | None, bytes, bytes]:
    """The offset of the checksum in a file, the stored and the computed one; None without one."""
    if not os.fstat(file.fileno()).st_size:
        return None, b"", b""  # and cannot be mapped
    with mmap(file.fileno(), 0, access=ACCESS_READ) as data, memoryview(data) as view:
        # The last occurrence, because a parquet footer follows the rows, which may contain the key.
        ends = [at + len(key) for key in _SEALS if (at := data.rfind(key)) >= 0]
        if not ends:
            return None, b"", b""
        at = max(ends)
        computed = zlib.crc32(view[at + 8 :], zlib.crc32(view[:at]))
        return at, bytes(view[at : at + 8]), b"%08x" % computed


def stable_header(path: Path) -> None:
    """Sort the header of a safetensors file, so that equal content gives equal bytes.

    The library writes metadata in the order of a hash table, which differs between runs. The sorted
    header has the same length, so no tensor moves.
    """
    with path.open("r+b") as handle:
        length, header = _header(handle)
        metadata = dict(sorted(header.pop("__metadata__", {}).items()))
        ordered = json.dumps(
            {"__metadata__": metadata, **header}, separators=(",", ":"), ensure_ascii=False
        ).encode()
        if len(ordered) > length:
            raise BadFile(f"{path}: its header cannot be rewritten in place")
        handle.seek(8)
        handle.write(ordered.ljust(length))


def _header(file: BinaryIO) -> tuple[int, dict[str, Any]]:
    """The length and the content of a safetensors file's header."""
    length, size = int.from_bytes(file.read(8), "little"), os.fstat(file.fileno()).st_size
    if length > size:
        raise ValueError(f"a header of {length} bytes in a file of {size}")
    return length, json.loads(file.read(length))


class Stored(NamedTuple):
    """A tensor in a safetensors file: its dtype's name there, shape, and bytes [begin, end)."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def safetensors_header(
    path: Path, remedy: str = "Delete it and run `snakemake` again."
) -> dict[str, Stored]:
    """The positions of the tensors in a safetensors file, in its order; no tensor is read.

    Raises:
        BadFile: it is missing or not a complete safetensors file; the message ends with `remedy`.
    """
    try:
        with path.open("rb") as handle:
            length, header = _header(handle)
        header.pop("__metadata__", None)
        start, size = 8 + length, path.stat().st_size
        tensors = {
            name: Stored(
                entry["dtype"], tuple(entry["shape"]), *(start + b for b in entry["data_offsets"])
            )
            for name, entry in header.items()
        }
        if any(not start <= tensor.begin <= tensor.end <= size for tensor in tensors.values()):
            raise ValueError("a tensor lies outside the file")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadFile(f"{path}: is not a complete safetensors file ({error}). {remedy}") from error
    return tensors


def safetensors_metadata(path: Path) -> dict[str, str]:
    """The strings in the header of a safetensors file that `safetensors_header` has read."""
    with path.open("rb") as handle:
        return dict(_header(handle)[1].get("__metadata__", {}))


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def digest(value: Any) -> str:
    """Hex SHA-256 of a value as JSON, regardless of the order of keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
