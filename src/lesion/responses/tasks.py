"""A study's own tasks for the lm-evaluation-harness: YAML files of a folder, and their data.

Read without lm-eval, because every plan looks whether they have changed.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, TemplateError, meta

from lesion.formats import BadFile, digest, sha256_file
from lesion.pairs.rows import TABLES, place_of, read_rows, shown
from lesion.study import StudyError
from lesion.texts import StrictLoader, check_pointer, read_yaml

_JINJA = Environment(autoescape=True)
"""Takes templates apart; nothing is rendered."""


class _TaskLoader(StrictLoader):
    """Takes the harness's `!function module.name` for its text."""


_TaskLoader.add_constructor("!function", lambda loader, node: f"!function {node.value}")


def local_tasks(folder: Path) -> dict[str, Path]:
    """Tasks of a folder by name, and the YAML file of each; none if there is no such folder.

    Raises:
        StudyError: a file is not YAML.
    """
    found = {}
    for path in sorted(folder.glob("**/*.yaml")):
        name = _read(path).get("task")
        if isinstance(name, str):
            found[name] = path
    return found


def task_digest(path: Path) -> str:
    """Digest of what a task asks: its config, its data, and the code that it names.

    Raises:
        StudyError: a file of data is missing.
        BadFile: one cannot be read, or its columns are not what the task needs.
    """
    config = _read(path)
    data = [Path(one) for one in _texts(_changed(path, config).get("data_files"))]
    for one in data:
        _check_data(one, path, config)
    code = sorted(path.parent.glob("*.py")) if "!function" in str(config) else []
    return digest([config, [sha256_file(one) for one in (*data, *code)]])


def _check_data(data: Path, path: Path, config: Mapping[str, Any]) -> None:
    """Read a task's data strictly, before the harness makes texts of whatever there is.

    Raises:
        BadFile: it is not whole, lacks a column that the task's texts are made of, or a row has
            nothing in it or a value of another kind than the other rows.
    """
    check_pointer(data)
    # With anything else than files, the harness takes something other than the table as it stands.
    if data.suffix.lower() not in TABLES or set(config["dataset_kwargs"]) != {"data_files"}:
        return
    rows = read_rows(data)
    if "process_docs" in config:
        return  # The task's own code makes the columns.
    for key in ("doc_to_text", "doc_to_target", "doc_to_choice"):
        for name in _named(config.get(key), rows.columns):
            if name not in rows.columns:
                raise BadFile(
                    f"{data}: has no column `{name}`, which `{key}` of {path} needs; it has "
                    f"{', '.join(rows.columns)}"
                )
            # A condition or a default may be there for what is missing.
            if config[key] == name or re.search(rf"{{{{-?\s*{name}\s*-?}}}}", config[key]):
                _check_column(rows[name].to_list(), name, data, key)


def _named(template: Any, columns: Sequence[str]) -> list[str]:
    """The columns that a task's key names, alone or in a template of Jinja."""
    if not isinstance(template, str) or template.startswith("!function"):
        return []
    if template in columns:
        return [template]
    try:
        return sorted(meta.find_undeclared_variables(_JINJA.parse(template)) - {*_JINJA.globals})
    except TemplateError:
        return []  # The harness says so.


def _check_column(values: Sequence[Any], name: str, data: Path, key: str) -> None:
    first: type | None = None
    for row, value in enumerate(values):
        if value is None or (isinstance(value, str) and not value.strip()):
            raise BadFile(
                f"{place_of(data, row)}: has an empty `{name}`, which `{key}` puts into words. "
                "Fill it, or take the row out."
            )
        kind = float if type(value) is int else type(value)
        first = first or kind
        if kind is not first:
            raise BadFile(
                f"{place_of(data, row)}: its `{name}` is {shown(value)}, and not of the kind of "
                f"the other rows' such as {shown(values[0])}. Make them alike."
            )


def task_changes(path: Path, cache: Path) -> dict[str, Any]:
    """What to change in a task's config: its data is beside its YAML file, and cached in `cache`.

    The harness would look for it where the process runs, and cache it in the user's home.
    """
    config = _read(path)
    if "dataset_path" not in config:
        return {}
    return {"dataset_kwargs": {**_changed(path, config), "cache_dir": str(cache)}}


def _changed(path: Path, config: dict[str, Any]) -> dict[str, Any]:
    """A task's `dataset_kwargs` with its files of data as seen from here."""
    given = dict(config.get("dataset_kwargs") or {})
    if "data_files" in given:
        given["data_files"] = _each(given["data_files"], lambda text: _found(path, text))
    return given


def _found(path: Path, text: str) -> str:
    places = [path.parent / text, Path(text)]
    for place in places:
        if place.is_file():
            return str(place)
    raise StudyError(
        f"{path}: its data `{text}` is neither beside it nor in {Path.cwd()}. Put it there"
    )


def _each(value: Any, change: Callable[[str], str]) -> Any:
    """`data_files` is a text, a list of them, or either by split."""
    if isinstance(value, dict):
        return {name: _each(one, change) for name, one in value.items()}
    return [change(one) for one in value] if isinstance(value, list) else change(value)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        value = list(value.values())
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, str):
            yield one
        elif one is not None:
            yield from _texts(one)


def _read(path: Path) -> dict[str, Any]:
    """A task's config with those that it includes."""
    try:
        config = read_yaml(path, _TaskLoader)
    except BadFile as error:
        raise StudyError(f"{error} (A task must be in YAML.)") from error
    if not isinstance(config, dict):
        raise StudyError(f"{path}: should hold keys and values, such as `task: my_task`")
    bases = config.pop("include", [])
    merged: dict[str, Any] = {}
    for base in bases if isinstance(bases, list) else [bases]:
        merged |= _read(path.parent / base)
    return merged | config
