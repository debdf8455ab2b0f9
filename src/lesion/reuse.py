"""Rows that need not be made again: earlier ones, looked up by a key of all they depend on."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lesion.formats import BadFile, digest, read_parquet


def key(**parts: Any) -> str:
    """The key of a row: 24 hex digits of the digest of everything that decides its content."""
    return digest(parts)[:24]


def known_rows(path: Path, columns: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Rows of an earlier version of an output by key; nothing if there is none worth reading."""
    try:
        table = read_parquet(path, columns)
    except BadFile:
        return {}
    return {str(row["key"]): row for row in table.iter_rows(named=True)}


def due(keys: Sequence[str], known: Mapping[str, Any]) -> list[int]:
    """Places of the keys that are not known."""
    return [place for place, one in enumerate(keys) if one not in known]
