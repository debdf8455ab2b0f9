"""Reuse of earlier rows, looked up by a key of everything that they depend on.

They are read from a copy beside the output, because Snakemake removes an output before its job. It
would leave an output marked `update`, but if such a job fails, the old file stays without the
record of its inputs and counts as up to date.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from lesion.io.formats import BadFile, atomic, digest, read_parquet, write_parquet

logger = logging.getLogger(__name__)


def key(**parts: Any) -> str:
    """The key of a row: 24 hex digits of the digest of everything that determines its content."""
    return digest(parts)[:24]


def fill_rows(
    rows: Sequence[Mapping[str, Any]],
    path: Path,
    columns: Mapping[str, Any],
    make: Callable[[list[int]], Sequence[Mapping[str, Any]]],
    log: str,
) -> pl.DataFrame:
    """A table of the given rows, with their other columns from an earlier output or newly made.

    Args:
        rows: the columns that are known beforehand, among them `key`.
        path: the output.
        columns: those of the output.
        make: makes the other columns of the rows at the given places: those whose key is not known,
            and of equal keys only the first; not called if all are known.
        log: a line with two `{}`: for the number of rows made, and of all.
    """
    # An earlier output need not have the columns that are known beforehand, nor by these names.
    known_beforehand = set(columns).intersection(*rows) - {"key"}
    made = {name: dtype for name, dtype in columns.items() if name not in known_beforehand}
    known: dict[str, Mapping[str, Any]] = {**known_rows(path, made)}
    todo = due([row["key"] for row in rows], known)
    new = make(todo) if todo else []
    logger.info(log.format(len(todo), len(rows)))
    known |= {rows[index]["key"]: content for index, content in zip(todo, new, strict=True)}
    return pl.DataFrame([{**known[row["key"]], **row} for row in rows], schema=columns)


def known_rows(path: Path, columns: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The rows of an earlier version of an output by key; empty if it is missing or unreadable."""
    try:
        table = read_parquet(_copy(path), columns).select(*columns)
    except BadFile:
        return {}
    return {str(row["key"]): row for row in table.iter_rows(named=True)}


def write_rows(table: pl.DataFrame, path: Path) -> None:
    """Write an output, and the copy from which its next version reuses rows."""
    write_parquet(table, path)
    with atomic(_copy(path)) as part:
        part.write_bytes(path.read_bytes())


def _copy(path: Path) -> Path:
    # Without the suffix `.parquet`, so that it is not listed among a folder's tables.
    return path.with_name(f".{path.name}.rows")


def due(keys: Sequence[str], known: Mapping[str, Any]) -> list[int]:
    """The indices of the keys that are not known, and of equal keys only the first index."""
    first: dict[str, int] = {}
    for index, name in enumerate(keys):
        if name not in known:
            first.setdefault(name, index)
    return list(first.values())
