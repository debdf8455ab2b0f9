"""A rubric that a model at an endpoint applies."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from lesion.judgements.kinds import builds
from lesion.sources.jobs import SourceLocation
from lesion.study.job import Device
from lesion.study.judges import RubricSection

if TYPE_CHECKING:
    from lesion.judgements.rubric import Rubric


@builds(RubricSection)
def rubric(
    name: str, judge: RubricSection, places: Mapping[str, SourceLocation], device: Device
) -> "Rubric":
    """StrongREJECT's rubric."""
    from lesion.judgements.rubric import Endpoint, Rubric

    return Rubric(name, Endpoint(**judge.model_dump(exclude={"kind"})))
