"""Pairs as tokens."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from lesion.models.chat import Speaker, chat_of
from lesion.models.text import Example, encode_pair, encode_written


def encode_pairs(speaker: Speaker, pairs: pl.DataFrame) -> list[Example]:
    """Tokens of pairs, in their order: as the model wrote them, or of a given response's text."""
    chat = chat_of(speaker)
    return [encode_row(chat, row) for row in pairs.iter_rows(named=True)]


def encode_row(speaker: Speaker, row: Mapping[str, Any]) -> Example:
    """Tokens of one row of a table of PAIRS."""
    place = (row["prompt"], row["prefill"], row["response"])
    written = encode_written(speaker, *place, row["token_ids"]) if row["token_ids"] else None
    return written or encode_pair(speaker, *place, row["finished"])
