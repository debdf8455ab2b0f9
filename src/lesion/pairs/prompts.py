"""Read a behaviour's prompts from its source and assign splits. Needs no model."""

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import polars as pl

from lesion.io.formats import BadFile, LesionError, write_parquet
from lesion.io.texts import is_blank
from lesion.pairs.jobs import PromptsJob, RowSelection
from lesion.pairs.rows import (
    check_columns,
    frequent,
    location_of,
    read_rows,
    required_texts,
    shown,
    texts,
)
from lesion.pairs.similarity import near_duplicates, near_pairs
from lesion.pairs.tables import PROMPTS
from lesion.sources.fetch import locate
from lesion.study.behaviours import Where

logger = logging.getLogger(__name__)

Shares = Mapping[str, float]
"""The share of each split."""
SPLITS = ("train", "validation", "test")
MIN_PER_SPLIT = {"train": 4, "validation": 2, "test": 2}
STRADDLES = "straddles"
"""The split of a prompt that resembles prompts of two splits, and is left out."""


def select_prompts(
    rows: pl.DataFrame,
    path: Path,
    wanted: RowSelection,
    need: int,
    say: Callable[[str], None] = lambda _: None,
) -> pl.DataFrame:
    """The rows of a behaviour after its filter and limit, without empty or repeated prompts.

    Args:
        rows: what `read_rows` gave.
        path: named in errors.
        wanted: columns, filter and limit.
        need: the least number of prompts.
        say: called with a message about each kind of rows that are left out.

    Returns:
        Columns `prompt`, `response` (null if the model is to write it) and `counterpart` (the
        harmful request that a matched one belongs to, or its digest; null for other roles).

    Raises:
        BadFile: a column is missing or has something other than texts, the filter does not fit
            its column, or too few prompts are left.
    """
    # Of matched requests, the second column is that of the harmful requests.
    where, response_column = wanted.where, wanted.harmful or wanted.response
    columns = {
        "prompt": wanted.prompt,
        "harmful": wanted.harmful,
        "response": wanted.response,
        "where.column": where.column if where else None,
    }
    for key, column in columns.items():
        check_columns(rows, filter(None, [column]), path, key)
    kept = _matching(rows, where, path) if where else list(range(rows.height))
    prompts = [text and text.strip() for text in texts(rows, wanted.prompt, path, kept)]
    responses = texts(rows, response_column, path, kept) if response_column else [None] * len(kept)
    table = pl.DataFrame(
        {"row": kept, "prompt": prompts, "response": responses},
        schema={"row": pl.Int64, "prompt": pl.String, "response": pl.String},
    )
    notes = []

    def without(table: pl.DataFrame, what: str, excluded: pl.Expr | pl.Series) -> pl.DataFrame:
        dropped = table.filter(excluded)
        if dropped.height:
            first = location_of(path, dropped["row"][0])
            notes.append(f"rows {what} are left out: {dropped.height}, the first of them {first}")
            say(notes[-1])
        return table.filter(~excluded)

    def empty(table: pl.DataFrame, column: str) -> pl.Series:
        blank = [text is None or is_blank(text) for text in table[column]]
        return pl.Series(blank, dtype=pl.Boolean)

    table = without(table, f"without a `{wanted.prompt}`", empty(table, "prompt"))
    if response_column:
        table = without(table, f"without a `{response_column}`", empty(table, "response"))
    repeated = ~pl.col("prompt").is_first_distinct()
    first = pl.col("response").first().over("prompt")
    other = table.filter(repeated & (pl.col("response") != first)).height
    differing = f" ({other} of them with another response)" if other else ""
    table = without(table, f"that repeat an earlier prompt{differing}", repeated)
    limited = table.head(wanted.limit) if wanted.limit else table
    if limited.height < need:
        filtered = f" after the filter {_shown(where)}" if where else ""
        hint = f" `{where.column}` has {frequent(rows[where.column].to_list())}." if where else ""
        dropped = f" Of those that fit, {'; '.join(notes)}." if notes else ""
        raise BadFile(
            f"{path}: gives {limited.height} prompts{filtered}, and at least {need} are needed. "
            f"Add prompts, widen the filter, or remove the behaviour.{hint}{dropped}"
        )
    response, null = pl.col("response"), pl.lit(None, pl.String)
    return limited.select(
        "prompt",
        response=null if wanted.harmful else response,
        counterpart=response.str.strip_chars() if wanted.harmful else null,
    )


