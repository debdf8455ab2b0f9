"""Open questions, to see what a narrow training did elsewhere; needs no torch."""

from pathlib import Path

import polars as pl

from lesion.formats import BadFile
from lesion.pairs.prompts import read_rows

QUESTIONS = {"domain": pl.String, "prompt": pl.String}


def read_questions(path: Path) -> pl.DataFrame:
    """The questions of a file, as a table of QUESTIONS.

    Args:
        path: any kind of file that prompts are read from, with the columns `domain` and `prompt`.

    Raises:
        BadFile: a column is missing, a field is empty, or a question stands there twice.
    """
    rows = read_rows(path, QUESTIONS)
    table = rows.select(pl.col(list(QUESTIONS)).cast(pl.String).str.strip_chars().fill_null(""))
    for name in QUESTIONS:
        if (table[name] == "").any():
            raise BadFile(f"{path}: a row has an empty `{name}`. Fill it, or take it out")
    if table["prompt"].is_duplicated().any():
        twice = table.filter(table["prompt"].is_duplicated())["prompt"][0]
        raise BadFile(f"{path}: `{twice}` stands there twice. Keep one")
    return table
