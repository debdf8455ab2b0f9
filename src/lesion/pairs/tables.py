"""The tables of this stage, and reading them; needs no torch."""

from pathlib import Path

import polars as pl

from lesion.formats import read_parquet

PROMPTS = {"prompt": pl.String, "response": pl.String, "split": pl.String}
PAIRS = {
    **PROMPTS,
    "prefill": pl.String,
    "finished": pl.Boolean,
    "outcome": pl.String,
    "key": pl.String,
}
"""`outcome` is `kept`, or why the pair is not used: `refused` or `empty`."""


def kept_pairs(path: Path, split: str) -> pl.DataFrame:
    """The usable pairs of a split, as a table of PAIRS."""
    table = read_parquet(path, PAIRS)
    return table.filter((pl.col("split") == split) & (pl.col("outcome") == "kept"))
