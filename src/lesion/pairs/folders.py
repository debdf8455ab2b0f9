"""Choosing the files of a data set's folder that make up its table, by their names and the README.

A file is a part of another only if its name says so: two files with the same columns may have
opposite contents.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lesion.io.addresses import local_files
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
    _check_links(folder, kinds)
    files = [one for one in _visible(folder) if _kind(one) in kinds and one.name not in _ABOUT]
    if not files:
        raise BadFile(
            f"{folder}: holds no table that can be read ({', '.join(sorted(kinds))}); it holds "
            f"{_listed(folder, _visible(folder)) or 'no file'}"
        )
    configs = _configs(folder, files)
    if configs:
        return _of_config(folder, configs)
    return _of_names(folder, files)


def _check_links(folder: Path, kinds: Collection[str]) -> None:
    """Refuse a broken link to a table, as from a hub's cache whose `blobs` were not copied.

    Otherwise another split, or only some of the parts, would be read as the table.
    """
    for path in sorted(folder.rglob("*")):
        broken = path.is_symlink() and not path.exists()
        if broken and _kind(path) in kinds and _is_visible(path, folder):
            raise BadFile(
                f"{path}: is a link to {path.readlink()}, and there is nothing. Copy the file "
                "itself (`cp -rL`), or fetch it again."
            )


def _visible(folder: Path) -> list[Path]:
    return [path for path in local_files(folder) if _is_visible(path, folder)]


def _is_visible(path: Path, folder: Path) -> bool:
    inside = path.relative_to(folder).parts
    return not any(part.startswith((".", "__", "~$")) for part in inside)


def _kind(path: Path) -> str:
    return path.suffix.lower()


def _of_names(folder: Path, files: Sequence[Path]) -> list[Path]:
    named = [_named(path, folder) for path in files]
    if len({one.table for one in named}) > 1:
        raise _several(folder, files)
    splits = {one.split for one in named}
    if None in splits and len(splits) > 1:
        raise _several(folder, files)
    chosen = "train" if "train" in splits else next(iter(splits))
    if len(splits) > 1 and chosen != "train":
        names = ", ".join(sorted(str(one) for one in splits))
        raise _several(folder, files, f"has the splits {names}, and none is `train`")
    parts = [one for one in named if one.split == chosen]
    _check_parts(folder, files, parts)
    return [one.path for one in sorted(parts, key=lambda one: one.part or 0)]


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
    return _Named(f"{stem}{_kind(path)}", split, part, parts, path)


def _check_parts(folder: Path, files: Sequence[Path], parts: Sequence[_Named]) -> None:
    numbers = sorted(one.part for one in parts if one.part is not None)
    declared = {one.parts for one in parts}
    if len(numbers) == len(parts) and declared != {None}:
        (whole,) = declared if len(declared) == 1 else (None,)
        if whole is None or numbers != list(range(whole)):
            raise BadFile(
                f"{folder}: parts of it are missing or are there twice: it holds "
                f"{_listed(folder, [one.path for one in parts])}. Fetch it again."
            )
    elif len(parts) > 1 and numbers not in (
        list(range(len(parts))),
        list(range(1, len(parts) + 1)),
    ):
        raise _several(folder, files)


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
    chosen = "train" if "train" in splits else next(iter(splits))
    files = [path for part in splits.values() for path in part]
    if len(splits) > 1 and chosen != "train":
        names = ", ".join(map(str, splits))
        raise _several(folder, files, f"has the splits {names}, and none is `train`")
    if not splits[chosen]:
        raise BadFile(f"{folder}: the `configs` of its README name a folder without a table")
    return list(splits[chosen])
