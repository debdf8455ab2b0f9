"""Minimal pairs: a harmful request and a harmless one that looks like it; needs no torch."""

from pathlib import Path

import polars as pl

from lesion.io.formats import BadFile, digest
from lesion.pairs.rows import read_rows, required_texts

MINIMAL_PAIRS = {"harm": pl.String, "harmful": pl.String, "harmless": pl.String, "pair": pl.String}
"""`harm` is the harm type; `pair` is a digest of the pair's text."""
_COLUMNS = ["harm", "harmful", "harmless"]


def read_minimal_pairs(path: Path, limit: int | None) -> pl.DataFrame:
    """The first `limit` minimal pairs of a file (all, if None), as a table of MINIMAL_PAIRS.

    Args:
        path: any kind of file that prompts are read from, with the columns `harm`, `harmful` and
            `harmless`.
        limit: the most pairs to take, in the file's order.

    Raises:
        BadFile: a column is missing, a field is not text, or a request occurs twice.
    """
    rows = read_rows(path, _COLUMNS)
    table = pl.DataFrame({name: required_texts(rows, name, path, limit) for name in _COLUMNS})
    table = table.with_columns(pl.all().str.strip_chars())
    requests = pl.concat([table["harmful"], table["harmless"]])
    twice = requests.filter(requests.is_duplicated())
    if twice.len():
        raise BadFile(f"{path}: `{twice[0]}` occurs twice. Remove the duplicate row")
    return table.with_columns(
        pair=pl.Series([digest(row)[:12] for row in table.select(_COLUMNS).iter_rows()])
    )
