"""Readers of users' tables for the whole package: the rows of a file, or why it is refused.

Values are never converted to text: a field of CSV is a text, and values in JSON, YAML and parquet
keep their types. Errors name the file, the row and the column.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from lesion.io.formats import BadFile
from lesion.io.texts import check_no_page, check_pointer, csv_rows, is_blank, parse_yaml, read_text
from lesion.pairs.folders import table_files

DataRow = dict[str, Any]


class _Line(NamedTuple):
    """A row's position in its file, such as `line 3`, and its values by column."""

    position: str
    row: DataRow


def read_rows(path: Path, columns: Iterable[str] = ()) -> pl.DataFrame:
    """Read a user's table, or a fetched one.

    Args:
        path: JSON lines, a JSON list of objects, CSV, TSV, parquet, a PyRIT data set (YAML, its
            `value` as the column `prompt`), or a data set's folder (see `table_files`).
        columns: those that it must have.

    Returns:
        At least one row. A column of texts is a String, and a column of mixed types is an Object.
        A missing value is null, and so is an empty field of CSV.

    Raises:
        BadFile: it is missing, of another kind, or incomplete, has no row, or lacks a column.
    """
    table = _joined(table_files(path, _IN_FOLDERS, _UNREAD)) if path.is_dir() else _read_file(path)
    if table.is_empty():
        raise BadFile(f"{path}: holds no rows")
    check_columns(table, columns, path)
    return table


def check_columns(
    table: pl.DataFrame, columns: Iterable[str], path: Path, key: str | None = None
) -> None:
    """Check that a table has columns.

    Args:
        table: the rows.
        columns: those that it must have.
        path: named in errors.
        key: the key of a behaviour that names the column, for the message.

    Raises:
        BadFile: it lacks one; the message names those that it has.
    """
    for column in columns:
        if column not in table.columns:
            only = table.columns[0] if table.width == 1 else ""
            marks = [mark for mark in (";", "\t", "|") if mark in only]
            hint = f". Set the behaviour's `{key}` to one of them" if key else ""
            if marks:
                hint = f". Are its fields separated by {marks[0]!r}? Use commas"
            raise BadFile(
                f"{path}: has no column `{column}`; it has {', '.join(table.columns)}{hint}"
            )


def location_of(path: Path, row: int) -> str:
    """A file and the position of a row in it (counted from 0), for messages: `a.jsonl, line 3`."""
    try:
        parts = table_files(path, _IN_FOLDERS, _UNREAD) if path.is_dir() else [path]
        for part in parts:
            if part.suffix.lower() == ".parquet":
                positions = [f"row {number + 1}" for number in range(_read_parquet(part).height)]
            else:
                positions = [line.position for line in _lines(part)]
            if row < len(positions):
                return f"{part}, {positions[row]}"
            row -= len(positions)
    except (BadFile, KeyError):
        pass
    return f"{path}, row {row + 1}"


def texts(
    table: pl.DataFrame, column: str, path: Path, rows: Sequence[int] | None = None
) -> list[str | None]:
    """A column of texts, unchanged, of the given or all rows; null where there is none.

    Raises:
        BadFile: a row has something else, or the seed of a PyRIT data set is not a complete
            prompt.
    """
    wanted = range(table.height) if rows is None else rows
    values = table[column].to_list()
    for row in wanted:
        if values[row] is not None and not isinstance(values[row], str):
            raise BadFile(
                f"{location_of(path, row)}: its `{column}` is {_kind(values[row])} and not a text. "
                "Give a column of texts."
            )
    if column == "prompt" and path.suffix.lower() in _SEEDS:
        _check_seeds(table, path, wanted)
    return [values[row] for row in wanted]


def required_texts(
    table: pl.DataFrame, column: str, path: Path, limit: int | None = None
) -> list[str]:
    """A column that must have a text in every row, of the first `limit` or all rows.

    Raises:
        BadFile: a row has something else, or nothing visible.
    """
    rows = range(table.height if limit is None else min(limit, table.height))
    values = []
    for row, text in enumerate(texts(table, column, path, rows)):
        if text is None or is_blank(text):
            raise BadFile(
                f"{location_of(path, row)}: has an empty `{column}`. Fill it in, or remove the row."
            )
        values.append(text)
    return values


def frequent(values: Iterable[Any], most: int = 6) -> str:
    """The most frequent values of a column, or of the lists in it, for messages."""
    each = [item for value in values for item in (value if isinstance(value, list) else [value])]
    counted = Counter(shown(item) for item in each).most_common(most + 1)
    if len(counted) > most and counted[0][1] == 1:
        return f"{len(set(map(shown, each)))} different values, such as {counted[0][0]}"
    named = ", ".join(f"{value} ({count})" for value, count in counted[:most])
    return f"{named}, …" if len(counted) > most else named or "nothing"


