"""A judge that is trained on a file of labelled answers."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from lesion.judgements.kinds import builds
from lesion.sources.fetch import locate
from lesion.sources.jobs import SourceLocation
from lesion.study.job import Device
from lesion.study.judges import ContrastSection

if TYPE_CHECKING:
    from lesion.judgements.contrast import ContrastJudge


@builds(ContrastSection)
def contrast(
    name: str, judge: ContrastSection, places: Mapping[str, SourceLocation], device: Device
) -> "ContrastJudge":
    """A contrast judge, which is trained when it first judges.

    Raises:
        BadFile: the file of answers is unusable.
    """
    from lesion.judgements.contrast import ContrastJudge, contrast_columns, read_contrast

    rows = read_contrast(locate(places["source"]), contrast_columns(judge))
    return ContrastJudge(name, rows, locate(places["embedder"]), device.threads)
