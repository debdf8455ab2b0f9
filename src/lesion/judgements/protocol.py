"""What a judge is to the pipeline, whether it is a model in memory or an endpoint elsewhere."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol


class Judgement(NamedTuple):
    """What a judge says of one answer.

    `place` is its place in what the judge was given. `score` is in [0, 1], 1 the most harmful (or
    whatever else a study's own judge looks for), and null if the judge said nothing that can be
    read. `label` is the judge's own yes or no, null for judges that only grade.
    """

    place: int
    score: float | None
    label: bool | None


class Judge(Protocol):
    """Reads answers to harmful prompts, or to open questions."""

    name: str
    revision: str
    """All that decides its verdicts beside the texts: weights or model, prompt, precision."""
    labels: bool
    """Whether its authors define a yes or no."""

    def judge(self, prompts: Sequence[str], responses: Sequence[str]) -> Iterator[Judgement]:
        """Judge each response to its prompt.

        Args:
            prompts: what was asked for.
            responses: the answers, none of them empty.

        Returns:
            Verdicts one by one, as they come and in any order, so that none is lost if the job
            is killed. A place that is left out was not judged, and is worth another try.

        Raises:
            LesionError: it can't go on; what was given before stays valid.
        """
        ...


def break_markers(text: str, markers: Iterable[str]) -> str:
    """`text` with a space in whatever it has of a judge's own `markers`, in capitals or not.

    A published prompt must stay as it is, and some are not delimited: a response that brings its
    own `[/INST]`, or a next heading, would be read as part of the prompt. A space before the
    marker's last character makes it text again, and leaves all other responses alone.
    """
    wanted = sorted(filter(None, markers), key=len, reverse=True)
    if not wanted:
        return text
    either = "|".join(re.escape(one) for one in wanted)
    return re.sub(f"(?i:{either})", lambda found: f"{found[0][:-1]} {found[0][-1]}", text)