def shown(value: Any, length: int = 60) -> str:
    """A value as JSON writes it, shortened, for messages."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _kind(value: Any) -> str:
    if isinstance(value, list):
        messages = value and isinstance(value[0], dict) and "role" in value[0]
        return "a list of messages" if messages else "a list"
    if isinstance(value, dict):
        return "a structure"
    if isinstance(value, bool):
        return f"the truth value {shown(value)}"
    if isinstance(value, bytes):
        return "binary data"
    return f"the number {value}" if isinstance(value, (int, float)) else f"a {type(value).__name__}"


def _read_file(path: Path) -> pl.DataFrame:
    kind = path.suffix.lower()
    if not path.exists():
        raise BadFile(f"{path}: there is no such file")
    if kind not in (*_PARSERS, ".parquet"):
        advice = _UNREAD.get(kind, "Bring it into one of these forms")
        forms = ", ".join((*_PARSERS, ".parquet"))
        raise BadFile(f"{path}: could not be read: tables are read from {forms} files. {advice}")
    try:
        if kind == ".parquet":
            return _read_parquet(path)
        rows = [line.row for line in _lines(path)]
    except (OSError, RecursionError, ValueError) as error:
        raise BadFile(f"{path}: could not be read: {error}") from error
    names = dict.fromkeys(name for row in rows for name in row)
    return pl.DataFrame([_series(name, [row.get(name) for row in rows]) for name in names])


def _lines(path: Path) -> Iterator[_Line]:
    text = read_text(path)
    check_no_page(text, path)
    return _PARSERS[path.suffix.lower()](text, path)


def _joined(parts: Sequence[Path]) -> pl.DataFrame:
    """The table of several files, which must have the same columns of the same types."""
    tables = [_read_file(path) for path in parts]
    first, *rest = tables
    for path, table in zip(parts[1:], rest, strict=True):
        if set(table.columns) != set(first.columns):
            raise BadFile(
                f"{path}: has the columns {', '.join(table.columns)}, and {parts[0].name} of the "
                f"same folder has {', '.join(first.columns)}. Name one file in the address, such "
                f"as `file:{parts[0]}`, or make their columns the same."
            )
    if not rest:
        return first
    return pl.DataFrame(
        [
            _series(name, [value for table in tables for value in table[name].to_list()])
            for name in first.columns
        ]
    )


def _series(name: str, values: list[Any]) -> pl.Series:
    """A column of its values' type; polars would convert mixed values to texts."""
    kinds = {type(value) for value in values if value is not None}
    inner = {type(item) for value in values if isinstance(value, list) for item in value}
    dtype: Any = pl.Object
    if kinds <= {str}:
        dtype = pl.String
    elif kinds == {bool}:
        dtype = pl.Boolean
    elif kinds == {int} and all(value is None or abs(value) < 2**63 for value in values):
        dtype = pl.Int64
    elif kinds == {float}:
        dtype = pl.Float64
    elif kinds == {list} and inner <= {str}:
        dtype = pl.List(pl.String)
    return pl.Series(name, values, dtype=dtype)


def _parsed(text: str) -> Any:
    """A JSON value; a key that is given twice, or half of a surrogate pair, is an error."""

    def unique(pairs: list[tuple[str, Any]]) -> DataRow:
        row = dict(pairs)
        if len(row) < len(pairs):
            counts = Counter(key for key, _ in pairs)
            duplicate = next(key for key, count in counts.items() if count > 1)
            raise ValueError(f"the key `{duplicate}` is given twice")
        return row

    value = json.loads(text, object_pairs_hook=unique)
    if "\\u" in text:
        json.dumps(value, ensure_ascii=False).encode()
    return value


def _parse_lines(text: str, path: Path) -> Iterator[_Line]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        position = f"line {number}"
        try:
            value = _parsed(line)
        except (ValueError, RecursionError) as error:
            raise BadFile(
                f"{path}, {position}: could not be read: it is not a complete JSON object "
                f"({error}). Each line must be one; name a file that is one list `.json`."
            ) from error
        if isinstance(value, list):
            raise BadFile(
                f"{path}, {position}: could not be read: it is a list, and each line must be one "
                "object. Name a file that is one list `.json`."
            )
        yield _Line(position, _object(value, path, position))


def _object(value: Any, path: Path, position: str) -> DataRow:
    if not isinstance(value, dict):
        what = "null" if value is None else "a text" if isinstance(value, str) else _kind(value)
        raise BadFile(
            f"{path}, {position}: could not be read: it is {what} and not an object such as "
            '{"prompt": "…"}.'
        )
    return value


def _parse_json(text: str, path: Path) -> Iterator[_Line]:
    # Many data sets use this suffix for JSON lines.
    try:
        first = json.loads(text.lstrip().partition("\n")[0])
    except ValueError:
        first = None
    if isinstance(first, dict):
        yield from _parse_lines(text, path)
        return
    try:
        value = _parsed(text)
    except (ValueError, RecursionError) as error:
        raise BadFile(f"{path}: could not be read: it is not complete JSON: {error}") from error
    if not isinstance(value, list):
        raise BadFile(
            f"{path}: could not be read: it is not a list of objects such as "
            '[{"prompt": "…"}, …]. Write its rows as one list, or each on its own line.'
        )
    for number, item in enumerate(value, 1):
        yield _Line(f"row {number}", _object(item, path, f"row {number}"))


