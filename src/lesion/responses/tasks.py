"""Tasks of the lm-evaluation-harness as their YAML files have them, a study's own and lm-eval's.

Read without lm-eval, because every plan looks whether its own have changed.
"""

import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, TemplateError, meta

from lesion.io.formats import BadFile, LesionError, digest, sha256_file
from lesion.io.texts import StrictLoader, check_pointer, is_blank, read_yaml
from lesion.pairs.rows import TABLES, place_of, read_rows, shown
from lesion.study import StudyError
from lesion.study.types import nearest

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
        if value is None or (isinstance(value, str) and is_blank(value)):
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


class Found(NamedTuple):
    """A task that there is; of a group or a tag, `config` is None: it stands for several."""

    name: str
    config: dict[str, Any] | None


def find_task(name: str, folder: Path) -> Found:
    """The task, group or tag of a name, in the study's folder or among lm-eval's own.

    lm-eval reads all of its 14,000 files for that, which takes ten seconds. Here they are looked
    through for the name, and lm-eval is asked only if that leaves it open.

    Args:
        name: as `utility.tasks` has it.
        folder: with the study's own tasks.

    Raises:
        LesionError: nothing has such a name.
    """
    mentioned = False
    for path in chain(_files(folder, name), _files(_harness_folder(), name)):
        mentioned = True
        try:
            config = _read(path)
        except StudyError:
            if folder in path.parents and path.suffix == ".yaml":
                raise
            continue
        tags = config.get("tag") or []
        if name in ([tags] if isinstance(tags, str) else tags) or config.get("group") == name:
            return Found(name, None)
        if config.get("task") == name:
            return Found(name, config)
    if not mentioned:
        raise unknown_task(name, folder, {*_names(folder), *_names(_harness_folder())})
    return _indexed(name, folder)


def _texts_below(folder: Path) -> list[Path]:
    """YAML files, and what they include: that may hold a tag, and have a name without an ending."""
    return sorted(
        path
        for path in folder.glob("**/*")
        if (path.suffix in ("", ".yaml") or "yaml" in path.name)
        and path.is_file()
        and path.stat().st_size < _LONGEST
    )


_LONGEST = 2**20
"""Bytes: what is longer is no task's config, but data without an ending to its name."""


def _names(root: Path) -> Iterator[str]:
    """What files declare, by their text."""
    for path in _texts_below(root):
        for found in _DECLARED.findall(path.read_text(encoding="utf-8", errors="replace")):
            yield found.strip("\"'")


_DECLARED = re.compile(r"(?m)^(?:task|group|tag): *(\S+) *$")


def _harness_folder() -> Path:
    """Where lm-eval's tasks lie; found without importing it."""
    spec = find_spec("lm_eval")
    places = spec.submodule_search_locations if spec else None
    return Path(next(iter(places))) / "tasks" if places else Path("no-lm-eval")


def _files(root: Path, name: str) -> Iterator[Path]:
    """YAML files that hold the name, those first where it most likely is."""
    parts = name.split("_")
    likely = ["_".join(parts[:count]) for count in range(len(parts), 0, -1)]
    alone = re.compile(rb"(?<!\w)" + re.escape(name.encode()) + rb"(?!\w)")
    seen: set[Path] = set()
    for place in (*(root / one for one in likely if "/" not in one), root):
        for path in _texts_below(place):
            if path not in seen and alone.search(path.read_bytes()):
                yield path
            seen.add(path)


def _indexed(name: str, folder: Path) -> Found:
    """What lm-eval itself knows by a name that some file mentions, whatever it means by it."""
    from lm_eval.tasks import TaskManager

    # It warns of whatever it skips in its own files.
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    manager = TaskManager(include_path=str(folder))
    if name not in manager.task_index:
        raise unknown_task(name, folder, manager.all_tasks)
    entry = manager.task_index[name]
    return Found(name, entry.cfg if entry.kind.name == "TASK" else None)


def unknown_task(name: str, folder: Path | str, known: Iterable[str]) -> LesionError:
    """That there is no such task, with the one that was probably meant."""
    close = nearest(name, list(known))
    # All that there are would be 14,000.
    meant = close if "Did you mean" in close else ". `lm-eval ls tasks` lists lm-eval's own"
    return StudyError(f"`utility.tasks`: neither lm-eval nor {folder} has a task `{name}`{meant}")


def check_safe(name: str, unsafe: bool) -> None:
    """Refuse a task that runs what the model writes.

    Raises:
        LesionError: it does.
    """
    if unsafe:
        raise LesionError(
            f"`utility.tasks`: `{name}` runs code that the model writes, which no study does. Take "
            "it out"
        )


def no_item_metric(name: str) -> LesionError:
    """That a task measures nothing item by item."""
    return LesionError(
        f"`utility.tasks`: `{name}` has no metric of a single item, only of all together. Take it "
        "out"
    )


def no_template(model: str) -> LesionError:
    """That tasks are to be put in a chat template that there is not."""
    return StudyError(
        f"`utility.chat`: {model} has no chat template to put the tasks in. Set `utility.chat: "
        "false`, or give a model that has one"
    )


_OF_ALL = {
    *("f1", "mcc", "bleu", "chrf", "chrf++", "ter", "brier_score"),
    *("word_perplexity", "byte_perplexity", "bits_per_byte"),
}
"""lm-eval's metrics whose value of an item is no number, only material for that of all."""


def check_task(found: Found) -> None:
    """Look at what a task's config says of it.

    Raises:
        LesionError: it runs code that the model writes, or measures nothing item by item.
    """
    config = found.config or {}
    check_safe(found.name, bool(config.get("unsafe_code")))
    metrics = [one.get("metric") for one in config.get("metric_list") or []]
    # A function of the task's own may give an item other metrics.
    if metrics and "process_results" not in config and _OF_ALL.issuperset(map(str, metrics)):
        raise no_item_metric(found.name)


def hub_data(found: Found) -> str | None:
    """The hub's data set that a task's items are in; None if it is of files, or not known."""
    config = found.config or {}
    name = config.get("dataset_path")
    if not isinstance(name, str) or Path(name).exists() or name in _BUILDERS:
        return None
    return name


_BUILDERS = {"arrow", "csv", "json", "parquet", "text", "webdataset", "xml"}
"""What `datasets` makes of files, by the name that stands in a data set's place."""


def is_cached(dataset: str) -> bool:
    """Whether the hub's data set seems to be on this machine, where `datasets` looks for it."""
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface")).expanduser()
    made = Path(os.environ.get("HF_DATASETS_CACHE", home / "datasets")).expanduser()
    hub = Path(os.environ.get("HF_HUB_CACHE", home / "hub")).expanduser()
    # An old name without an owner may be kept under that of its owner.
    owner, _, name = dataset.lower().rpartition("/")
    return any(
        found == f"{start}{owner}{between}{name}"
        or (not owner and found.endswith(f"{between}{name}"))
        for folder, start, between in ((made, "", "___"), (hub, "datasets--", "--"))
        for found in _lower_names(folder)
    ) or (not owner and name in _lower_names(made))


def _lower_names(folder: Path) -> set[str]:
    return {path.name.lower() for path in folder.iterdir()} if folder.is_dir() else set()


def offline() -> str | None:
    """The environment variable that forbids looking at the hub, if one does."""
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
        if os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE"):
            return name
    return None
