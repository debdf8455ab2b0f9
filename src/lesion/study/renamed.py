"""Keys that had another name: it still works, and a warning says what it is called now."""

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
"""The new last word of every key that was renamed; `*` is any name."""

logger = logging.getLogger(__name__)


def with_new_names(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config with the new names of all keys.

    Where both names are given, the later one counts, as in a file that is laid over another one.
    """
    found = dict(config)
    for old, new in RENAMED.items():
        found = _renamed(found, old.split("."), new, "")
    return found


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
    """Say it once, however often the config is read."""
    logger.warning("`%s` is now called `%s`; the old name still works", old, new)
