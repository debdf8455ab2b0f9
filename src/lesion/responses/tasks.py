"""A study's own tasks for the lm-evaluation-harness: YAML files of a folder, and their data.

Read without lm-eval, because every plan looks whether they have changed.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from lesion.formats import digest, sha256_file
from lesion.study import StudyError


class _TaskLoader(yaml.SafeLoader):
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
    """
    config = _read(path)
    data = map(Path, _texts(_changed(path, config).get("data_files")))
    code = sorted(path.parent.glob("*.py")) if "!function" in str(config) else []
    return digest([config, [sha256_file(one) for one in (*data, *code)]])


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
        with path.open(encoding="utf-8") as handle:
            config = yaml.load(handle, _TaskLoader)  # noqa: S506 (a SafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise StudyError(f"{path}: is not a task in YAML: {error}") from error
    if not isinstance(config, dict):
        raise StudyError(f"{path}: should hold keys and values, such as `task: my_task`")
    bases = config.pop("include", [])
    merged: dict[str, Any] = {}
    for base in bases if isinstance(bases, list) else [bases]:
        merged |= _read(path.parent / base)
    return merged | config
