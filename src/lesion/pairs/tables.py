"""The tables of this stage, and reading them; needs no torch."""

from pathlib import Path
from typing import Any

import polars as pl

from lesion.io.formats import read_parquet

PROMPTS = {"prompt": pl.String, "response": pl.String, "split": pl.String}
PAIRS: dict[str, Any] = {
    **PROMPTS,
    "prefill": pl.String,
    "finished": pl.Boolean,
    "token_ids": pl.List(pl.Int64),
    "outcome": pl.String,
    "key": pl.String,
}
"""`outcome` is `kept`, or why the pair is not used: `refused`, `empty` or `too long` (for the
model's context). `token_ids` are those that the model wrote, its end of turn among them; null
where the response was given, or is a part of what was written."""

LEFT_OUT = ("refused", "empty", "too long")
"""The outcomes of pairs that are not used."""


def kept_pairs(path: Path, split: str) -> pl.DataFrame:
    """The usable pairs of a split, as a table of PAIRS."""
    table = read_parquet(path, PAIRS)
    return table.filter((pl.col("split") == split) & (pl.col("outcome") == "kept"))
