"""Responses to all prompts: generated greedily by the model after the prefill, or given ones."""

import logging
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from lesion.io.formats import LesionError, read_parquet
from lesion.io.progress import progress
from lesion.io.reuse import fill_rows, key, write_rows
from lesion.models.record import read_record
from lesion.pairs.jobs import PairsJob
from lesion.pairs.refusal import is_refusal
from lesion.pairs.rows import shown
from lesion.pairs.tables import LEFT_OUT, PAIRS, PROMPTS, encode_row

if TYPE_CHECKING:
    from lesion.models.chat import Chat

logger = logging.getLogger(__name__)


def respond(prompts: Path, model: Path, out: Path, job: PairsJob) -> None:
    """Write a behaviour's pairs; rows that have not changed are reused from an earlier `out`.

    Args:
        prompts: table of PROMPTS.
        model: checkpoint folder.
        out: table of PAIRS.
        job: decoding, prefill and device.

    Raises:
        LesionError: too few pairs are left in a split.
    """
    # Imported here, because torch takes seconds and the tables' columns do not need it.
    from lesion.models.load import open_chat, open_context, precision
    from lesion.models.text import encode_prompt

    rows = read_parquet(prompts, PROMPTS).to_dicts()
    chat, checkpoint, context = open_chat(model), read_record(model)["digest"], open_context(model)
    identity = {"tokens": job.max_new_tokens, "model": checkpoint, **precision(job.device.dtype)}
    encoded = [encode_prompt(chat, row["prompt"], job.prefill) for row in rows]
    for row, tokens in zip(rows, encoded, strict=True):
        if row["response"] is None:
            del row["response"]
            row |= {"prefill": job.prefill, "key": key(asked=tokens, **identity)}
        else:
            row |= {"prefill": "", "finished": True, "token_ids": None, "outcome": ""}
            # A given response has its own key, so that it is never reused as one of the model's.
            row["key"] = key(prompt=row["prompt"], response=row["response"])
    missing = [index for index, row in enumerate(rows) if "response" not in row]
    written = fill_rows(
        [rows[index] for index in missing],
        out,
        PAIRS,
        lambda todo: _complete(model, [encoded[missing[number]] for number in todo], job),
        f"{job.behaviour}: generated {{}} of {len(rows)} responses",
    )
    for index, row in zip(missing, written.iter_rows(named=True), strict=True):
        rows[index] = row
    for row in rows:
        if row["outcome"] != "too long":
            row["outcome"] = _outcome(row, job.role, chat, context)
    pairs = pl.DataFrame(rows, schema=PAIRS)
    _count(pairs, job.behaviour)
    write_rows(pairs, out)


def _complete(model: Path, prompts: list[list[int]], job: PairsJob) -> list[dict[str, Any]]:
    from lesion.models.generate import complete
    from lesion.models.load import load

    network, chat = load(model, job.device)
    with progress(f"{job.behaviour}: responses", len(prompts), "prompt") as advance:
        completions = complete(network, chat, prompts, job.max_new_tokens, job.batch_size, advance)
    return [
        {
            "response": completion.text,
            "finished": completion.finished,
            "token_ids": list(completion.ids) or None,
            # No tokens without an end means that the prompt exceeds the model's context.
            "outcome": "too long" if not completion.tokens and not completion.finished else "",
        }
        for completion in completions
    ]


def _outcome(row: dict[str, Any], role: str, chat: "Chat", context: int) -> str:
    if not row["response"].strip():
        return "empty"
    if role != "refusal" and is_refusal(row["response"]):
        return "refused"
    return "too long" if len(encode_row(chat, row).tokens) > context else "kept"


def _count(pairs: pl.DataFrame, behaviour: str) -> None:
    """Log the number of pairs by split, with an example of each outcome; refuse an empty split."""
    for outcome in (*LEFT_OUT, "kept"):
        subset = pairs.filter(outcome=outcome)
        if subset.height:
            row = subset.row(0, named=True)
            logger.info(
                f"{behaviour}: {outcome}, such as {shown(row['response'], 80)} to "
                f"{shown(row['prompt'], 80)}"
            )
    counts = Counter(zip(pairs["split"], pairs["outcome"], strict=True))
    for split in ("train", "validation", "test"):
        left_out = ", ".join(f"{counts[split, outcome]} {outcome}" for outcome in LEFT_OUT)
        kept = counts[split, "kept"]
        logger.info(f"{behaviour}: {split}: {kept} pairs kept, {left_out}")
        if not kept:
            raise LesionError(
                f"behaviour `{behaviour}`: no pair is left in split `{split}` ({left_out}; `too "
                "long` means longer than the model's context). Add prompts, or give other "
                "responses in a column."
            )
