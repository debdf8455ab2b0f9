"""The validation NLL, from which (p, q) is chosen."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from lesion.io.progress import progress
from lesion.masks.jobs import SweepJob
from lesion.masks.lesion import lesioned
from lesion.models.layout import FlatIndices
from lesion.models.likelihood import response_nll
from lesion.models.load import load
from lesion.models.text import Example
from lesion.pairs.tables import encode_pairs, kept_pairs


class Validation:
    """Validation pairs of harm types and benign capabilities, and the model to ablate."""

    def __init__(self, model: Path, pairs: Mapping[str, Path], job: SweepJob) -> None:
        """Load the model and tokenise the pairs."""
        self.loaded = load(model, job.device)
        self.batch_tokens = job.batch_tokens
        self.examples: list[Example] = []
        self.groups: list[tuple[str, str]] = []
        for name in (*job.behaviours.harm, *job.behaviours.benign):
            encoded = encode_pairs(self.loaded.chat, kept_pairs(pairs[name], "validation"))
            self.examples += encoded
            self.groups += [(job.behaviours.role(name), name)] * len(encoded)
        counted = [side for side, _ in self.groups]
        self.sizes = (counted.count("harm"), counted.count("benign"))

    def progress(self, what: str, points: int) -> AbstractContextManager[Callable[[int], object]]:
        """A progress bar over the examples of all points."""
        return progress(what, points * len(self.examples), "pair")

    def nll(
        self, indices: Mapping[str, FlatIndices], advance: Callable[[int], object]
    ) -> tuple[float, float]:
        """Mean NLL over harm types and over capabilities with `indices` zeroed.

        Each behaviour has the same weight, regardless of its number of pairs.
        """
        with lesioned(self.loaded.model, indices):
            losses = response_nll(self.loaded.model, self.examples, self.batch_tokens, advance)
        by: dict[tuple[str, str], list[float]] = {}
        for group, loss in zip(self.groups, losses, strict=True):
            by.setdefault(group, []).append(loss)
        return self._mean(by, "harm"), self._mean(by, "benign")

    @staticmethod
    def _mean(by: Mapping[tuple[str, str], list[float]], side: str) -> float:
        means = [sum(values) / len(values) for (one, _), values in by.items() if one == side]
        return sum(means) / len(means)
