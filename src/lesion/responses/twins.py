"""Matched pairs of requests, a harmful one and one that only looks it; needs no torch."""

from pathlib import Path

import polars as pl

from lesion.formats import BadFile, digest
from lesion.pairs.prompts import read_rows

TWINS = {"harm": pl.String, "harmful": pl.String, "harmless": pl.String, "pair": pl.String}
"""`harm` is the harm type; `pair` names the pair by its own text."""


def read_twins(path: Path, limit: int | None) -> pl.DataFrame:
    """The first `limit` twins of a file (all, if None), as a table of TWINS.

    Args:
        path: any kind of file that prompts are read from, with the columns `harm`, `harmful` and
            `harmless`.
        limit: the most pairs to take, in the file's order.

    Raises:
        BadFile: a column is missing, a field is empty, or a request stands there twice.
    """
    columns = ["harm", "harmful", "harmless"]
    rows = read_rows(path, columns)
    stripped = pl.col(columns).cast(pl.String).str.strip_chars().fill_null("")
    table = rows.select(stripped).head(rows.height if limit is None else limit)
    if table.is_empty():
        raise BadFile(f"{path}: holds no twins. Add some, or set `understanding.twins: null`")
    _check(table, path)
    return table.with_columns(
        pair=pl.Series([digest(row)[:12] for row in table.select(columns).iter_rows()])
    )


def _check(table: pl.DataFrame, path: Path) -> None:
    for name in table.columns:
        empty = table.select((pl.col(name) == "").arg_true()).to_series()
        if empty.len():
            raise BadFile(f"{path}: row {empty[0] + 1} has an empty `{name}`. Fill it")
    requests = pl.concat([table["harmful"], table["harmless"]])
    twice = requests.filter(requests.is_duplicated())
    if twice.len():
        raise BadFile(f"{path}: `{twice[0]}` stands there twice. Keep one")
