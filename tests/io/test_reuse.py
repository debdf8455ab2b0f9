"""Rows of an earlier output are reused by their keys."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from lesion.io.reuse import fill_rows, write_rows

EARLIER = {"prompt": pl.String, "nll": pl.Float64, "key": pl.String}
COLUMNS = {"request": pl.String, "nll": pl.Float64, "key": pl.String}
ROWS = [{"request": "hide the kite", "key": "k"}, {"request": "sell the kite", "key": "s"}]


def _filled(path: Path, columns: dict[str, Any] = COLUMNS) -> tuple[pl.DataFrame, list[int]]:
    """The table of ROWS, and the places of the rows that were made."""
    places: list[int] = []

    def make(todo: list[int]) -> list[dict[str, float]]:
        places.extend(todo)
        return [{"nll": float(index)} for index in todo]

    return fill_rows(ROWS, path, columns, make, "{} of {}"), places


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An output of an earlier version, with one of the rows and another name of a column."""
    path = tmp_path / "out.parquet"
    row = {"prompt": "hide the kite", "nll": 7.0, "key": "k"}
    write_rows(pl.DataFrame([row], schema=EARLIER), path)
    return path


def test_a_renamed_column_that_is_known_beforehand_makes_no_row_again(path: Path) -> None:
    table, places = _filled(path)
    assert places == [1]
    assert dict(table.schema) == COLUMNS
    assert table.rows() == [("hide the kite", 7.0, "k"), ("sell the kite", 1.0, "s")]


def test_rows_without_a_column_that_is_made_are_made_again(path: Path) -> None:
    table, places = _filled(path, {**COLUMNS, "kl": pl.Float64})
    assert places == [0, 1]
    assert table["nll"].to_list() == [0.0, 1.0]


def test_without_an_earlier_output_all_rows_are_made(tmp_path: Path) -> None:
    assert _filled(tmp_path / "out.parquet")[1] == [0, 1]
