"""Renamed keys: the old name still works, and a warning gives the new one."""

import logging
from collections.abc import Mapping
from functools import cache
from typing import Any

RENAMED = {
    "curve.pairs": "max_pairs",
    "judgements.main": "primary",
    "masks.pool": "preservation_pooling",
    "models.*.train.lessons": "mixture",
    "pairs.of": "reference_model",
    "responses.completed": "judged_variants",
    "stages": "training_stages",
    "understanding.twins": "minimal_pairs",
}
"""The new last part of every renamed key; `*` matches any name."""

RENAMED_ARMS = {"intact": "unmodified"}
"""The new names of arms of `retraining`."""

logger = logging.getLogger(__name__)


def with_new_names(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with the new names of all keys.

    If both names of a key are given, the later one is used, as when config files are merged.
    """
    renamed = dict(config)
    for old, new in RENAMED.items():
        renamed = _renamed(renamed, old.split("."), new, "")
    return renamed


def with_new_arms(arms: Any) -> Any:
    """The arms of an experiment by their new names."""
    if not isinstance(arms, list):
        return arms
    for old in RENAMED_ARMS.keys() & {arm for arm in arms if isinstance(arm, str)}:
        _warn(old, RENAMED_ARMS[old])
    return [RENAMED_ARMS.get(arm, arm) if isinstance(arm, str) else arm for arm in arms]


def _renamed(part: Any, old: list[str], new: str, key: str) -> Any:
    if not isinstance(part, Mapping):
        return part
    first, *rest = old
    if rest:
        return {
            name: _renamed(value, rest, new, f"{key}{name}.") if first in ("*", name) else value
            for name, value in part.items()
        }
    if first in part:
        _warn(f"{key}{first}", f"{key}{new}")
    return {new if name == first else name: value for name, value in part.items()}


@cache
def _warn(old: str, new: str) -> None:
    """Log a warning, once per process however often the config is read."""
    logger.warning("`%s` is now called `%s`; the old name still works", old, new)
