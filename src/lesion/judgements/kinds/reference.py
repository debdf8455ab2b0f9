"""A judge that searches an answer for the words of the right answer."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from lesion.judgements.kinds import builds
from lesion.sources.fetch import locate
from lesion.sources.jobs import SourceLocation
from lesion.study.job import Device
from lesion.study.judges import ReferenceSection

if TYPE_CHECKING:
    from lesion.judgements.reference import Reference


@builds(ReferenceSection)
def reference_judge(
    name: str, judge: ReferenceSection, places: Mapping[str, SourceLocation], device: Device
) -> "Reference":
    """A reference judge with the keys of a file.

    Raises:
        BadFile: the file of keys is unusable.
    """
    from lesion.judgements.reference import Reference, read_keys

    return Reference(name, read_keys(locate(places["source"]), judge.prompt, judge.key))