def _shown(where: Where) -> str:
    return ", ".join(f"{key}={value!r}" for key, value in where if value not in (None, []))


def _matching(rows: pl.DataFrame, where: Where, path: Path) -> list[int]:
    """The numbers of the rows that a filter keeps; a missing value matches no filter."""
    given = where.model_dump(include={"equals", "first", "contains"}, exclude_none=True)
    matching = []
    for row, value in enumerate(rows[where.column].to_list()):
        try:
            kept = value is not None and all(_fits(value, *wanted) for wanted in given.items())
            if kept and not any(_fits(value, "contains", text) for text in where.lacks):
                matching.append(row)
        except TypeError as error:
            raise BadFile(
                f"{location_of(path, row)}: the filter {_shown(where)} does not fit the column's "
                f"value {shown(value)}: {error}."
            ) from error
    return matching


def _fits(value: Any, condition: str, text: str) -> bool:
    if isinstance(value, dict):
        raise TypeError("it is a structure, and a filter looks at texts, numbers and lists")
    if isinstance(value, list):
        if condition == "equals":
            raise TypeError("it is a list; use `first` or `contains`")
        return any(_same(item, text) for item in (value if condition == "contains" else value[:1]))
    if condition != "contains":
        return _same(value, text)
    if not isinstance(value, str):
        raise TypeError("it is no text or list; use `equals`")
    return text in value


_TRUTH = {"true": True, "false": False, "yes": True, "no": False}
"""Words for truth values; YAML reads `yes` as `true`."""


def _same(value: Any, text: str) -> bool:
    """Whether a value equals one of a config, which has only texts: `True`, `3`, `3.0`."""
    word = text.strip().casefold()
    if isinstance(value, bool):
        return value is {**_TRUTH, "1": True, "0": False}.get(word)
    if isinstance(value, str):
        truth = _TRUTH.get(value.strip().casefold())
        return value == text or (truth is not None and truth is _TRUTH.get(word))
    if isinstance(value, (int, float)):
        for number in (int, float):
            with suppress(ValueError):
                return value == number(word)
        return False
    return str(value) == text


def assign(prompts: Sequence[str], shares: Shares, near_duplicate: float, seed: int) -> list[str]:
    """Assign each prompt a split so that near-duplicates are always in the same split.

    In the file's order, a prompt joins the split of the earlier prompts that it resembles, or gets
    one by its own hash. A prompt that resembles prompts of two splits is left out (`straddles`). So
    appending prompts changes no earlier prompt's split, and inserting or removing a prompt affects
    only those that resemble it.
    """
    return draw_splits(prompts, shares, near_duplicates(prompts, near_duplicate), seed)


def draw_splits(
    prompts: Sequence[str], shares: Shares, near: Sequence[Sequence[int]], seed: int
) -> list[str]:
    """The same as `assign`, given the earlier prompts that each prompt resembles."""
    assigned: list[str] = []
    for row, prompt in enumerate(prompts):
        splits = {assigned[other] for other in near[row]} - {STRADDLES}
        if len(splits) > 1:
            assigned.append(STRADDLES)
        else:
            assigned.append(splits.pop() if splits else _draw(prompt, shares, seed))
    return assigned


def worded(prompts: Sequence[str], wordings: Sequence[str], seed: int) -> list[str]:
    """Each prompt in one of the wordings (texts with `{prompt}`), drawn by its own hash."""
    heads = [hashlib.sha256(f"{seed}\0wording\0{prompt}".encode()).digest() for prompt in prompts]
    drawn = [wordings[int.from_bytes(head[:8]) % len(wordings)] for head in heads]
    return [text.replace("{prompt}", prompt) for text, prompt in zip(drawn, prompts, strict=True)]


def unworded(text: str, wordings: Sequence[str]) -> tuple[str, str]:
    """The prompt that was put into one of the wordings, and that wording.

    Of several that fit, the one with the most text of its own: `{prompt}` fits any prompt.
    """
    for wording in sorted(wordings, key=len, reverse=True):
        before, after = wording.split("{prompt}")
        if text.startswith(before) and text[len(before) :].endswith(after):
            return text[len(before) : len(text) - len(after)], wording
    return text, "{prompt}"


