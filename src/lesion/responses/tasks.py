"""Tasks of the lm-evaluation-harness, read from YAML files: a study's own tasks and lm-eval's.

This module does not import lm-eval, because every plan checks whether the study's tasks have
changed.
"""

import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, TemplateError, meta

from lesion.io.formats import BadFile, LesionError, digest, sha256_file
from lesion.io.texts import StrictLoader, check_pointer, is_blank, read_yaml
from lesion.pairs.rows import TABLES, location_of, read_rows, shown
from lesion.study import StudyError
from lesion.study.types import nearest

_JINJA = Environment(autoescape=True)
"""Used to parse templates, never to render them."""


class _TaskLoader(StrictLoader):
    """Reads the harness's tag `!function module.name` as text."""


_TaskLoader.add_constructor("!function", lambda loader, node: f"!function {node.value}")


def local_tasks(folder: Path) -> dict[str, Path]:
    """Tasks of a folder by name, and the YAML file of each; none if there is no such folder.

    Raises:
        StudyError: a file is not YAML.
    """
    tasks = {}
    for path in sorted(folder.glob("**/*.yaml")):
        name = _read(path).get("task")
        if isinstance(name, str):
            tasks[name] = path
    return tasks


def task_digest(path: Path) -> str:
    """Digest of a task: its config, its data, and the code that it names.

    Raises:
        StudyError: a data file is missing.
        BadFile: a data file cannot be read, or lacks columns that the task needs.
    """
    config = _read(path)
    _, data = _data_files(path, config)
    for file in data:
        _check_data(file, path, config)
    code = sorted(path.parent.glob("*.py")) if "!function" in str(config) else []
    return digest([config, [sha256_file(file) for file in (*data, *code)]])


def _check_data(data: Path, path: Path, config: Mapping[str, Any]) -> None:
    """Check a task's data, because the harness converts any value to text without an error.

    Raises:
        BadFile: the file is incomplete, lacks a column that the task's texts are made of, or a row
            has an empty value or one of another type than the other rows.
    """
    check_pointer(data)
    # With other arguments than files, the harness does not read the table as it is.
    if data.suffix.lower() not in TABLES or set(config["dataset_kwargs"]) != {"data_files"}:
        return
    rows = read_rows(data)
    if "process_docs" in config:
        return  # The task's own code defines the columns.
    for key in ("doc_to_text", "doc_to_target", "doc_to_choice"):
        for name in _named(config.get(key), rows.columns):
            if name not in rows.columns:
                raise BadFile(
                    f"{data}: has no column `{name}`, which `{key}` of {path} needs; it has "
                    f"{', '.join(rows.columns)}"
                )
            # Elsewhere in a template, a condition or a default may handle a missing value.
            if config[key] == name or re.search(rf"{{{{-?\s*{name}\s*-?}}}}", config[key]):
                _check_column(rows[name].to_list(), name, data, key)


def _named(template: Any, columns: Sequence[str]) -> list[str]:
    """The columns that a task's key names, either alone or in a Jinja template."""
    if not isinstance(template, str) or template.startswith("!function"):
        return []
    if template in columns:
        return [template]
    try:
        return sorted(meta.find_undeclared_variables(_JINJA.parse(template)) - {*_JINJA.globals})
    except TemplateError:
        return []  # The harness reports the error.


def _check_column(values: Sequence[Any], name: str, data: Path, key: str) -> None:
    kinds = [float if type(value) is int else type(value) for value in values]
    for row, value in enumerate(values):
        if value is None or (isinstance(value, str) and is_blank(value)):
            raise BadFile(
                f"{location_of(data, row)}: has an empty `{name}`, which `{key}` inserts into a "
                "text. Fill it in, or remove the row."
            )
        if kinds[row] is not kinds[0]:
            raise BadFile(
                f"{location_of(data, row)}: its `{name}` is {shown(value)}, which is not of the "
                f"type of the other rows, such as {shown(values[0])}. Give all rows the same type."
            )


