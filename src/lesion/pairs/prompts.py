"""Read a behaviour's prompts from its source, and give each its split. Needs no model."""

import hashlib
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from lesion.formats import BadFile, LesionError, write_parquet
from lesion.pairs.tables import PROMPTS

SPLITS = ("train", "validation", "test")
MIN_PER_SPLIT = {"train": 4, "validation": 2, "test": 2}
STRADDLES = "straddles"
"""The split of a prompt that resembles prompts of two splits: it is left out."""


def read_rows(path: Path, columns: Iterable[str] = ()) -> pl.DataFrame:
    """Read a table of prompts: JSONL, CSV, parquet, PyRIT `.prompt` (YAML) or a data set folder.

    Args:
        path: the file or folder.
        columns: that it must have.

    Raises:
        BadFile: it is missing, of another kind, or not whole, or lacks a column.
    """
    reader = _read_dataset if path.is_dir() else _READERS.get(path.suffix.lower())
    if not path.exists():
        raise BadFile(f"{path}: there is no such file")
    if reader is None:
        raise BadFile(f"{path}: prompts are read from {', '.join(sorted(_READERS))} files")
    try:
        table: pl.DataFrame = reader(path)
    except (pl.exceptions.PolarsError, yaml.YAMLError, OSError, *_MISFITS) as error:
        raise BadFile(f"{path}: could not be read: {error}") from error
    _check_columns(table, columns, path)
    return table


def _check_columns(table: pl.DataFrame, columns: Iterable[str], path: Path) -> None:
    for column in columns:
        if column not in table.columns:
            raise BadFile(f"{path}: has no column `{column}`; it has {', '.join(table.columns)}")


_MISFITS = (KeyError, TypeError, ValueError)
"""What the readers raise for a file of the right kind with something else in it."""


def _read_dataset(folder: Path) -> pl.DataFrame:
    """A hub data set's folder: its `train` split, or its only one."""
    # Imported here: it takes a second, and only such a source needs it.
    from datasets import load_dataset

    splits = load_dataset(str(folder))
    if "train" not in splits and len(splits) > 1:
        raise ValueError(f"it has the splits {', '.join(splits)}, and none is `train`")
    chosen = splits["train" if "train" in splits else next(iter(splits))]
    return pl.DataFrame(chosen.to_polars())


def _read_pyrit(path: Path) -> pl.DataFrame:
    # The C loader, where there is one, is ten times as fast.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    seeds = yaml.load(path.read_text(encoding="utf-8"), loader)["seeds"]  # noqa: S506
    return pl.DataFrame(seeds, infer_schema_length=None).rename({"value": "prompt"})


_READERS: dict[str, Any] = {
    ".jsonl": lambda path: pl.read_ndjson(path, infer_schema_length=None),
    ".csv": lambda path: pl.read_csv(path, infer_schema_length=None),
    ".parquet": pl.read_parquet,
    ".prompt": _read_pyrit,
}


def select(rows: pl.DataFrame, path: Path, behaviour: Mapping[str, Any], need: int) -> pl.DataFrame:
    """The rows of a behaviour: its filter, its limit, without empty or repeated prompts.

    Args:
        rows: what `read_rows` gave.
        path: named in errors.
        behaviour: `prompt`, `response`, `where` and `limit` of the config.
        need: how many prompts it must have at least.

    Returns:
        Columns `prompt` and `response` (null where the model is to write it).

    Raises:
        BadFile: a column is missing, or too few prompts are left.
    """
    where = behaviour["where"]
    named = [behaviour["prompt"], behaviour["response"], where and where["column"]]
    _check_columns(rows, filter(None, named), path)
    try:
        kept = rows.filter(_condition(rows, where)) if where else rows
    except pl.exceptions.PolarsError as error:
        raise BadFile(
            f"{path}: the filter {_shown(where)} does not fit its column: {error}"
        ) from error
    response = pl.col(behaviour["response"]) if behaviour["response"] else pl.lit(None)
    found = (
        kept.select(
            prompt=pl.col(behaviour["prompt"]).cast(pl.String).str.strip_chars(),
            response=response.cast(pl.String),
        )
        .filter(pl.col("prompt").fill_null("") != "")
        .unique("prompt", keep="first", maintain_order=True)
    )
    limited = found.head(behaviour["limit"]) if behaviour["limit"] else found
    if limited.height < need:
        filtered = f" after the filter {_shown(where)}" if where else ""
        raise BadFile(
            f"{path}: gives {limited.height} prompts{filtered}, and at least {need} are needed. "
            "Add prompts, widen the filter, or remove the behaviour."
        )
    return limited


def _shown(where: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value!r}" for key, value in where.items() if value is not None)


