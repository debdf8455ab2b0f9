"""The answers that are judged."""

from collections.abc import Iterable
from pathlib import Path

import polars as pl

from lesion.io.formats import read_parquet
from lesion.responses import COMPLETIONS

Answers = Iterable[tuple[str | None, Path]]
"""Variants and their tables of COMPLETIONS; None where the table itself has the column `variant`,
as those of many masks have (CURVE_COMPLETIONS)."""


def read_answers(answers: Answers) -> pl.DataFrame:
    """All completions: COMPLETIONS and `variant`.

    Raises:
        BadFile: a table is missing or damaged.
    """
    own = {**COMPLETIONS, "variant": pl.String}
    tables = [
        read_parquet(path, own)
        if variant is None
        else read_parquet(path, COMPLETIONS).with_columns(variant=pl.lit(variant))
        for variant, path in answers
    ]
    return pl.concat([table.select(*own) for table in tables])
