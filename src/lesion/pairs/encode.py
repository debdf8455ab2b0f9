"""Pairs as tokens."""

import polars as pl

from lesion.models.load import Loaded
from lesion.models.text import Example, encode_pair


def encode_pairs(loaded: Loaded, pairs: pl.DataFrame) -> list[Example]:
    """Tokens of pairs, in their order."""
    return [
        encode_pair(
            loaded.tokenizer, row["prompt"], row["prefill"], row["response"], row["finished"]
        )
        for row in pairs.iter_rows(named=True)
    ]
