"""How the jobs of one rule are specified."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from lesion.study import Study
from lesion.study.job import Job


class Rule(NamedTuple):
    """One rule's builder of specifications, and the modules whose code its jobs run."""

    build: Callable[[Study, Mapping[str, str]], Job]
    """Builds the specification from the study and the wildcards."""
    modules: tuple[str, ...]
    """Entry modules, such as `lesion.scores.run`; their imports from `lesion` are included."""
    script: str | None = None
    """The stem of the script, if several rules share it; None stands for the rule's name."""
