"""The interface of judges, for models in memory and for endpoints."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol


class Judgement(NamedTuple):
    """A judge's score of one answer.

    `position` is the answer's index in the judge's input. `score` is in [0, 1], where 1 is the most
    harmful (or whatever else a study's judge looks for), and null if it could not be read. `label`
    is the judge's yes or no, null for judges that only grade.
    """

    position: int
    score: float | None
    label: bool | None


class Judge(Protocol):
    """Reads answers to harmful prompts, or to open questions."""

    name: str
    revision: str
    """Everything besides the texts that determines its scores: model, prompt, precision."""
    labels: bool
    """Whether its authors define a yes or no."""

    def judge(self, prompts: Sequence[str], responses: Sequence[str]) -> Iterator[Judgement]:
        """Judge each response, none of them empty, to its prompt.

        Judgements come as they arrive, in any order, so that none is lost if the job is killed. An
        answer without one was not judged, and may be tried again.

        Raises:
            LesionError: the judge failed; its earlier judgements remain valid.
        """
        ...


def break_markers(text: str, markers: Iterable[str]) -> str:
    """`text` with a space inside each of a judge's `markers` that it contains, in any case.

    Published prompts must not be changed, and some have no delimiters: a response with its own
    `[/INST]`, or with the next heading, would be read as part of the prompt. A space before the
    marker's last character turns it into text, and does not affect other responses.
    """
    wanted = sorted(filter(None, markers), key=len, reverse=True)
    if not wanted:
        return text
    either = "|".join(map(re.escape, wanted))
    return re.sub(f"(?i:{either})", lambda match: f"{match[0][:-1]} {match[0][-1]}", text)
