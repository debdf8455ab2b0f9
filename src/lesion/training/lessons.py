"""What a model is taught, as text. Polars in, examples out; needs no torch."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

import polars as pl

from lesion.pairs.rows import read_rows, required_texts
from lesion.pairs.tables import kept_pairs
from lesion.study.training import Lesson


class TrainingAnswer(NamedTuple):
    """A response; one that was cut off (not `finished`) teaches no end of turn."""

    text: str
    finished: bool = True
    token_ids: Sequence[int] | None = None
    """Those that a model wrote; None for a text that was given."""


class Taught(NamedTuple):
    """One example; `prompt` is null for a plain text, `rejected` for all but DPO.

    The answer goes on from `prefill`, which itself is not learnt.
    """

    prompt: str | None
    chosen: TrainingAnswer
    rejected: TrainingAnswer | None = None
    prefill: str = ""


def of_pairs(
    paths: Mapping[str, Path], answer: str, refusals: Sequence[str], limit: int | None, *, dpo: bool
) -> list[Taught]:
    """Examples of behaviours' train pairs.

    Args:
        paths: tables of PAIRS by behaviour.
        answer: `own`, the pairs' responses, their prefill included; or `refusal`.
        refusals: given in turn; needed for `refusal`, and for DPO's other side.
        limit: examples at most, the first of every behaviour in turn.
        dpo: whether the other answer comes along as the rejected one.
    """
    tables = [kept_pairs(path, "train").with_row_index("place") for path in paths.values()]
    rows = pl.concat(tables).sort("place", maintain_order=True).head(limit or 10**9)
    refused = cycle([TrainingAnswer(text) for text in refusals])
    found = []
    for row in rows.iter_rows(named=True):
        own = TrainingAnswer(_joined(row["prefill"], row["response"]), row["finished"])
        other = next(refused) if refusals else None
        chosen, rejected = (own, other) if answer == "own" else (other, own)
        assert chosen is not None
        found.append(Taught(row["prompt"], chosen, rejected if dpo else None))
    return found


def as_scored(paths: Mapping[str, Path]) -> list[Taught]:
    """Examples of behaviours' train pairs as they are scored: the prefill is given, not learnt."""
    rows = pl.concat([kept_pairs(path, "train") for path in paths.values()])
    return [
        Taught(
            row["prompt"],
            TrainingAnswer(row["response"], row["finished"], row["token_ids"]),
            prefill=row["prefill"],
        )
        for row in rows.iter_rows(named=True)
    ]


def _joined(prefill: str, response: str) -> str:
    """A prefill and what the model went on with, which mostly begins with its own space."""
    apart = prefill and response[:1].isalnum()
    return f"{prefill} {response}" if apart else f"{prefill}{response}"


def of_file(path: Path, columns: Mapping[str, str | None], limit: int | None) -> list[Taught]:
    """Examples of a file's rows.

    Args:
        path: see `read_rows`.
        columns: `text`; or `prompt`, `response` and, for DPO, `rejected`; by the file's names.
        limit: the first so many; all, if None.

    Raises:
        BadFile: a column is missing, or a row of them holds something else than a text.
    """
    wanted = {key: name for key, name in columns.items() if name is not None}
    rows = read_rows(path, wanted.values())
    chosen = [required_texts(rows, name, path, limit) for name in wanted.values()]
    return [_of_row(dict(zip(wanted, row, strict=True))) for row in zip(*chosen, strict=True)]


def lesson_columns(lesson: Lesson, *, dpo: bool) -> dict[str, str | None]:
    """The columns that a lesson takes of its file, as `of_file` wants them."""
    if lesson.text is not None:
        return {"text": lesson.text}
    rejected = lesson.rejected if dpo else None
    return {"prompt": lesson.prompt, "response": lesson.response, "rejected": rejected}


def _of_row(row: Mapping[str, str]) -> Taught:
    if "text" in row:
        return Taught(None, TrainingAnswer(row["text"]))
    rejected = TrainingAnswer(row["rejected"]) if "rejected" in row else None
    return Taught(row["prompt"], TrainingAnswer(row["response"]), rejected)
