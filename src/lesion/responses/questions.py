"""Open questions, which measure effects of a narrow training on other domains; needs no torch."""

from pathlib import Path

import polars as pl

from lesion.io.formats import BadFile
from lesion.pairs.rows import read_rows, required_texts

QUESTIONS = {"domain": pl.String, "prompt": pl.String}


def read_questions(path: Path) -> pl.DataFrame:
    """The questions of a file, as a table of QUESTIONS.

    Args:
        path: any kind of file that prompts are read from, with the columns `domain` and `prompt`.

    Raises:
        BadFile: a column is missing, a field is not text, or a question is in two rows.
    """
    rows = read_rows(path, QUESTIONS)
    table = pl.DataFrame({name: required_texts(rows, name, path) for name in QUESTIONS})
    table = table.with_columns(pl.all().str.strip_chars())
    if table["prompt"].is_duplicated().any():
        twice = table.filter(table["prompt"].is_duplicated())["prompt"][0]
        raise BadFile(f"{path}: `{twice}` is in two rows. Remove the duplicate row")
    return table
