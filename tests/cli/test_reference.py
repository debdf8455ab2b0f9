"""The generated documents are what the code says, and the code says something of everything."""

import difflib
from pathlib import Path

import pytest

from lesion.cli.reference import commands_page, documents
from lesion.tables.columns import PURPOSES, column_meaning, tables_page
from lesion.tables.schemas import SCHEMAS
from lesion_testing import ROOT


@pytest.mark.parametrize("path", documents(), ids=str)
def test_the_written_documents_are_the_codes(path: Path) -> None:
    written = (ROOT / path).read_text(encoding="utf-8")
    made = documents()[path](written)
    diff = difflib.unified_diff(
        written.splitlines(), made.splitlines(), f"{path} (written)", f"{path} (from the code)"
    )
    assert written == made, "\n".join([f"run `make reference`: {path} is not up to date", *diff])


def test_every_table_and_column_is_explained() -> None:
    assert PURPOSES.keys() == SCHEMAS.keys()
    page = tables_page()
    for table, columns in SCHEMAS.items():
        assert f"## {table}\n" in page
        for column in columns:
            assert column_meaning(table, column), f"{table}.{column}"


def test_no_column_is_explained_that_there_is_not() -> None:
    """The page has each column of each schema once, and `_OWN` and `_EVERYWHERE` no others."""
    from lesion.tables import columns

    assert columns._OWN.keys() <= SCHEMAS.keys()
    for table, own in columns._OWN.items():
        assert own.keys() <= SCHEMAS[table].keys(), table
    common = {
        column
        for table, schema in SCHEMAS.items()
        for column in schema
        if column not in columns._OWN.get(table, {})
    }
    assert columns._EVERYWHERE.keys() == common


def test_every_command_has_a_section() -> None:
    from typer.main import get_command

    from lesion.cli import app

    page = commands_page()
    for name in get_command(app).commands:  # type: ignore[attr-defined]
        assert f"\n## `lesion {name}`\n" in page
