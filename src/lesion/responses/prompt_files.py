"""Files of requests apart from the behaviours' prompts: minimal pairs and open questions.

Needs no torch.
"""

from collections.abc import Iterable
from pathlib import Path

import polars as pl

from lesion.io.formats import BadFile, digest
from lesion.pairs.rows import read_rows, required_texts

MINIMAL_PAIRS = {"harm": pl.String, "harmful": pl.String, "harmless": pl.String, "pair": pl.String}
"""`harm` is the harm type; `pair` is a digest of the pair's text."""
QUESTIONS = {"domain": pl.String, "prompt": pl.String}


def read_minimal_pairs(path: Path, limit: int | None) -> pl.DataFrame:
    """The first `limit` minimal pairs of a file (all, if None), as a table of MINIMAL_PAIRS.

    Each is a harmful request and a harmless one that looks like it.

    Args:
        path: any kind of file that prompts are read from, with the columns `harm`, `harmful` and
            `harmless`.
        limit: the most pairs to take, in the file's order.

    Raises:
        BadFile: a column is missing, a field is not text, or a request occurs twice.
    """
    table = _read(path, ("harm", "harmful", "harmless"), limit)
    requests = pl.concat([table["harmful"], table["harmless"]])
    duplicates = requests.filter(requests.is_duplicated())
    if duplicates.len():
        raise BadFile(f"{path}: `{duplicates[0]}` occurs twice. Remove the duplicate row")
    pairs = [digest(row)[:12] for row in table.iter_rows()]
    return table.with_columns(pl.Series("pair", pairs, dtype=pl.String))


def read_questions(path: Path) -> pl.DataFrame:
    """The questions of a file, as a table of QUESTIONS.

    They measure effects of a narrow training on other domains.

    Args:
        path: any kind of file that prompts are read from, with the columns `domain` and `prompt`.

    Raises:
        BadFile: a column is missing, a field is not text, or a question is in two rows.
    """
    table = _read(path, QUESTIONS)
    duplicates = table["prompt"].filter(table["prompt"].is_duplicated())
    if duplicates.len():
        raise BadFile(f"{path}: `{duplicates[0]}` is in two rows. Remove the duplicate row")
    return table


def _read(path: Path, columns: Iterable[str], limit: int | None = None) -> pl.DataFrame:
    rows = read_rows(path, columns)
    texts = {name: required_texts(rows, name, path, limit) for name in columns}
    return pl.DataFrame(texts).with_columns(pl.all().str.strip_chars())
