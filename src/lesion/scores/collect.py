"""The arithmetic of scoring: gradients of every candidate weight in one pass. No I/O here."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import islice
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from lesion.io.formats import LesionError
from lesion.models.candidates import Candidate, find_blocks
from lesion.models.likelihood import response_losses
from lesion.models.padding import batching
from lesion.models.text import Batch, Example, batches
from lesion.scores.gradients import checkpointed, separable, taking, taking_own


class CollectedScores(NamedTuple):
    """float32 per parameter, shaped like the weight; `preservation` and `norms` if asked for.

    `norms` are sums of squares of a module's inputs over all tokens, float32 [inputs].
    """

    snip: dict[str, Tensor]
    preservation: dict[str, Tensor] | None
    norms: dict[str, Tensor] | None
    loss: float
    examples: int


class Wanted(NamedTuple):
    """What to collect, and how to spend memory on it.

    `offload` keeps the sums in the CPU's memory; `checkpointing` makes activations again in the
    backward. Neither changes the result but for rounding.
    """

    preservation: bool = False
    norms: bool = False
    offload: bool = False
    checkpointing: bool = False


_PLAIN = Wanted()


class Sums(NamedTuple):
    """What a pass has summed up; float32, on the weights' device or the CPU."""

    total: dict[str, Tensor]
    absolute: dict[str, Tensor]
    norms: dict[str, Tensor]


class Saved(Protocol):
    """Where a pass keeps what it has summed up, so that a killed one goes on from there."""

    def restore(self, sums: Sums) -> tuple[int, float, int]:
        """Fill `sums`; return the batches done, the sum of their losses, and their examples."""
        ...

    def save(self, sums: Sums, done: int, loss: float, examples: int) -> None:
        """Keep `sums` after `done` batches, if it is time."""
        ...


class _Collector:
    """Sums gradients up in fp32 whatever the model's dtype; keeps no second copy of them."""

    def __init__(self, candidates: Mapping[str, Candidate], wanted: Wanted) -> None:
        self.candidates, self.wanted = candidates, wanted
        absolute = candidates if wanted.preservation else {}
        self.sums = Sums(
            {name: self._zeros(one.weight.shape, one) for name, one in candidates.items()},
            {name: self._zeros(one.weight.shape, one) for name, one in absolute.items()},
            {},
        )
        self.batch: Batch | None = None
        self._scratch: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    def _zeros(self, shape: Sequence[int], one: Candidate) -> Tensor:
        device = "cpu" if self.wanted.offload else one.weight.device
        return torch.zeros(shape, dtype=torch.float32, device=device)

    def want_norms(self, names: Iterable[str]) -> None:
        for name in names:
            one = self.candidates[name]
            self.sums.norms[name] = self._zeros([one.weight.shape[0 if one.transposed else 1]], one)

    def take(self, name: str, inputs: Tensor, gradient: Tensor) -> None:
        """A module's inputs and output gradient, [examples, positions, features]."""
        batch = self.batch
        assert batch is not None
        shape = (*batch.tokens.shape, -1)
        inputs, gradient = inputs.reshape(shape), gradient.reshape(shape)
        if name in self.sums.norms:
            own = inputs[batch.mask.to(inputs.device).bool()].float()
            self._add(self.sums.norms[name], own.square_().sum(0))
        pair = (gradient, inputs)
        left, right = reversed(pair) if self.candidates[name].transposed else pair
        if not self.wanted.preservation:
            self._add(self.sums.total[name], self._product(left.flatten(0, 1), right.flatten(0, 1)))
            return
        total, absolute = self._near(name, inputs.device)
        for line in range(left.shape[0]):
            one = self._product(left[line], right[line])
            total.add_(one)
            absolute.add_(one.abs_())
        if total is not self.sums.total[name]:
            self._add(self.sums.total[name], total)
            self._add(self.sums.absolute[name], absolute)

    def _near(self, name: str, device: torch.device) -> tuple[Tensor, Tensor]:
        """The sums, or room for a batch's own if they are kept elsewhere: those cross the bus once
        a batch, and not once an example.
        """
        total, absolute = self.sums.total[name], self.sums.absolute[name]
        if total.device == device:
            return total, absolute
        return torch.zeros_like(total, device=device), torch.zeros_like(total, device=device)

    def take_own(self, name: str, gradient: Tensor) -> None:
        """A parameter's gradient by autograd; of a single example if absolutes are wanted."""
        one = gradient.float()
        self._add(self.sums.total[name], one)
        if self.wanted.preservation:
            self._add(self.sums.absolute[name], one.abs())

    def _add(self, total: Tensor, part: Tensor) -> None:
        total.add_(part.to(total.device))

    def _product(self, left: Tensor, right: Tensor) -> Tensor:
        """Left' right in fp32. Lives until the next one: fresh memory costs as much as the sum."""
        shape = (left.shape[1], right.shape[1])
        out = torch.mm(left.T, right, out=self._room(shape, left.dtype, left.device))
        if out.dtype == torch.float32:
            return out
        return self._room(shape, torch.float32, left.device).copy_(out)

    def _room(self, shape: tuple[int, int], dtype: torch.dtype, device: torch.device) -> Tensor:
        size = shape[0] * shape[1]
        held = self._scratch.get((device, dtype))
        if held is None or held.numel() < size:
            held = self._scratch[device, dtype] = torch.empty(size, dtype=dtype, device=device)
        return held[:size].view(shape)