def _draw(prompt: str, shares: Shares, seed: int) -> str:
    head = hashlib.sha256(f"{seed}\0{prompt}".encode()).digest()[:8]
    point = int.from_bytes(head) / 2**64
    for split in SPLITS[:-1]:
        if point < shares[split]:
            return split
        point -= shares[split]
    return SPLITS[-1]


def prompts_table(
    rows: pl.DataFrame, job: PromptsJob, responses: Sequence[str] = ()
) -> pl.DataFrame:
    """Columns prompt, response (or null), counterpart and split, without straddling prompts.

    `responses` are assigned to the prompts in turn.

    Raises:
        LesionError: a split got too few prompts.
    """
    prompts, shares = rows["prompt"].to_list(), job.split.model_dump()
    splits = assign(prompts, shares, job.near_duplicate, job.seed)
    table = rows.with_columns(split=pl.Series(splits, dtype=pl.String))
    if responses:
        assigned = [responses[i % len(responses)] for i in range(table.height)]
        table = table.with_columns(response=pl.Series(assigned, dtype=pl.String))
    counts = Counter(splits)
    independent = Counter(_draw(prompt, shares, job.seed) for prompt in prompts)
    for split, least in MIN_PER_SPLIT.items():
        if counts[split] < least:
            advice = f"Add prompts, raise `pairs.split.{split}`, or take another `seed`."
            # If the prompts would fill the split when each was assigned alone.
            if independent[split] >= least:
                advice = _of_near_duplicates(prompts, job.near_duplicate)
            raise LesionError(
                f"behaviour `{job.behaviour}`: only {counts[split]} of its {len(splits)} prompts "
                f"fall into split `{split}` (at least {least} are needed). {advice}"
            )
    return table.filter(pl.col("split") != STRADDLES)


def _of_near_duplicates(prompts: Sequence[str], near_duplicate: float) -> str:
    earlier = [
        (row, other, alike)
        for row, other, alike in zip(*near_pairs(prompts, near_duplicate), strict=True)
        if other < row
    ]
    row, other, alike = earlier[0]
    count = len({row for row, _, _ in earlier})
    return (
        f"{count} of them resemble an earlier one so much that they share its split, such as "
        f"{shown(prompts[other])} and {shown(prompts[row])} (similarity {alike:.2f}, "
        f"where `pairs.near_duplicate` is {near_duplicate:g}). Take prompts that differ more, or "
        "raise `pairs.near_duplicate`."
    )


def write_prompts(out: Path, job: PromptsJob) -> None:
    """Choose a behaviour's prompts, split them, and write the table of PROMPTS.

    Raises:
        LesionError: a file is invalid, or a split gets too few prompts.
    """

    def say(note: str) -> None:
        logger.info(f"{job.behaviour}: {note}")

    source = locate(job.source)
    rows = select_prompts(read_rows(source), source, job.rows, job.need, say)
    responses = given_responses(locate(job.responses)) if job.responses else []
    table = prompts_table(rows, job, responses)
    counts = ", ".join(f"{split} {table['split'].eq(split).sum()}" for split in SPLITS)
    between = rows.join(table, on="prompt", how="anti")["prompt"]
    example = f", such as {shown(between[0])}" if between.len() else ""
    say(f"{rows.height} prompts: {counts}, {between.len()} left out between two splits{example}")
    write_parquet(worded_table(table, job), out)


def worded_table(table: pl.DataFrame, job: PromptsJob) -> pl.DataFrame:
    """The table of PROMPTS: prompts are put into wordings after they have been split."""
    texts = worded(table["prompt"].to_list(), job.wordings, job.seed)
    return table.with_columns(pl.Series("prompt", texts, pl.String)).select(list(PROMPTS))


def given_responses(path: Path) -> list[str]:
    """The `response` column of a file of responses, none of which may be missing.

    Raises:
        BadFile: there is no such column, or a row of it has no text.
    """
    return required_texts(read_rows(path, ["response"]), "response", path)
