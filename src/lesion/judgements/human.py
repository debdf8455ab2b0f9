"""Human scores of answers, from the CSV files of the `pyrit` wheel."""

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import polars as pl

from lesion.io.formats import BadFile
from lesion.io.texts import check_no_page, csv_rows, read_text

OBJECTIVE = "objective"
GRADED_HARM = "graded-harm"
REFUSAL = "refusal"
HARMFUL = (OBJECTIVE, GRADED_HARM)
"""Targets whose scores say how harmful an answer is."""
# Folder: what its scores say. `sample` repeats rows of others.
TARGETS = {"objective": OBJECTIVE, "harm": GRADED_HARM, "refusal_scorer": REFUSAL}

_SCHEMA = {
    "target": pl.String,
    "category": pl.String,
    "prompt": pl.String,
    "response": pl.String,
    "rater": pl.String,
    "score": pl.Float64,
    "panel": pl.Boolean,
}
_WORDS = {"true": 1.0, "false": 0.0}


def read_human_scores(folder: Path) -> pl.DataFrame:
    """Read every scored answer once.

    Some files repeat rows of others (`mini_*`), and a few rows occur twice in one file. An answer
    counts once for each target, with the mean of its scores.

    Args:
        folder: `pyrit/datasets/scorer_evals`, holding `objective/*.csv` (was the prompt's
            objective achieved: no or yes), `harm/*.csv` (how harmful: 0, ¼, ½, ¾ or 1) and
            `refusal_scorer/*.csv` (was it refused: no or yes).

    Returns:
        Columns target (`objective`, `graded-harm` or `refusal`), category (the file's name),
        prompt, response, score (in [0, 1], the mean over scorers), panel (several people scored
        it: many answers to few prompts, so these are learned from but not measured on) and group
        (see `linked_groups`). Sorted, so that the order of the files on disk does not matter.

    Raises:
        BadFile: no such files, one is incomplete, a column is missing, or a score is not in [0, 1].
    """
    return grouped(
        _without_misplaced(read_ratings(folder))
        .group_by("target", "prompt", "response")
        .agg(pl.col("category").min(), pl.col("score").mean(), pl.col("panel").any())
        .select("target", "category", "prompt", "response", "score", "panel")
        .sort("target", "prompt", "response")
    )


def read_panels(folder: Path) -> pl.DataFrame:
    """Read the answers that several people scored, each person compared with the others.

    Returns:
        One row an answer and rater: target, category, prompt, response, score (the rater's),
        others (mean of the other raters' scores) and group (see `linked_groups`).

    Raises:
        BadFile: see `read_human_scores`.
    """
    answer = ["target", "category", "prompt", "response"]
    ratings = read_ratings(folder).group_by(*answer, "rater").agg(pl.col("score").mean())
    total, raters = pl.col("score").sum().over(answer), pl.len().over(answer)
    return grouped(
        ratings.filter(raters > 1)
        .with_columns(others=(total - pl.col("score")) / (raters - 1))
        .sort(*answer, "rater")
        .select(*answer, "score", "others")
    )


def read_ratings(folder: Path) -> pl.DataFrame:
    """Read every person's score as the files have it (see `read_human_scores`)."""
    rows: list[tuple[object, ...]] = []
    for name, target in TARGETS.items():
        files = sorted((folder / name).glob("*.csv"))
        if not files:
            raise BadFile(
                f"{folder / name}: no CSV files of human scores. Give the folder "
                "`pyrit/datasets/scorer_evals` of the unpacked PyPI wheel `pyrit` (1.1.0)."
            )
        for file in files:
            # The name that a file shares with its excerpts and with its panel's file.
            category = file.stem.removeprefix("mini_").removesuffix("_multi_score")
            rows += [(target, category.removesuffix("_extra"), *row) for row in _rows(file)]
    return pl.DataFrame(rows, schema=_SCHEMA, orient="row")


def grouped(table: pl.DataFrame) -> pl.DataFrame:
    """Number the groups of a table's rows, by prompt and response (see `linked_groups`)."""
    together = linked_groups(table["prompt"].to_list(), table["response"].to_list())
    return table.with_columns(pl.Series("group", together, dtype=pl.Int64))


def _without_misplaced(ratings: pl.DataFrame) -> pl.DataFrame:
    """Leave out answers to another question, which the refusal files count as refusals.

    These rows were created by exchanging responses: a response that answers one prompt is listed as
    a refusal of another. A judge that reads only the response would learn something false from
    them; off-topic responses are left to the relevance judge.
    """
    labelled, refused = pl.col("target") == REFUSAL, pl.col("score") >= 0.5
    planted = (labelled & refused).any().over("response") & (labelled & ~refused)
    mixed = planted.any().over("response") | pl.col("planted").any().over("prompt")
    marked = ratings.with_columns(planted=planted)
    return marked.filter(~(labelled & refused & mixed)).drop("planted")


def linked_groups(prompts: Sequence[str], responses: Sequence[str]) -> list[int]:
    """Number the groups of rows that must not be divided between training and testing.

    Rows belong together when they share a prompt or a response, directly or through other rows,
    regardless of case and punctuation, because the files have the same answer to prompts that
    differ by a typing error. Groups are numbered from 0 in the order of their first rows.
    """
    parent: dict[str, str] = {}

    def root(node: str) -> str:
        while parent.setdefault(node, node) != node:
            node = parent[node]
        return node

    keys = [f"prompt {_plain(prompt)}" for prompt in prompts]
    for key, response in zip(keys, map(_plain, responses), strict=True):
        if response:  # Empty answers are all equal, which does not relate their prompts.
            parent[root(f"response {response}")] = root(key)
    numbers: dict[str, int] = {}
    return [numbers.setdefault(root(key), len(numbers)) for key in keys]


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))


def _rows(file: Path) -> Iterator[tuple[str, str, str, float, bool]]:
    """Prompt, response, rater, score and whether several people scored, for each text answer."""
    # Some were saved from a spreadsheet in its encoding.
    text = read_text(file, otherwise="cp1252")
    check_no_page(text, file)
    lines = text.split("\n")
    header = next((index for index, line in enumerate(lines) if line[:1] != "#"), len(lines))
    rows = csv_rows("\n".join(lines[header:]), file, skipped=header)
    _, names = next(rows, (0, []))
    scores = [index for index, name in enumerate(names) if name.startswith("human_score")]
    if not scores or not {"objective", "assistant_response"} <= set(names):
        raise BadFile(
            f"{file}: needs the columns objective, assistant_response and human_score… "
            f"(found {', '.join(names) or 'none'}). Unpack the wheel `pyrit` 1.1.0 again."
        )
    prompt, response = names.index("objective"), names.index("assistant_response")
    kind = names.index("data_type") if "data_type" in names else None
    for line, row in rows:
        if kind is None or row[kind] == "text":
            if not row[prompt].strip():
                raise BadFile(f"{file}, line {line}: has an empty `objective`. Fill it in.")
            for index in scores:
                score = _score(row[index], file, line)
                yield row[prompt], row[response], names[index], score, len(scores) > 1


def _score(text: str, file: Path, line: int) -> float:
    word = text.strip().casefold()
    with suppress(ValueError):
        score = _WORDS[word] if word in _WORDS else float(word)
        if 0 <= score <= 1:
            return score
    raise BadFile(
        f"{file}, line {line}: the human score {text!r} is neither true, false nor a number from 0 "
        "to 1. Correct the row, or bring the file's scale to [0, 1]."
    )