def task_changes(path: Path, cache: Path) -> dict[str, Any]:
    """Changes to a task's config: data is read from the YAML file's folder and cached in `cache`.

    The harness would read it from the working directory, and cache it in the user's home.
    """
    config = _read(path)
    if "dataset_path" not in config:
        return {}
    arguments, _ = _data_files(path, config)
    return {"dataset_kwargs": {**arguments, "cache_dir": str(cache)}}


def _data_files(path: Path, config: Mapping[str, Any]) -> tuple[dict[str, Any], list[Path]]:
    """A task's `dataset_kwargs` with its data files where they are, and the list of these files.

    Raises:
        StudyError: a data file is missing.
    """
    arguments = dict(config.get("dataset_kwargs") or {})
    files: list[Path] = []

    def located(value: Any) -> Any:
        """`data_files`: a file's name, a list of names, or either by split."""
        if isinstance(value, dict):
            return {split: located(part) for split, part in value.items()}
        if isinstance(value, list):
            return [located(part) for part in value]
        file = next(filter(Path.is_file, (path.parent / value, Path(value))), None)
        if file is None:
            raise StudyError(
                f"{path}: its data `{value}` is neither in the same folder nor in {Path.cwd()}. "
                "Put it into one of these"
            )
        files.append(file)
        return str(file)

    if "data_files" in arguments:
        arguments["data_files"] = located(arguments["data_files"])
    return arguments, files


def _read(path: Path) -> dict[str, Any]:
    """A task's config, merged with the configs that it includes."""
    try:
        config = read_yaml(path, _TaskLoader)
    except BadFile as error:
        raise StudyError(f"{error} (A task must be in YAML.)") from error
    if not isinstance(config, dict):
        raise StudyError(f"{path}: should have keys and values, such as `task: my_task`")
    bases = config.pop("include", [])
    merged: dict[str, Any] = {}
    for base in bases if isinstance(bases, list) else [bases]:
        merged |= _read(path.parent / base)
    return merged | config


class KnownTask(NamedTuple):
    """A known task; `config` is None for a group or a tag, which names several tasks."""

    name: str
    config: dict[str, Any] | None


def find_task(name: str, folder: Path) -> KnownTask:
    """Find the task, group or tag of a name, in the study's folder or among lm-eval's own.

    lm-eval parses all of its 14,000 files for that, which takes ten seconds. Here the files are
    searched for the name, and lm-eval is used only if the search is inconclusive.

    Raises:
        LesionError: the name is unknown.
    """
    roots = (folder, _harness_folder())
    mentioned = False
    for path in chain.from_iterable(_files(root, name) for root in roots):
        mentioned = True
        try:
            config = _read(path)
        except StudyError:
            if folder in path.parents and path.suffix == ".yaml":
                raise
            continue
        tags = config.get("tag") or []
        if name in ([tags] if isinstance(tags, str) else tags) or config.get("group") == name:
            return KnownTask(name, None)
        if config.get("task") == name:
            return KnownTask(name, config)
    if not mentioned:
        files = chain.from_iterable(map(_texts_below, roots))
        texts = (path.read_text(encoding="utf-8", errors="replace") for path in files)
        declared = chain.from_iterable(map(_DECLARED.findall, texts))
        raise unknown_task(name, folder, {text.strip("\"'") for text in declared})
    from lm_eval.tasks import TaskManager

    # lm-eval logs warnings about files of its own that it skips.
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    manager = TaskManager(include_path=str(folder))
    if name not in manager.task_index:
        raise unknown_task(name, folder, manager.all_tasks)
    entry = manager.task_index[name]
    return KnownTask(name, entry.cfg if entry.kind.name == "TASK" else None)


_LONGEST = 2**20
"""Size in bytes; longer files are not configs but data without a suffix."""
_DECLARED = re.compile(r"(?m)^(?:task|group|tag): *(\S+) *$")


def _texts_below(folder: Path) -> list[Path]:
    """YAML files and the files that they include, which may have no suffix and may define tags."""
    return sorted(
        path
        for path in folder.glob("**/*")
        if (path.suffix in ("", ".yaml") or "yaml" in path.name)
        and path.is_file()
        and path.stat().st_size < _LONGEST
    )


def _harness_folder() -> Path:
    """The folder of lm-eval's tasks, found without importing it."""
    spec = find_spec("lm_eval")
    locations = spec.submodule_search_locations if spec else None
    return Path(next(iter(locations))) / "tasks" if locations else Path("no-lm-eval")


