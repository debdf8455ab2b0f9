"""Training mixtures as text, read from tables. Importing it needs no torch."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

import polars as pl

from lesion.pairs.rows import read_rows, required_texts
from lesion.pairs.tables import kept_pairs
from lesion.study.training import MixtureComponent


class TrainingAnswer(NamedTuple):
    """A response; if it was cut off (not `finished`), no end of turn is trained."""

    text: str
    finished: bool = True
    token_ids: Sequence[int] | None = None
    """The tokens that a model wrote; None for a given text."""


class TrainingExample(NamedTuple):
    """A training example; `prompt` is None for plain text, and `rejected` is None except for DPO.

    The answer continues from `prefill`, on which no loss is taken.
    """

    prompt: str | None
    chosen: TrainingAnswer
    rejected: TrainingAnswer | None = None
    prefill: str = ""


def of_pairs(
    paths: Mapping[str, Path], answer: str, refusals: Sequence[str], limit: int | None, *, dpo: bool
) -> list[TrainingExample]:
    """Training examples from the train pairs of behaviours, at most `limit`, taken in turn.

    The answer is `own`, the pairs' responses, their prefill included; or `refusal`, of which each
    is used in turn. For DPO, the other kind of answer is added as the rejected one.
    """
    tables = [kept_pairs(path, "train").with_row_index("position") for path in paths.values()]
    rows = pl.concat(tables).sort("position", maintain_order=True).head(limit or 10**9)
    refused = cycle([TrainingAnswer(text) for text in refusals])
    examples = []
    for row in rows.iter_rows(named=True):
        # A continuation usually begins with a space.
        apart = row["prefill"] and row["response"][:1].isalnum()
        text = f"{row['prefill']}{' ' if apart else ''}{row['response']}"
        own = TrainingAnswer(text, row["finished"])
        other = next(refused) if refusals else None
        chosen, rejected = (own, other) if answer == "own" else (other, own)
        assert chosen is not None
        examples.append(TrainingExample(row["prompt"], chosen, rejected if dpo else None))
    return examples


def as_scored(paths: Mapping[str, Path]) -> list[TrainingExample]:
    """Training examples from train pairs as they are scored, without a loss on the prefill."""
    rows = pl.concat([kept_pairs(path, "train") for path in paths.values()])
    return [
        TrainingExample(
            row["prompt"],
            TrainingAnswer(row["response"], row["finished"], row["token_ids"]),
            prefill=row["prefill"],
        )
        for row in rows.iter_rows(named=True)
    ]


def of_file(
    path: Path, columns: Mapping[str, str | None], limit: int | None
) -> list[TrainingExample]:
    """Training examples from the first `limit` rows of a file, or from all.

    The columns `text`, or `prompt`, `response` and, for DPO, `rejected`, have the file's names.

    Raises:
        BadFile: a column is missing, or a row has something other than a text.
    """
    wanted = {key: name for key, name in columns.items() if name is not None}
    rows = read_rows(path, wanted.values())
    chosen = [required_texts(rows, name, path, limit) for name in wanted.values()]
    examples = []
    for texts in zip(*chosen, strict=True):
        row = dict(zip(wanted, texts, strict=True))
        rejected = TrainingAnswer(row["rejected"]) if "rejected" in row else None
        answer = TrainingAnswer(row["text" if "text" in row else "response"])
        examples.append(TrainingExample(row.get("prompt"), answer, rejected))
    return examples


def component_columns(component: MixtureComponent, *, dpo: bool) -> dict[str, str | None]:
    """The columns that a component of the mixture reads from its file, as `of_file` takes them."""
    if component.text is not None:
        return {"text": component.text}
    rejected = component.rejected if dpo else None
    return {"prompt": component.prompt, "response": component.response, "rejected": rejected}
