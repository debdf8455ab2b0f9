"""Give every prompt its response: the model's own, greedy and under the prefill, or a given one."""

import sys
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from lesion.formats import LesionError, read_parquet
from lesion.models.record import read_record
from lesion.pairs.refusal import is_refusal
from lesion.pairs.rows import shown
from lesion.pairs.tables import PAIRS, PROMPTS
from lesion.progress import progress
from lesion.reuse import due, key, known_rows, write_rows


class Decoding(NamedTuple):
    """How responses are written."""

    prefill: str
    max_new_tokens: int
    batch_size: int
    dtype: str
    threads: int
    device_map: str | None


def respond(
    prompts: Path, model: Path, out: Path, behaviour: str, role: str, how: Decoding
) -> None:
    """Write a behaviour's pairs; an earlier `out` gives the rows that have not changed.

    Args:
        prompts: table of PROMPTS.
        model: checkpoint folder.
        out: table of PAIRS.
        behaviour: its name, for messages.
        role: a `harm` or `benign` response that refuses is dropped; a refusal of role `refusal`
            is what is wanted.
        how: decoding; given responses have no prefill.

    Raises:
        LesionError: too few pairs are left in a split.
    """
    table = read_parquet(prompts, PROMPTS)
    checkpoint = read_record(model)["digest"]
    decoding = {"prefill": how.prefill, "tokens": how.max_new_tokens, "dtype": how.dtype}
    # A given response's key is its own, so that it is never taken for one that a model wrote.
    keys = [
        key(model=checkpoint, prompt=prompt, **decoding)
        if given is None
        else key(prompt=prompt, response=given)
        for prompt, given in zip(table["prompt"], table["response"], strict=True)
    ]
    known = known_rows(out, PAIRS)
    written = table["response"].is_null().to_list()
    todo = [place for place in due(keys, known) if written[place]]
    made = _complete(model, table, todo, behaviour, how) if todo else {}
    rows = [
        _row(row, keys[place], made.get(place) or known.get(keys[place]), how.prefill)
        for place, row in enumerate(table.iter_rows(named=True))
    ]
    pairs = pl.DataFrame([_judged(row, role) for row in rows], schema=PAIRS)
    print(f"{behaviour}: generated {len(todo)} of {len(rows)} responses", file=sys.stderr)
    _count(pairs, behaviour)
    write_rows(pairs, out)


def _complete(
    model: Path, table: pl.DataFrame, todo: list[int], behaviour: str, how: Decoding
) -> dict[int, dict[str, Any]]:
    # torch takes seconds to import; a behaviour whose responses are given or known does without.
    from lesion.models.generate import complete
    from lesion.models.load import load
    from lesion.models.text import encode_prompt

    network, tokenizer = load(model, how.dtype, how.threads, how.device_map)
    prompts = [encode_prompt(tokenizer, table["prompt"][place], how.prefill) for place in todo]
    with progress(f"{behaviour}: responses", len(todo), "prompt") as advance:
        done = complete(network, tokenizer, prompts, how.max_new_tokens, how.batch_size, advance)
    return {
        place: {"response": one.text, "finished": one.finished}
        for place, one in zip(todo, done, strict=True)
    }


def _row(
    row: dict[str, Any], row_key: str, made: dict[str, Any] | None, prefill: str
) -> dict[str, Any]:
    if row["response"] is not None:
        return {**row, "prefill": "", "finished": True, "key": row_key}
    assert made is not None
    new = {"response": made["response"], "finished": made["finished"]}
    return {**row, **new, "prefill": prefill, "key": row_key}


def _judged(row: dict[str, Any], role: str) -> dict[str, Any]:
    outcome = "kept"
    if not row["response"].strip():
        outcome = "empty"
    elif role != "refusal" and is_refusal(row["response"]):
        outcome = "refused"
    return {**row, "outcome": outcome}


def _count(pairs: pl.DataFrame, behaviour: str) -> None:
    """Log the counts per split, and an example of each outcome, by which to see whether it is one.

    A split without pairs would only fail later and less clearly.
    """
    for outcome in ("refused", "empty", "kept"):
        of_it = pairs.filter(outcome=outcome)
        if of_it.height:
            row = of_it.row(0, named=True)
            print(
                f"{behaviour}: {outcome}, such as {shown(row['response'], 80)} to "
                f"{shown(row['prompt'], 80)}",
                file=sys.stderr,
            )
    counts = Counter(zip(pairs["split"], pairs["outcome"], strict=True))
    for split in ("train", "validation", "test"):
        kept, refused, empty = (counts[split, outcome] for outcome in ("kept", "refused", "empty"))
        print(
            f"{behaviour}: {split}: {kept} pairs kept, {refused} refused, {empty} empty",
            file=sys.stderr,
        )
        if not kept:
            raise LesionError(
                f"behaviour `{behaviour}`: no pair is left in split `{split}` ({refused} responses "
                f"refused, {empty} empty). Add prompts, or give responses in a column."
            )
