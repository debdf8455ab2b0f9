"""The kinds of judges that a study may name: one module each, found by its place in this folder.

A module defines the section of its kind (a subclass of `lesion.study.judges.JudgeSection`, or one
of those there), and registers how such a judge is built:

    class DiceSection(JudgeSection):
        kind: Literal["dice"]
        sides: int = 6

    @builds(DiceSection)
    def dice(name, judge: DiceSection, places, device) -> Judge: ...

Nothing here imports torch; what builds a judge imports it when called.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, NamedTuple, TypeVar

from lesion.judgements.protocol import Judge
from lesion.sources.jobs import Place
from lesion.study.job import Device
from lesion.study.judges import JudgeSection


class Kind(NamedTuple):
    """What the pipeline knows of a kind of judge."""

    build: Callable[[str, Any, Mapping[str, Place], Device], Judge]
    """From the judge's name, its section, its files by their keys, and where a model is run. No
    model is loaded and nothing is sent before the first answer is judged."""
    law: str
    """Which of `lesion.plan.resources.LAWS` says what a job takes."""


KINDS: dict[type[JudgeSection], Kind] = {}

_Section = TypeVar("_Section", bound=JudgeSection)
_Builder = Callable[[str, _Section, Mapping[str, Place], Device], Judge]


def builds(
    section: type[_Section], law: str = "extra_judge"
) -> Callable[[_Builder[_Section]], _Builder[_Section]]:
    """Register a function that builds the judges of a kind.

    Args:
        section: of the kind.
        law: which of `lesion.plan.resources.LAWS` says what a job takes.
    """

    def register(build: _Builder[_Section]) -> _Builder[_Section]:
        KINDS[section] = Kind(build, law)
        return build

    return register


def build_judge(
    name: str, judge: JudgeSection, places: Mapping[str, Place], device: Device
) -> Judge:
    """The judge of a study, by its `judgements.judges.<name>`; no model is loaded, nothing sent.

    Args:
        name: for the table and for messages.
        judge: the section.
        places: where its files are, by the section's keys, and the `embedder` if it needs one.
        device: where a judge in memory runs.

    Raises:
        BadFile: a file that the judge is made of is unusable.
    """
    return KINDS[type(judge)].build(name, judge, places, device)


MODULES = tuple(f"{__name__}.{module.name}" for module in iter_modules(__path__))
"""The modules of all kinds. Their code decides verdicts, though nothing imports them by name."""

for _name in MODULES:
    import_module(_name)