def _condition(rows: pl.DataFrame, where: Mapping[str, str | None]) -> pl.Expr:
    column = pl.col(str(where["column"]))
    listed = isinstance(rows.schema[str(where["column"])], pl.List)
    text = next(value for key, value in where.items() if key != "column" and value is not None)
    if where["first"] is not None:
        return (column.list.first() if listed else column).eq(text)
    if where["contains"] is not None:
        return column.list.contains(text) if listed else column.str.contains(text, literal=True)
    return column.cast(pl.String).eq(text)


def similarity(prompts: Sequence[str]) -> Any:
    """Cosine similarity of the prompts' sets of character 3- to 5-grams, as a sparse matrix.

    Hashed and unweighted, so that two prompts are as alike whatever others there are.

    Returns:
        scipy CSR [prompt, prompt], float64.
    """
    from sklearn.feature_extraction.text import HashingVectorizer

    vectors = HashingVectorizer(
        analyzer="char_wb", ngram_range=(3, 5), binary=True, alternate_sign=False, n_features=2**18
    ).transform(prompts)
    return (vectors @ vectors.T).tocsr()


def assign(
    prompts: Sequence[str], shares: Mapping[str, float], near_duplicate: float, seed: int
) -> list[str]:
    """Give each prompt a split so that near-duplicates never lie in two.

    In the file's order, a prompt joins the split of the earlier prompts it resembles, or draws
    one by its own hash. One that resembles prompts of two splits is left out (`straddles`). So
    appending prompts changes no earlier one's split, and inserting or removing one touches
    nothing but what resembles it.
    """
    alike = similarity(prompts)
    found: list[str] = []
    for row, prompt in enumerate(prompts):
        line = alike.getrow(row)
        near = line.indices[(line.data >= near_duplicate) & (line.indices < row)]
        splits = {found[other] for other in near} - {STRADDLES}
        if len(splits) > 1:
            found.append(STRADDLES)
        else:
            found.append(splits.pop() if splits else _draw(prompt, shares, seed))
    return found


def _draw(prompt: str, shares: Mapping[str, float], seed: int) -> str:
    head = hashlib.sha256(f"{seed}\0{prompt}".encode()).digest()[:8]
    place = int.from_bytes(head) / 2**64
    for split in SPLITS[:-1]:
        if place < shares[split]:
            return split
        place -= shares[split]
    return SPLITS[-1]


def prompts_table(
    rows: pl.DataFrame,
    name: str,
    *,
    shares: Mapping[str, float],
    near_duplicate: float,
    seed: int,
    responses: Sequence[str] = (),
) -> pl.DataFrame:
    """Columns prompt, response (or null), split; the straddling prompts are gone.

    `responses` are given to the prompts in turn.

    Raises:
        LesionError: a split got too few prompts.
    """
    splits = assign(rows["prompt"].to_list(), shares, near_duplicate, seed)
    table = rows.with_columns(split=pl.Series(splits, dtype=pl.String))
    if responses:
        given = [responses[i % len(responses)] for i in range(table.height)]
        table = table.with_columns(response=pl.Series(given, dtype=pl.String))
    counts = Counter(splits)
    for split, least in MIN_PER_SPLIT.items():
        if counts[split] < least:
            raise LesionError(
                f"behaviour `{name}`: only {counts[split]} of its {len(splits)} prompts fall into "
                f"split `{split}` (at least {least} are needed). Add prompts, raise "
                f"`pairs.split.{split}`, or take another `seed`."
            )
    return table.filter(pl.col("split") != STRADDLES)


def write_prompts(places: Mapping[str, Path], out: Path, study: Mapping[str, Any]) -> None:
    """Choose a behaviour's prompts, split them, and write the table of PROMPTS.

    Args:
        places: where `source` lies, and `responses` if the behaviour is given any.
        out: the table.
        study: the behaviour's slice of the study (`plan.prompts_slice`).

    Raises:
        LesionError: a file is unfit, or a split gets too few prompts.
    """
    source = places["source"]
    rows = select(read_rows(source), source, study["select"], study["need"])
    given = given_responses(places["responses"]) if "responses" in places else []
    table = prompts_table(
        rows,
        study["behaviour"],
        shares=study["shares"],
        near_duplicate=study["near_duplicate"],
        seed=study["seed"],
        responses=given,
    )
    counts = ", ".join(f"{split} {table['split'].eq(split).sum()}" for split in SPLITS)
    print(
        f"{study['behaviour']}: {rows.height} prompts: {counts}, "
        f"{rows.height - table.height} left out",
        file=sys.stderr,
    )
    write_parquet(table.select(list(PROMPTS)), out)


def given_responses(path: Path) -> list[str]:
    """The `response` column of a file of responses.

    Raises:
        BadFile: there is no such column, or nothing in it.
    """
    rows = read_rows(path)
    if "response" not in rows.columns or rows.is_empty():
        raise BadFile(f"{path}: needs a column `response` with at least one row")
    return [str(text) for text in rows["response"]]
