"""Loading of YAML configs: the result is a `Study`, or one error that names every wrong key."""

import datetime
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from lesion.io.formats import BadFile
from lesion.io.texts import read_yaml
from lesion.study.checks import check_consistent
from lesion.study.config import Study
from lesion.study.presets import laid_over, with_preset
from lesion.study.renamed import with_new_names
from lesion.study.training import of_seed
from lesion.study.types import Section, StudyError, as_name, nearest, section_of


def read_config(path: Path) -> dict[str, Any]:
    """Read a YAML config, refusing duplicate keys.

    Raises:
        StudyError: the file is missing, is not YAML, or gives a key twice.
    """
    if not path.exists():
        raise StudyError(f"{path}: there is no such config file.")
    if path.is_dir():
        raise StudyError(f"{path}: is a folder; give a config file.")
    try:
        value = read_yaml(path)
    except BadFile as error:
        raise StudyError(_printable(str(error))) from error
    if not isinstance(value, dict):
        raise StudyError(f"{path}: should hold keys and values, such as `study: default`.")
    return with_new_names(value)


def read_configs(paths: Sequence[Path], over: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Read and merge YAML configs, as Snakemake merges several `--configfile`s.

    Later files override earlier ones. Sections are merged key by key; lists and values are
    replaced. A study without a name has that of its last file.

    `over` overrides all files, as `--config` does.

    Raises:
        StudyError: see `read_config`.
    """
    merged: dict[str, Any] = {}
    for path in paths:
        merged = laid_over(merged, read_config(path))
    named = {"study": as_name(paths[-1].stem) or "study"} if paths else {}
    return {**named, **laid_over(merged, with_new_names(over or {}))}


def load_study(config: Mapping[str, Any], name: str = "config.yaml") -> Study:
    """Validate a config, laid over its preset.

    Raises:
        StudyError: one message that names every wrong key and its fix.
    """
    try:
        study = Study.model_validate(_by_seed(with_preset(with_new_names(config))))
        check_consistent(study)
    except ValueError as error:
        details = error.errors() if isinstance(error, ValidationError) else []
        lines = [_message(detail) for detail in details] or [f"  {error}"]
        lines += _of_another_study(details, name)
        text = "\n".join([f"{name}: the study can't run:", *lines])
        raise StudyError(_printable(text)) from error
    return study


def _by_seed(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Replace a model of several seeds by one model for each, also in `training_stages`."""
    models, stages = config.get("models"), config.get("training_stages")
    if not isinstance(models, dict):
        return config
    several = {name: seeds for name, model in models.items() if len(seeds := _seeds(model)) > 1}
    expanded: dict[str, Any] = {}
    for name, model in models.items():
        if name not in several:
            expanded[name] = model
            continue
        for seed in several[name]:
            seeded, base = of_seed(name, seed), str(model.get("base"))
            if seeded in models:
                raise StudyError(
                    f"`models.{seeded}`: this name is taken by a seed of `models.{name}`; rename "
                    "one of the two"
                )
            expanded[seeded] = {**model, "train": {**model["train"], "seeds": [seed]}}
            if seed in several.get(base, []):
                expanded[seeded]["base"] = of_seed(base, seed)
    if not isinstance(stages, dict):
        return {**config, "models": expanded}

    def of_seeds(name: Any) -> Any:
        seeds = several.get(name, []) if isinstance(name, str) else []
        return [of_seed(name, seed) for seed in seeds] or name

    expanded_stages = {
        family: list(map(of_seeds, stage)) if isinstance(stage, list) else stage
        for family, stage in stages.items()
    }
    return {**config, "models": expanded, "training_stages": expanded_stages}


def _seeds(model: Any) -> list[int]:
    train = model.get("train") if isinstance(model, dict) else None
    seeds = train.get("seeds") if isinstance(train, dict) else None
    if not isinstance(seeds, list) or not all(isinstance(seed, int) for seed in seeds):
        return []
    return sorted(set(seeds))


def _printable(text: str) -> str:
    """Escape control characters, so that text of a config cannot control the terminal."""
    return "".join(
        char if char.isprintable() or char == "\n" else char.encode("unicode_escape").decode()
        for char in text
    )


_NO_TEXTS = (bool, int, float, datetime.date)
"""Types that YAML gives to unquoted words such as `no`, `1` and `2024-01-01`."""


def _message(detail: ErrorDetails) -> str:
    # pydantic adds union and validator tags to the location; users know only the keys.
    key = ".".join(str(part) for part in detail["loc"] if not str(part).endswith("]"))
    if detail["type"] == "extra_forbidden":
        return f"  `{key}`: unknown key{nearest(str(detail['loc'][-1]), _fields(detail['loc']))}"
    if detail["type"] == "missing":
        return f"  `{key}`: is missing; add it."
    if detail["type"] in _NO_SECTION:
        return _no_section(detail)
    text = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "string_type" and isinstance(detail["input"], _NO_TEXTS):
        text = "YAML does not read this value as text; put it in quotes"
    shown = "" if isinstance(detail["input"], (dict, Section)) else f" (found {detail['input']!r})"
    return f"  `{key}`: {text}{shown}" if key else f"  {text}"


_NO_SECTION = ("model_type", "model_attributes_type", "dict_type")
"""pydantic's types of errors about something else where a section belongs."""
_EXAMPLES = {
    "models": '{source: "hf:org/name@main"}',
    "behaviours": '{role: harm, source: "file:my/prompts.jsonl"}',
}


def _no_section(detail: ErrorDetails) -> str:
    """The message about a key that has no value, or one where a section of keys belongs."""
    # Where a section is one of several kinds of values, pydantic adds its class.
    tag = detail.get("ctx", {}).get("class_name")
    keys = [part for part in detail["loc"] if part != tag and not str(part).endswith("]")]
    known = _EXAMPLES.get(str(keys[0])) if len(keys) <= 2 else None
    example = known or "{key: value}"
    if known and len(keys) == 1:
        example = f"{{name: {known}}}"
    if isinstance(keys[-1], str):
        example = f"{keys[-1]}: {example}"
    start, given = f"  `{'.'.join(map(str, keys))}`:", detail["input"]
    if given is None:
        remedy = "give it keys" if known else "remove it, or give it keys"
        return f"{start} is empty; {remedy}, such as `{example}`"
    return (
        f"{start} must be a section of keys (a dictionary), such as `{example}` (found {given!r})"
    )


def _of_another_study(details: Sequence[ErrorDetails], name: str) -> list[str]:
    """A line about a study that lacks what a study below it may have, if `name` is one file."""
    lacking = [detail["loc"] for detail in details if detail["type"] == "missing"]
    typical = any(
        at == ("models",) or (at[0] == "behaviours" and at[-1] == "role") for at in lacking
    )
    file = Path(name)
    if not typical or ", " in name or file.suffix not in (".yaml", ".yml") or file.stem == "config":
        return []
    command = f"lesion check config.yaml {shlex.quote(name)}"
    return [f"  If it is laid over another study, give that one first: `{command}`."]


def _fields(location: Sequence[int | str]) -> list[str]:
    """The valid keys of the section in which an unknown key was given."""
    section: type[BaseModel] = Study
    parts = iter(location[:-1])
    for part in parts:
        annotation = section.model_fields[str(part)].annotation
        section = section_of(annotation) or section
        if get_origin(annotation) in (dict, list):
            next(parts, None)  # the name or number of one of several sections
    return list(section.model_fields)
