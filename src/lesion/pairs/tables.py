"""The tables of this stage, reading them, and their rows as tokens. Importing it needs no torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from lesion.io.formats import read_parquet

if TYPE_CHECKING:
    from lesion.models.chat import Chat
    from lesion.models.text import Example

PROMPTS = {
    "prompt": pl.String,
    "response": pl.String,
    "split": pl.String,
    "counterpart": pl.String,
}
"""`counterpart` is the harmful request that a matched one belongs to; null for other roles."""
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


def encode_pairs(chat: "Chat", pairs: pl.DataFrame) -> list["Example"]:
    """Tokens of pairs, in their order: as the model wrote them, or of a given response's text."""
    return [encode_row(chat, row) for row in pairs.iter_rows(named=True)]


def encode_row(chat: "Chat", row: Mapping[str, Any]) -> "Example":
    """Tokens of one row of a table of PAIRS."""
    from lesion.models.text import encode_pair

    texts = (row["prompt"], row["prefill"], row["response"])
    return encode_pair(chat, *texts, row["finished"], row["token_ids"])


def answer_start(chat: "Chat", row: Mapping[str, Any], tokens: int) -> str:
    """The beginning of the answer in a row of PAIRS: its prefill and its response's first `tokens`.

    A character that these tokens hold only a part of is left out, and so is white space at the end,
    which would keep the model from writing the token that usually follows.
    """
    prefill, response = row["prefill"], row["response"]
    ids = row["token_ids"] or chat.encode_answer(chat.render(row["prompt"], prefill), response)
    start = str(chat.tokenizer.decode(list(ids)[:tokens], skip_special_tokens=True))
    # As in training: tokenizers that drop the space before a word give a response without it.
    gap = " " if prefill and response[:1].isalnum() else ""
    return f"{prefill}{gap}{start.rstrip(chr(0xFFFD))}".rstrip()
