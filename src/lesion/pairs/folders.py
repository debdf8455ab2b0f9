"""Choosing the files of a data set's folder that make up its table, by their names and the README.

A file is a part of another only if its name says so: two files with the same columns may have
opposite contents.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
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


def table_files(folder: Path, kinds: Collection[str]) -> list[Path]:
    """The files of a folder's table, in order: those of its `train` split, or of its only split.

    If the README has `configs`, the only or the default one decides. Otherwise there must be a
    single table: one file for each split, or numbered parts of it.

    Args:
        folder: the data set.
        kinds: the suffixes of files with tables.

    Raises:
        BadFile: there is no table, there are several, none of several splits is `train`, or a part
            is missing.
    """
    visible = [path for path in sorted(folder.rglob("*")) if not _is_hidden(path, folder)]
    for path in visible:
        # Otherwise another split, or only some of the parts, would be read as the table.
        if path.is_symlink() and not path.exists() and path.suffix.lower() in kinds:
            raise BadFile(
                f"{path}: is a link to {path.readlink()}, and there is nothing. Copy the file "
                "itself (`cp -rL`), or fetch it again."
            )
    visible = [path for path in visible if path.is_file()]
    files = [path for path in visible if path.suffix.lower() in kinds and path.name not in _ABOUT]
    if not files:
        raise BadFile(
            f"{folder}: holds no table that can be read ({', '.join(sorted(kinds))}); it holds "
            f"{_listed(folder, visible) or 'no file'}"
        )
    configs = _configs(folder, files)
    return _of_config(folder, configs) if configs else _of_names(folder, files)


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
                f"{folder}: parts of it are missing or are there twice: it holds "
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
    inside = path.relative_to(folder).with_suffix("").as_posix()
    found = _SPLIT.findall(inside.lower())
    stem = _SPLIT.sub("<split>", inside.lower())
    split = _WORDS[found[0]] if len({_WORDS[one] for one in found}) == 1 else None
    shard, (above, _, last) = _SHARD.search(stem), stem.rpartition("/")
    numbered = _NUMBERED.match(last)
    part = parts = None
    if shard:
        part, parts, stem = int(shard[1]), int(shard[2]), stem[: shard.start()]
    elif numbered:
        part, stem = int(numbered[3]), f"{above}/{last[: numbered.start(3)]}"
    # With the suffix, since two files that differ only in it may have the same rows.
    return _Named(f"{stem}{path.suffix.lower()}", split, part, parts, path)


def _several(folder: Path, files: Sequence[Path], what: str = "holds several tables") -> BadFile:
    first = files[0].relative_to(folder).as_posix()
    return BadFile(
        f"{folder}: {what}: {_listed(folder, files)}. Name one file in the address, such as "
        f"`file:{folder}/{first}` (of a hub repository, `hf:…@…/{first}`)."
    )


def _listed(folder: Path, files: Sequence[Path]) -> str:
    names = [one.relative_to(folder).as_posix() for one in files]
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


_Config = Mapping[str | None, Sequence[Path]]
"""Files by split; a split without a name is the only split."""


def _configs(folder: Path, files: Sequence[Path]) -> dict[str, tuple[bool, _Config]]:
    """The configurations in the README: whether each is the default, and its files."""
    readme = folder / "README.md"
    if not readme.is_file():
        return {}
    front = re.match(r"---\n(.*?)\n---", read_text(readme), re.DOTALL)
    said = parse_yaml(front[1], readme) if front else None
    given = said.get("configs") if isinstance(said, dict) else None
    found = {}
    for one in given if isinstance(given, list) else []:
        if isinstance(one, dict) and ("data_files" in one or "data_dir" in one):
            name = str(one.get("config_name", "default"))
            config = _config(folder, readme, one, files)
            found[name] = (one.get("default") is True or name == "default", config)
    return found


def _config(folder: Path, readme: Path, said: Mapping[str, Any], files: Sequence[Path]) -> _Config:
    base = folder / str(said.get("data_dir") or ".")
    if not said.get("data_files"):
        inside = [one for one in files if one.is_relative_to(base)]
        return {None: _of_names(folder, inside)} if inside else {None: []}
    found: dict[str | None, list[Path]] = {}
    for split, pattern in _patterns(said["data_files"]):
        try:
            # Never outside the folder, regardless of the README.
            matched = sorted(one for one in base.glob(pattern) if one in files)
        except (ValueError, NotImplementedError):
            matched = []
        if not matched:
            raise BadFile(f"{readme}: its `configs` name {pattern}, and no such table is there")
        found.setdefault(split, []).extend(one for one in matched)
    return found


def _patterns(said: Any, split: str | None = None) -> Iterator[tuple[str | None, str]]:
    """Split and pattern; `data_files` is a text, texts, splits with `path`, or texts by split."""
    if isinstance(said, dict):
        pairs = [(said.get("split"), said["path"])] if "path" in said else list(said.items())
        for name, one in pairs:
            yield from _patterns(one, None if name is None else str(name))
    elif isinstance(said, list):
        for one in said:
            yield from _patterns(one, split)
    else:
        yield split, str(said)


def _of_config(folder: Path, configs: Mapping[str, tuple[bool, _Config]]) -> list[Path]:
    defaults = [config for is_default, config in configs.values() if is_default]
    if len(configs) > 1 and len(defaults) != 1:
        files = [path for _, one in configs.values() for part in one.values() for path in part]
        names = ", ".join(configs)
        raise _several(folder, files, f"has the configurations {names}")
    splits = defaults[0] if defaults else next(config for _, config in configs.values())
    files = [path for part in splits.values() for path in part]
    chosen = _chosen_split(folder, files, list(splits))
    if not splits[chosen]:
        raise BadFile(f"{folder}: the `configs` of its README name a folder without a table")
    return list(splits[chosen])
