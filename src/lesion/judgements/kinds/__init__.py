"""The kinds of judges that a study can use; every module in this folder is imported.

A module defines the config section of a kind (a subclass of `lesion.study.judges.JudgeSection`), or
imports it from there, and registers with `builds` a function that builds such a judge
(docs/how-to/adding.md).

No module here imports torch at its top level; the functions that build a judge may import it.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, NamedTuple, TypeVar

from lesion.judgements.protocol import Judge
from lesion.sources.jobs import SourceLocation
from lesion.study.job import Device
from lesion.study.judges import JudgeSection


class Kind(NamedTuple):
    """How judges of a kind are built, and which resources their jobs need."""

    build: Callable[[str, Any, Mapping[str, SourceLocation], Device], Judge]
    """Builds a judge from its name, its section, its files by their keys, and the device. It must
    not load a model or send a request before the first answer is judged."""
    formula: str
    """The entry of `lesion.plan.resources.RESOURCE_FORMULAS` for the jobs of this kind."""


KINDS: dict[type[JudgeSection], Kind] = {}

_Section = TypeVar("_Section", bound=JudgeSection)
_Builder = Callable[[str, _Section, Mapping[str, SourceLocation], Device], Judge]


def builds(
    section: type[_Section], formula: str = "judge_responses_extra"
) -> Callable[[_Builder[_Section]], _Builder[_Section]]:
    """Register a function that builds the judges of a section (see `Kind`)."""

    def register(build: _Builder[_Section]) -> _Builder[_Section]:
        KINDS[section] = Kind(build, formula)
        return build

    return register


def build_judge(
    name: str, judge: JudgeSection, places: Mapping[str, SourceLocation], device: Device
) -> Judge:
    """Build the judge of a section `judgements.judges.<name>`, without loading a model.

    Args:
        name: the judge's name in tables and messages.
        judge: the section.
        places: locations of its files by the section's keys, and of the `embedder` if needed.
        device: the device of a judge that runs in memory.

    Raises:
        BadFile: a file that the judge needs is unusable.
    """
    return KINDS[type(judge)].build(name, judge, places, device)


MODULES = tuple(f"{__name__}.{module.name}" for module in iter_modules(__path__))
"""The modules of all kinds, which nothing else imports by name; their code affects judge scores."""

for _name in MODULES:
    import_module(_name)