def score(
    model: nn.Module,
    candidates: Mapping[str, Candidate],
    examples: Sequence[Example],
    batch_tokens: int,
    wanted: Wanted = _PLAIN,
    *,
    saved: Saved | None = None,
    advance: Callable[[int], object] = lambda _: None,
) -> CollectedScores:
    """Score every candidate weight in one pass over the examples.

    Signed SNIP: `I = W * dL/dW`, L the mean over examples of the mean response NLL; no absolute
    value. To first order, zeroing a weight changes L by `-I`, so the most *negative* scores mark
    the weights that promote the responses.

    Preservation importance: `U = mean over examples |W * dL(x)/dW|`.

    Args:
        model: a causal language model; its parameters' `requires_grad` is switched off.
        candidates: from `find_candidates`, or some of them.
        examples: pairs as tokens.
        batch_tokens: padded tokens in one batch. Where the positions of a weight's gradient can't
            be told apart by example (routed experts), U needs batches of one.
        wanted: what to collect.
        saved: where to go on from, and to keep what is summed up.
        advance: called with the number of examples after each batch.

    Raises:
        LesionError: a loss or score is not finite, with the parameter's name; or no examples.

    Source:
        Wei et al. 2024 (arXiv 2402.05162) section 3, unsigned; Orgad et al. 2026
        (arXiv 2604.09544), signed.
    """
    if not examples:
        raise LesionError(
            "no examples to score: every pair of this behaviour's train split is gone"
        )
    model.requires_grad_(False)
    may = batching(model, "right", [one.tokens for one in examples])
    known = separable(model, candidates, next(batches(examples, batch_tokens)))
    plain = {name: one for name, one in candidates.items() if name in known}
    rest = {name: one for name, one in candidates.items() if name not in known}
    collector = _Collector(candidates, wanted)
    if wanted.norms:
        collector.want_norms(plain)
    budget = 1 if rest and wanted.preservation else may.size(batch_tokens)
    with ExitStack() as stack:
        if wanted.checkpointing:
            stack.enter_context(checkpointed(find_blocks(model)))
        stack.enter_context(taking(plain, lambda name: partial(collector.take, name)))
        stack.enter_context(taking_own(rest, collector.take_own))
        loss = _pass(model, batches(examples, budget, may.padded), collector, saved, advance)
    count = len(examples)
    total, absolute, norms = collector.sums
    return CollectedScores(
        _times_weight(total, candidates, count, signed=True),
        _times_weight(absolute, candidates, count, signed=False) if wanted.preservation else None,
        norms if wanted.norms else None,
        loss / count,
        count,
    )


def _pass(
    model: nn.Module,
    todo: Iterable[Batch],
    collector: _Collector,
    saved: Saved | None,
    advance: Callable[[int], object],
) -> float:
    done, loss, examples = saved.restore(collector.sums) if saved else (0, 0.0, 0)
    advance(examples)
    for batch in islice(todo, done, None):
        collector.batch = batch
        losses = response_losses(model, batch)
        if losses.requires_grad:  # not so in a pass over experts alone that nothing was sent to
            losses.sum().backward()
        loss += float(losses.detach().double().sum())
        done, examples = done + 1, examples + len(batch.rows)
        if saved:
            saved.save(collector.sums, done, loss, examples)
        advance(len(batch.rows))
    return loss


@torch.no_grad()
def _times_weight(
    sums: dict[str, Tensor], candidates: Mapping[str, Candidate], examples: int, *, signed: bool
) -> dict[str, Tensor]:
    for name, total in sums.items():
        weight = candidates[name].weight.to(total.device)
        total.mul_(weight.float() if signed else weight.float().abs()).div_(examples)
        if not bool(torch.isfinite(total).all()):
            raise LesionError(
                f"{name}: its score is not finite. The loss overflowed in {weight.dtype}; set "
                "`scores.dtype: float32`, or look for a damaged checkpoint."
            )
    return sums
