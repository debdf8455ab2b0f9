"""Reading users' text files: decoding, YAML and CSV, with clear errors for anything else.

All readers of users' text files use these functions, so that a byte order mark, Windows line ends
and other encodings are treated alike everywhere.
"""

import codecs
import csv
import io
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from lesion.io.formats import BadFile

_LFS = b"version https://git-lfs.github.com/spec/"
# UTF-32's little-endian mark begins with UTF-16's, so it comes first.
_MARKS = {
    "UTF-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE),
    "UTF-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE),
}
_SAVE = "Save it as UTF-8."


def read_text(path: Path, otherwise: str | None = None) -> str:
    r"""Read a text file in UTF-8, without its byte order mark and with `\n` at its lines' ends.

    Raises:
        BadFile: it is missing, has NUL bytes, is a git-lfs pointer, or is in another encoding and
            none to try is given (`otherwise`).
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise BadFile(f"{path}: could not be read: there is no such file") from error
    except OSError as error:
        raise BadFile(f"{path}: could not be read: {error.strerror or error}") from error
    if data.startswith(_LFS):
        raise pointer_error(path)
    for name, marks in _MARKS.items():
        if data.startswith(marks):
            raise BadFile(f"{path}: could not be read: it is in {name}. {_SAVE}")
    if b"\0" in data:
        line = data.count(b"\n", 0, data.index(b"\0")) + 1
        raise BadFile(
            f"{path}, line {line}: could not be read: it holds NUL bytes, so it is damaged, in "
            f"UTF-16, or no text. {_SAVE}"
        )
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        if otherwise is None:
            line = data.count(b"\n", 0, error.start) + 1
            problem = f"{path}, line {line}: could not be read: it is not in UTF-8. {_SAVE}"
            raise BadFile(problem) from error
        text = data.decode(otherwise, errors="replace")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    # Concatenated files have the later files' marks at the beginnings of lines.
    return text.replace("\n\ufeff", "\n").removeprefix("\ufeff")


def is_blank(text: str) -> bool:
    """Whether a text is invisible: spaces, control characters, marks without a width."""
    return all(char.isspace() or unicodedata.category(char) in ("Cc", "Cf") for char in text)


def pointer_error(path: Path, *others: Path) -> BadFile:
    """The error for files that are still git-lfs pointers."""
    more = f" (and {len(others)} more files)" if others else ""
    return BadFile(
        f"{path}{more}: is a pointer that git-lfs left in the file's place. Run `git lfs pull` in "
        "its repository, or download the file itself."
    )


def is_pointer(path: Path) -> bool:
    """Whether the file is a git-lfs pointer."""
    with path.open("rb") as handle:
        return handle.read(len(_LFS)) == _LFS


def check_pointer(path: Path) -> None:
    """Refuse a git-lfs pointer, which git leaves in place of the file if git-lfs did not run.

    Raises:
        BadFile: the text is a pointer.
    """
    if is_pointer(path):
        raise pointer_error(path)


def check_no_page(text: str, path: Path) -> None:
    """Refuse a web page, which a failed download may leave in place of a data file.

    Raises:
        BadFile: the text is a web page.
    """
    if re.match(r"\s*<(!doctype\s+)?html\b", text[:1000], re.IGNORECASE):
        raise BadFile(
            f"{path}: could not be read: it is a web page and not data. Download the file itself "
            "(of a repository in the browser, its `raw` form)."
        )


# The C parser, where there is one, is ten times as fast.
_Safe: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class StrictLoader(_Safe):  # type: ignore[misc]
    """Refuses a duplicate key, of which YAML parsers silently use the last value."""


def _unique_keys(loader: Any, node: yaml.MappingNode) -> Any:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":
            continue
        key = loader.construct_object(key_node, deep=True)
        line = key_node.start_mark.line + 1
        if not isinstance(key, (str, int, float)):
            raise _BadKey(line, f"`{key}` is not a valid key; use a plain word.")
        if key in seen:
            raise _BadKey(line, f"`{key}` is given twice; rename one.")
        seen.add(key)
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


class _BadKey(Exception):
    """The line and the problem of a YAML error."""


StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_keys)


def read_yaml(path: Path, loader: Any = StrictLoader) -> Any:
    """Read a YAML file, without executing anything; `loader` is a subclass of `StrictLoader`.

    Raises:
        BadFile: see `read_text`; or it is not valid YAML, or gives a key twice.
    """
    return parse_yaml(read_text(path), path, loader)


def parse_yaml(text: str, path: Path, loader: Any = StrictLoader) -> Any:
    """The value of a text in YAML (see `read_yaml`); `path` is for errors."""
    try:
        return yaml.load(text, loader)  # noqa: S506 (a SafeLoader)
    except _BadKey as error:
        line, problem = error.args
        raise BadFile(f"{path}, line {line}: {problem}") from error
    # PyYAML does not catch errors of its constructors, as with a date such as 2026-99-99.
    except Exception as error:
        problem = str(error).replace('in "<unicode string>", ', "in ")
        raise BadFile(f"{path}: is not valid YAML: {problem}") from error


def csv_rows(
    text: str, path: Path, separator: str = ",", skipped: int = 0
) -> Iterator[tuple[int, list[str]]]:
    """The rows of a text in CSV, header first, each with the number of its first line.

    `text` is the file's content from its header on, after `skipped` lines. Blank lines are skipped.

    Raises:
        BadFile: a quote is not closed, two columns have one name, or a row has more or fewer
            fields than the header, or repeats it.
    """
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    header: list[str] | None = None
    while True:
        line = skipped + reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise BadFile(
                f"{path}, line {line}: could not be read: its quotes do not match ({error}). Put "
                'a field that holds quotes into quotes, and write each inside as "".'
            ) from error
        if row is None:
            return
        if not row:
            continue
        if header is None:
            header = row
            # A column without a name is usually an index that was saved with the table.
            row = [name.strip() or f"column {index}" for index, name in enumerate(header, 1)]
            for index, name in enumerate(row):
                if name in row[:index]:
                    raise BadFile(
                        f"{path}: has two columns `{name}`. Rename or remove one of them."
                    )
        elif len(row) != len(header):
            raise BadFile(
                f"{path}, line {line}: could not be read: it has {len(row)} fields, and the header "
                f"has {len(header)}. Put a field that holds `{separator}` into quotes."
            )
        elif row == header:
            raise BadFile(
                f"{path}, line {line}: could not be read: it repeats the header, as where two "
                "files were joined. Remove the line."
            )
        yield line, row
