"""Choosing the files of a data set's folder that make up its table, by their names and the README.

A file is a part of another only if its name says so: two files with the same columns may have
opposite contents.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from lesion.io.formats import BadFile
from lesion.io.texts import parse_yaml, read_text

_SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_WORDS = {word: split for split, words in _SPLITS.items() for word in words}
_SPLIT = re.compile(rf"(?<![a-z])({'|'.join(_WORDS)})(?![a-z])")
_SHARD = re.compile(r"[-_](\d{5})-of-(\d{5})(-[0-9a-f]{16})?$")
_NUMBERED = re.compile(r"^(<split>)?[-_. ]*(part|shard|chunk|data)?[-_. ]*(\d+)$")
_ABOUT = {
    *("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"),
    *("croissant.json",),
}
"""Files that only describe a data set."""
_LISTED = 8


class _Named(NamedTuple):
    """The meaning of a file's name: its table, its split, and its number among how many parts."""

    table: str
    split: str | None
    part: int | None
    parts: int | None
    path: Path


def table_files(folder: Path, kinds: Collection[str], unread: Collection[str]) -> list[Path]:
    """The files of a folder's table, in order: those of its `train` split, or of its only split.

    If the README has `configs`, the only or the default one decides. Otherwise there must be a
    single table: one file for each split, or numbered parts of it.

    Args:
        folder: the data set.
        kinds: the suffixes of files with tables that can be read.
        unread: those of files that hold tables too, and that their reader refuses.

    Raises:
        BadFile: there is no table, there are several, none of several splits is `train`, or a part
            is missing.
    """
    tables = {*kinds, *unread}
    visible = [path for path in sorted(folder.rglob("*")) if not _is_hidden(path, folder)]
    for path in visible:
        # Otherwise another split, or only some of the parts, would be read as the table.
        if path.is_symlink() and not path.exists() and path.suffix.lower() in tables:
            raise BadFile(
                f"{path}: is a link to {path.readlink()}, which does not exist. Copy the file "
                "itself (`cp -rL`), or fetch it again."
            )
    visible = [path for path in visible if path.is_file()]
    files = [path for path in visible if path.suffix.lower() in tables and path.name not in _ABOUT]
    if not files:
        raise BadFile(
            f"{folder}: holds no table that can be read ({', '.join(sorted(kinds))}); it holds "
            f"{_listed(folder, visible) or 'no file'}"
        )
    return _of_readme(folder, files) or _of_names(folder, files)


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith((".", "__", "~$")) for part in path.relative_to(folder).parts)


def _of_names(folder: Path, files: Sequence[Path]) -> list[Path]:
    """The files of the table by their names, in order."""
    named = [_named(path, folder) for path in files]
    splits = {file.split for file in named}
    if len({file.table for file in named}) > 1 or (None in splits and len(splits) > 1):
        raise _several(folder, files)
    chosen = _chosen_split(folder, files, sorted(splits, key=str))
    parts = [file for file in named if file.split == chosen]
    numbers = sorted(file.part for file in parts if file.part is not None)
    declared = {file.parts for file in parts}
    if len(numbers) == len(parts) and declared != {None}:
        count = declared.pop()
        if declared or count is None or numbers != list(range(count)):
            raise BadFile(
                f"{folder}: some of its parts are missing or duplicated: it holds "
                f"{_listed(folder, [file.path for file in parts])}. Fetch it again."
            )
    elif len(parts) > 1:
        from_zero = list(range(len(parts)))
        if numbers not in (from_zero, [number + 1 for number in from_zero]):
            raise _several(folder, files)
    return [file.path for file in sorted(parts, key=lambda file: file.part or 0)]


def _chosen_split(folder: Path, files: Sequence[Path], splits: Sequence[str | None]) -> str | None:
    """The split `train`, or the only one."""
    if len(splits) > 1 and "train" not in splits:
        names = ", ".join(map(str, splits))
        raise _several(folder, files, f"has the splits {names}, and none is `train`")
    return "train" if "train" in splits else splits[0]