def _files(root: Path, name: str) -> Iterator[Path]:
    """YAML files that contain the name, the most likely folders first."""
    parts = name.split("_")
    likely = ["_".join(parts[:count]) for count in range(len(parts), 0, -1)]
    pattern = re.compile(rb"(?<!\w)" + re.escape(name.encode()) + rb"(?!\w)")
    seen: set[Path] = set()
    for folder in (*(root / part for part in likely if "/" not in part), root):
        for path in _texts_below(folder):
            if path not in seen and pattern.search(path.read_bytes()):
                yield path
            seen.add(path)


def unknown_task(name: str, folder: Path | str, known: Iterable[str]) -> LesionError:
    """The error for an unknown task, which names the most similar one."""
    close = nearest(name, list(known))
    # The list of all names would have 14,000 entries.
    hint = close if "Did you mean" in close else ". `lm-eval ls tasks` lists lm-eval's own"
    return StudyError(f"`utility.tasks`: neither lm-eval nor {folder} has a task `{name}`{hint}")


def check_safe(name: str, unsafe: bool) -> None:
    """Refuse a task that runs code that the model writes, with a LesionError."""
    if unsafe:
        raise LesionError(
            f"`utility.tasks`: `{name}` runs code that the model writes, which is not allowed. "
            "Remove it"
        )


def no_item_metric(name: str) -> LesionError:
    """The error for a task without a metric of single items."""
    return LesionError(
        f"`utility.tasks`: `{name}` has no metric of a single item, only of all together. Remove it"
    )


def no_template(model: str) -> LesionError:
    """The error for `utility.chat` with a model that has no chat template."""
    return StudyError(
        f"`utility.chat`: {model} has no chat template for the tasks. Set `utility.chat: false`, "
        "or give a model that has one"
    )


_OF_ALL = {
    *("f1", "mcc", "bleu", "chrf", "chrf++", "ter", "brier_score"),
    *("word_perplexity", "byte_perplexity", "bits_per_byte"),
}
"""lm-eval's metrics that are defined only for all items together, not for a single one."""


def check_task(task: KnownTask) -> None:
    """Check a task's config.

    Raises:
        LesionError: the task runs code that the model writes, or has no metric of single items.
    """
    config = task.config or {}
    check_safe(task.name, bool(config.get("unsafe_code")))
    metrics = [metric.get("metric") for metric in config.get("metric_list") or []]
    # With `process_results`, the task's own code may define other metrics of an item.
    if metrics and "process_results" not in config and _OF_ALL.issuperset(map(str, metrics)):
        raise no_item_metric(task.name)


def hub_data(task: KnownTask) -> str | None:
    """The hub data set of a task's items; None if they are in local files, or if it is unknown."""
    config = task.config or {}
    name = config.get("dataset_path")
    if not isinstance(name, str) or Path(name).exists() or name in _BUILDERS:
        return None
    return name


_BUILDERS = {"arrow", "csv", "json", "parquet", "text", "webdataset", "xml"}
"""Builders of `datasets` that read local files, whose names are given in place of a data set's."""


def is_cached(dataset: str) -> bool:
    """Whether the hub data set seems to be in the cache of `datasets` on this machine."""
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface")).expanduser()
    datasets = Path(os.environ.get("HF_DATASETS_CACHE", home / "datasets")).expanduser()
    hub = Path(os.environ.get("HF_HUB_CACHE", home / "hub")).expanduser()
    owner, _, name = dataset.lower().rpartition("/")
    prepared, fetched = (
        {path.name.lower() for path in folder.glob("*")} for folder in (datasets, hub)
    )
    if owner:
        return f"{owner}___{name}" in prepared or f"datasets--{owner}--{name}" in fetched
    # A data set with an old name, without an owner, may be cached under its owner's name.
    return (
        name in prepared
        or any(folder.endswith(f"___{name}") for folder in prepared)
        or any(folder.endswith(f"--{name}") for folder in fetched)
    )


def offline() -> str | None:
    """The environment variable that turns off access to the hub, if one is set."""
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
        if os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE"):
            return name
    return None
