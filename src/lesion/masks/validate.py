"""The NLL of validation pairs with weights zeroed, by which masks are chosen and grown."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from lesion.io.progress import progress
from lesion.masks.jobs import SweepJob
from lesion.masks.lesion import lesioned
from lesion.models.layout import FlatIndices
from lesion.models.likelihood import response_nll
from lesion.models.load import load
from lesion.models.text import Example
from lesion.pairs.tables import encode_pairs, kept_pairs
from lesion.study.job import Behaviours, Device


class Validation:
    """A loaded model and the validation pairs of behaviours.

    Each behaviour has the same weight, regardless of its number of pairs.
    """

    def __init__(
        self,
        model: Path,
        pairs: Mapping[str, Path],
        behaviours: Behaviours,
        roles: Sequence[str],
        device: Device,
        batch_tokens: int,
    ) -> None:
        """Load the model and encode the pairs of the given roles."""
        self.loaded, self.batch_tokens = load(model, device), batch_tokens
        self.sides: dict[str, dict[str, list[Example]]] = {}
        for role in roles:
            names = getattr(behaviours, role)
            kept = {name: kept_pairs(pairs[name], "validation") for name in names}
            self.sides[role] = {
                name: encode_pairs(self.loaded.chat, own)
                for name, own in kept.items()
                if own.height
            }

    @property
    def examples(self) -> list[Example]:
        """All pairs, role after role and behaviour after behaviour."""
        return [pair for own in self.sides.values() for each in own.values() for pair in each]

    def means(
        self, mask: Mapping[str, FlatIndices], advance: Callable[[int], object] = lambda _: None
    ) -> dict[str, float | None]:
        """The mean NLL of each role with the mask zeroed, nats per token; None without pairs."""
        with lesioned(self.loaded.model, mask):
            nlls = response_nll(self.loaded.model, self.examples, self.batch_tokens, advance)
        losses = iter(nlls)
        means: dict[str, float | None] = {}
        for role, own in self.sides.items():
            each = [sum(next(losses) for _ in some) / len(some) for some in own.values()]
            means[role] = sum(each) / len(each) if each else None
        return means


@contextmanager
def validation_nll(
    model: Path, pairs: Mapping[str, Path], job: SweepJob, count: int
) -> Iterator[Callable[[Mapping[str, FlatIndices] | None], dict[str, float | None]]]:
    """Gives a function that measures the mean NLL of each role with a mask zeroed, and without.

    Args:
        model: checkpoint folder.
        pairs: tables of PAIRS by behaviour; those of the validation split are used.
        job: how the NLL is measured.
        count: how often the function will be called.

    The function takes flat indices by parameter, and returns the columns of SWEEP that are
    measured, null for matched requests if the study has none. Given None, it measures nothing, and
    all are null.
    """
    roles = ("harm", "benign", "matched")
    validation = Validation(model, pairs, job.behaviours, roles, job.device, job.batch_tokens)
    sizes = {f"{role}_pairs": sum(map(len, own.values())) for role, own in validation.sides.items()}
    with progress("sweep", (1 + count) * len(validation.examples), "pair") as advance:
        before = validation.means({}, advance)
        rest = {**{f"{role}_nll_unmodified": nll for role, nll in before.items()}, **sizes}

        def measure(mask: Mapping[str, FlatIndices] | None) -> dict[str, float | None]:
            if mask is None:
                advance(len(validation.examples))
                return dict.fromkeys([*(f"{role}_nll" for role in roles), *rest])
            nlls = validation.means(mask, advance)
            return {**{f"{role}_nll": nll for role, nll in nlls.items()}, **rest}

        yield measure
