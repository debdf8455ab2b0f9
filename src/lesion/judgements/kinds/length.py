"""A judge that gives long answers a high score."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from lesion.judgements.kinds import builds
from lesion.judgements.protocol import Judgement
from lesion.sources.jobs import SourceLocation
from lesion.study.job import Device
from lesion.study.judges import JudgeSection
from lesion.study.types import Positive


class LengthSection(JudgeSection):
    """A judge that gives long answers a high score."""

    kind: Literal["length"]
    """A judge that gives long answers a high score."""
    longest: Positive = 100
    """Number of words from which the score is 1."""


@builds(LengthSection)
def length(
    name: str, judge: LengthSection, places: Mapping[str, SourceLocation], device: Device
) -> "Length":
    """A judge with the study's settings."""
    return Length(name, judge.longest)


class Length:
    """Scores the number of words."""

    labels = False

    def __init__(self, name: str, longest: int) -> None:
        self.name, self.longest, self.revision = name, longest, f"length {longest}"

    def judge(self, prompts: Sequence[str], responses: Sequence[str]) -> Iterator[Judgement]:
        """Judge each response by its length."""
        for index, response in enumerate(responses):
            yield Judgement(index, min(1.0, len(response.split()) / self.longest), None)