def _named(path: Path, folder: Path) -> _Named:
    inside = path.relative_to(folder).with_suffix("").as_posix().lower()
    words = {_WORDS[word] for word in _SPLIT.findall(inside)}
    stem = _SPLIT.sub("<split>", inside)
    shard, (parent, _, last) = _SHARD.search(stem), stem.rpartition("/")
    numbered = _NUMBERED.match(last)
    part = parts = None
    if shard:
        part, parts, stem = int(shard[1]), int(shard[2]), stem[: shard.start()]
    elif numbered:
        part, stem = int(numbered[3]), f"{parent}/{last[: numbered.start(3)]}"
    split = words.pop() if len(words) == 1 else None
    # With the suffix, since two files that differ only in it may have the same rows.
    return _Named(f"{stem}{path.suffix.lower()}", split, part, parts, path)


def _several(folder: Path, files: Sequence[Path], what: str = "holds several tables") -> BadFile:
    first = files[0].relative_to(folder).as_posix()
    return BadFile(
        f"{folder}: {what}: {_listed(folder, files)}. Name one file in the address, such as "
        f"`file:{folder}/{first}` (of a hub repository, `hf:…@…/{first}`)."
    )


def _listed(folder: Path, files: Sequence[Path]) -> str:
    names = [path.relative_to(folder).as_posix() for path in files]
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def _of_readme(folder: Path, files: Sequence[Path]) -> list[Path] | None:
    """The files that `configs` in the README name; None if it has none."""
    readme = folder / "README.md"
    if not readme.is_file():
        return None
    front = re.match(r"---\n(.*?)\n---", read_text(readme), re.DOTALL)
    content = parse_yaml(front[1], readme) if front else None
    entries = content.get("configs") if isinstance(content, dict) else None
    configs = {
        str(config.get("config_name", "default")): config
        for config in (entries if isinstance(entries, list) else [])
        if isinstance(config, dict) and ("data_files" in config or "data_dir" in config)
    }
    if not configs:
        return None
    splits_of = {name: _splits(folder, readme, config, files) for name, config in configs.items()}
    defaults = [
        name
        for name, config in configs.items()
        if config.get("default") is True or name == "default"
    ]
    if len(configs) > 1 and len(defaults) != 1:
        every = [path for splits in splits_of.values() for part in splits.values() for path in part]
        raise _several(folder, every or files, f"has the configurations {', '.join(configs)}")
    splits = splits_of[defaults[0] if defaults else next(iter(configs))]
    chosen = _chosen_split(
        folder, [path for part in splits.values() for path in part], list(splits)
    )
    if not splits[chosen]:
        raise BadFile(f"{folder}: the `configs` of its README name a folder without a table")
    return splits[chosen]


def _splits(
    folder: Path, readme: Path, config: Mapping[str, Any], files: Sequence[Path]
) -> dict[str | None, list[Path]]:
    """The files of a configuration by split; a split without a name is the only one."""
    base = folder / str(config.get("data_dir") or ".")
    if not config.get("data_files"):
        inside = [path for path in files if path.is_relative_to(base)]
        return {None: _of_names(folder, inside) if inside else []}
    splits: dict[str | None, list[Path]] = {}
    for split, pattern in _patterns(config["data_files"]):
        matched: list[Path] = []
        with suppress(ValueError, NotImplementedError):
            # Never outside the folder, regardless of the README.
            matched = sorted(path for path in base.glob(pattern) if path in files)
        if not matched:
            raise BadFile(f"{readme}: its `configs` name files `{pattern}`, which match no table")
        splits.setdefault(split, []).extend(matched)
    return splits


def _patterns(entry: Any, split: str | None = None) -> Iterator[tuple[str | None, str]]:
    """Split and pattern; `data_files` is a text, texts, splits with `path`, or texts by split."""
    if isinstance(entry, dict):
        pairs = [(entry.get("split"), entry["path"])] if "path" in entry else list(entry.items())
        for name, part in pairs:
            yield from _patterns(part, None if name is None else str(name))
    elif isinstance(entry, list):
        for part in entry:
            yield from _patterns(part, split)
    else:
        yield split, str(entry)
