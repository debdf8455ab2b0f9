"""Presets: what a study has beside its own models and harm types, and how much of it is measured.

A preset is a config that the study is laid over. A preset may itself name one.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lesion.io.texts import read_yaml
from lesion.study.types import nearest

NONE, USUAL = "none", "standard"
_FOLDER = Path(__file__).parent / "presets"


def presets() -> dict[str, str]:
    """Every preset's name, with the first line of its file, which says what it is."""
    files = sorted(_FOLDER.glob("*.yaml"))
    return {file.stem: _first_line(file) for file in files}


def with_preset(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config, laid over the preset that it names.

    Raises:
        ValueError: there is no such preset.
    """
    name = config.get("preset", USUAL)
    if name == NONE:
        return dict(config)
    if not isinstance(name, str) or name not in presets():
        known = [*presets(), NONE]
        raise ValueError(f"`preset`: there is no preset `{name}`{nearest(str(name), known)}")
    below = read_yaml(_FOLDER / f"{name}.yaml")
    given = config.get("behaviours")
    own = given if isinstance(given, dict) else {}
    if "behaviours" in below:
        # What the preset leaves out, a study that speaks of it keeps.
        left = {key: value for key, value in below["behaviours"].items() if key not in own or value}
        below = {**below, "behaviours": left}
    lowest = with_preset({"preset": NONE, **below})
    # A behaviour with a role is the study's own, whatever the preset's is that has its name.
    theirs = {key for key, value in own.items() if isinstance(value, dict) and "role" in value}
    kept = {key: value for key, value in lowest["behaviours"].items() if key not in theirs}
    return laid_over({**lowest, "behaviours": kept}, {**config, "preset": name})


def laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Two configs as one: sections are merged key by key, lists and values are replaced."""
    both = {
        key: laid_over(below[key], value)
        for key, value in above.items()
        if isinstance(value, dict) and isinstance(below.get(key), dict)
    }
    return {**below, **above, **both}


def _first_line(file: Path) -> str:
    return file.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
