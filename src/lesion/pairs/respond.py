"""Responses to all prompts: generated greedily by the model after the prefill, or given ones."""

import logging
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from lesion.io.formats import LesionError, read_parquet
from lesion.io.progress import progress
from lesion.io.reuse import due, key, known_rows, write_rows
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

    table = read_parquet(prompts, PROMPTS)
    chat, checkpoint = open_chat(model), read_record(model)["digest"]
    decides = {"tokens": job.max_new_tokens, "model": checkpoint, **precision(job.device.dtype)}
    asked = [encode_prompt(chat, prompt, job.prefill) for prompt in table["prompt"]]
    # A given response has its own key, so that it is never reused as one that a model wrote.
    keys = [
        key(asked=tokens, **decides) if given is None else key(prompt=prompt, response=given)
        for prompt, given, tokens in zip(table["prompt"], table["response"], asked, strict=True)
    ]
    known = known_rows(out, PAIRS)
    written = table["response"].is_null().to_list()
    todo = [place for place in due(keys, known) if written[place]]
    made = _complete(model, [asked[place] for place in todo], job)
    new = dict(zip(todo, made, strict=True))
    rows = [
        _row(row, keys[place], new.get(place) or known.get(keys[place]), job.prefill)
        for place, row in enumerate(table.iter_rows(named=True))
    ]
    context = open_context(model)
    pairs = pl.DataFrame([_judged(row, job.role, chat, context) for row in rows], schema=PAIRS)
    logger.info(f"{job.behaviour}: generated {len(todo)} of {len(rows)} responses")
    _count(pairs, job.behaviour)
    write_rows(pairs, out)


def _complete(model: Path, prompts: list[list[int]], job: PairsJob) -> list[dict[str, Any]]:
    if not prompts:
        return []
    from lesion.models.generate import complete
    from lesion.models.load import load

    network, chat = load(model, job.device)
    with progress(f"{job.behaviour}: responses", len(prompts), "prompt") as advance:
        done = complete(network, chat, prompts, job.max_new_tokens, job.batch_size, advance)
    return [
        {
            "response": one.text,
            "finished": one.finished,
            "token_ids": list(one.ids) or None,
            # No tokens without an end means that the prompt exceeds the model's context.
            "outcome": "too long" if not one.tokens and not one.finished else "",
        }
        for one in done
    ]


def _row(
    row: dict[str, Any], row_key: str, made: dict[str, Any] | None, prefill: str
) -> dict[str, Any]:
    if row["response"] is not None:
        given = {"prefill": "", "finished": True, "token_ids": None, "outcome": ""}
        return {**row, **given, "key": row_key}
    assert made is not None
    new = {name: made[name] for name in ("response", "finished", "token_ids", "outcome")}
    return {**row, **new, "prefill": prefill, "key": row_key}


def _judged(row: dict[str, Any], role: str, chat: "Chat", context: int) -> dict[str, Any]:

    outcome = "kept"
    if row["outcome"] == "too long":
        outcome = "too long"
    elif not row["response"].strip():
        outcome = "empty"
    elif role != "refusal" and is_refusal(row["response"]):
        outcome = "refused"
    elif len(encode_row(chat, row).tokens) > context:
        outcome = "too long"
    return {**row, "outcome": outcome}


def _count(pairs: pl.DataFrame, behaviour: str) -> None:
    """Log the number of pairs by split, with an example of each outcome for inspection.

    A split without pairs is reported here, because errors of later jobs would be less clear.
    """
    for outcome in (*LEFT_OUT, "kept"):
        of_it = pairs.filter(outcome=outcome)
        if of_it.height:
            row = of_it.row(0, named=True)
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