def _parse_csv(text: str, path: Path, separator: str = ",") -> Iterator[_Line]:
    rows = csv_rows(text, path, separator)
    _, names = next(rows, (1, []))
    for number, row in rows:
        fields = zip(names, row, strict=True)
        yield _Line(f"line {number}", {name: field or None for name, field in fields})


def _read_parquet(path: Path) -> pl.DataFrame:
    check_pointer(path)
    try:
        # The path is not a pattern, and folders' names add no columns.
        table = pl.read_parquet(path, glob=False, hive_partitioning=False)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise BadFile(
            f"{path}: could not be read: it is not a complete parquet file: {error}"
        ) from error
    named = pl.selectors.by_dtype(pl.Categorical) | pl.selectors.enum()
    return table.with_columns(named.cast(pl.String))


# PyRIT's data sets.

_LISTS = ("harm_categories", "authors", "groups")
_WANTED = {"data_type": ("text",), "role": ("user",), "seed_type": ("prompt", "objective")}
"""The values of a seed that is a prompt; the first of each is the default."""
_DEFAULTS = {**{key: values[0] for key, values in _WANTED.items()}, "parameters": None}


def _parse_seeds(text: str, path: Path) -> Iterator[_Line]:
    content = parse_yaml(text, path)
    outer = content if isinstance(content, dict) else {}
    seeds = content if isinstance(content, list) else outer.get("seeds", outer.get("prompts"))
    if not isinstance(seeds, list):
        what = "a template, which goes into `responses.templates`" if "value" in outer else "none"
        raise BadFile(
            f"{path}: could not be read: a PyRIT data set has a list `seeds`, and this is {what}."
        )
    for number, item in enumerate(seeds, 1):
        position = f"seed {number}"
        seed = {"value": item} if isinstance(item, str) else _object(item, path, position)
        row: DataRow = {
            key: seed.get(key) or outer.get(key) or default for key, default in _DEFAULTS.items()
        }
        for key in _LISTS:
            # The data set's categories followed by the seed's, in PyRIT's order.
            first, own = _as_list(outer.get(key)), _as_list(seed.get(key))
            row[key] = [*first, *(value for value in own if value not in first)]
        rest = {key: value for key, value in seed.items() if key not in (*row, "value")}
        yield _Line(position, {**row, **rest, "prompt": seed.get("value")})


def _as_list(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]


def _check_seeds(table: pl.DataFrame, path: Path, rows: Iterable[int]) -> None:
    """Refuse seeds that are not complete prompts: pictures, templates, parts of a conversation."""
    first: dict[Any, int] = {}
    for row in rows:
        seed = table.row(row, named=True)
        for key, values in _WANTED.items():
            if seed[key] not in values:
                raise _unfit(path, row, f"has the `{key}` {shown(seed[key])}", key, values[0])
        if seed["parameters"]:
            raise BadFile(
                f"{location_of(path, row)}: is a template that needs {shown(seed['parameters'])}. "
                "Fill it in in a copy of the file."
            )
        group = seed.get("prompt_group_alias")
        if group is not None and first.setdefault(group, row) != row:
            what = f"continues seed {first[group] + 1} (`prompt_group_alias` {shown(group)})"
            raise _unfit(path, row, what, "seed_type", "objective")


def _unfit(path: Path, row: int, what: str, column: str, value: str) -> BadFile:
    return BadFile(
        f"{location_of(path, row)}: {what}, and a prompt must be one complete text. Remove "
        f"such seeds, or exclude them with `where: {{column: {column}, equals: {value}}}`."
    )


_SEEDS = (".prompt", ".yaml", ".yml")
_PARSERS: dict[str, Callable[[str, Path], Iterator[_Line]]] = {
    ".jsonl": _parse_lines,
    ".ndjson": _parse_lines,
    ".json": _parse_json,
    ".csv": _parse_csv,
    ".tsv": partial(_parse_csv, separator="\t"),
    **dict.fromkeys(_SEEDS, _parse_seeds),
}
TABLES = (*(kind for kind in _PARSERS if kind not in _SEEDS), ".parquet")
"""Suffixes of files with rows and columns."""
_UNPACK, _EXPORT = "Unpack it first.", "Export it as JSON lines, CSV or parquet."
_UNREAD = {
    **dict.fromkeys((".gz", ".zip", ".bz2", ".xz", ".zst", ".tar", ".tgz", ".7z"), _UNPACK),
    **dict.fromkeys((".xlsx", ".xls", ".xlsm", ".ods"), "Save the sheet as CSV in UTF-8."),
    **dict.fromkeys((".arrow", ".feather", ".orc", ".avro", ".db", ".sqlite", ".h5"), _EXPORT),
    **dict.fromkeys((".pkl", ".pickle", ".npy", ".npz", ".pt"), _EXPORT),
}
"""Suffixes of data files that are not supported, and what to do about them."""
_IN_FOLDERS = [*TABLES, ".prompt"]
