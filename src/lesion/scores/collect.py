"""The arithmetic of scoring: the gradients of all prunable weights in one pass. No I/O here."""

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
from lesion.scores.gradients import (
    capturing_linear,
    capturing_parameters,
    checkpointed,
    separable,
)


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

    `offload` keeps the sums in the CPU's memory; `checkpointing` recomputes activations in the
    backward pass. Both change the result only by rounding.
    """

    preservation: bool = False
    norms: bool = False
    offload: bool = False
    checkpointing: bool = False


_PLAIN = Wanted()


class Sums(NamedTuple):
    """The sums of a pass; float32, on the weights' device or the CPU."""

    total: dict[str, Tensor]
    absolute: dict[str, Tensor]
    norms: dict[str, Tensor]


class Saved(Protocol):
    """Where a pass saves its sums, so that it can resume after it was killed."""

    def restore(self, sums: Sums) -> tuple[int, float, int]:
        """Fill `sums`; return the batches done, the sum of their losses, and their examples."""
        ...

    def save(self, sums: Sums, done: int, loss: float, examples: int) -> None:
        """Save `sums` after `done` batches, if the last save is old enough."""
        ...


class _Collector:
    """Sums gradients in fp32, regardless of the model's dtype, without a second copy of them."""

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

    def add_linear(self, name: str, inputs: Tensor, gradient: Tensor) -> None:
        """Add a module's inputs and output gradients, [examples, positions, features]."""
        batch = self.batch
        assert batch is not None
        shape = (*batch.tokens.shape, -1)
        inputs, gradient = inputs.reshape(shape), gradient.reshape(shape)
        if name in self.sums.norms:
            unpadded = inputs[batch.mask.to(inputs.device).bool()].float()
            self._add(self.sums.norms[name], unpadded.square_().sum(0))
        left, right = gradient, inputs
        if self.candidates[name].transposed:
            left, right = right, left
        if not self.wanted.preservation:
            self._add(self.sums.total[name], self._product(left.flatten(0, 1), right.flatten(0, 1)))
            return
        total, absolute = self._local_sums(name, inputs.device)
        for example in range(left.shape[0]):
            product = self._product(left[example], right[example])
            total.add_(product)
            absolute.add_(product.abs_())
        if total is not self.sums.total[name]:
            self._add(self.sums.total[name], total)
            self._add(self.sums.absolute[name], absolute)

    def _local_sums(self, name: str, device: torch.device) -> tuple[Tensor, Tensor]:
        """The sums, or a batch's own sums if the totals are on another device.

        So they are transferred once for each batch and not once for each example.
        """
        total, absolute = self.sums.total[name], self.sums.absolute[name]
        if total.device == device:
            return total, absolute
        return torch.zeros_like(total, device=device), torch.zeros_like(total, device=device)

    def add_parameter(self, name: str, gradient: Tensor) -> None:
        """Add a parameter's gradient from autograd, of a single example if absolutes are wanted."""
        gradient = gradient.float()
        self._add(self.sums.total[name], gradient)
        if self.wanted.preservation:
            self._add(self.sums.absolute[name], gradient.abs())

    def _add(self, total: Tensor, part: Tensor) -> None:
        total.add_(part.to(total.device))

    def _product(self, left: Tensor, right: Tensor) -> Tensor:
        """`left.T @ right` in fp32, valid until the next call.

        The buffer is reused, because allocating a new one takes as long as the summation.
        """
        shape = (left.shape[1], right.shape[1])
        out = torch.mm(left.T, right, out=self._buffer(shape, left.dtype, left.device))
        if out.dtype == torch.float32:
            return out
        return self._buffer(shape, torch.float32, left.device).copy_(out)

    def _buffer(self, shape: tuple[int, int], dtype: torch.dtype, device: torch.device) -> Tensor:
        size = shape[0] * shape[1]
        buffer = self._scratch.get((device, dtype))
        if buffer is None or buffer.numel() < size:
            buffer = self._scratch[device, dtype] = torch.empty(size, dtype=dtype, device=device)
        return buffer[:size].view(shape)


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
        batch_tokens: padded tokens in one batch. Where it is unknown which example a position of a
            weight's gradient belongs to (routed experts), U needs batches of one example.
        wanted: what to collect.
        saved: where to resume from, and where to save the sums.
        advance: called with the number of examples after each batch.

    Raises:
        LesionError: a loss or score is not finite, with the parameter's name; or no examples.

    Source:
        Wei et al. 2024 (arXiv 2402.05162) section 3, unsigned; Orgad et al. 2026
        (arXiv 2604.09544), signed.
    """
    if not examples:
        raise LesionError("no examples to score: this behaviour's train split has no pair left")
    model.requires_grad_(False)
    limits = batching(model, "right", [one.tokens for one in examples])
    by_example = separable(model, candidates, next(batches(examples, batch_tokens)))
    plain = {name: one for name, one in candidates.items() if name in by_example}
    rest = {name: one for name, one in candidates.items() if name not in by_example}
    collector = _Collector(candidates, wanted)
    if wanted.norms:
        collector.want_norms(plain)
    budget = 1 if rest and wanted.preservation else limits.size(batch_tokens)
    with ExitStack() as stack:
        if wanted.checkpointing:
            stack.enter_context(checkpointed(find_blocks(model)))
        linear = capturing_linear(plain, lambda name: partial(collector.add_linear, name))
        stack.enter_context(linear)
        stack.enter_context(capturing_parameters(rest, collector.add_parameter))
        loss = _pass(model, batches(examples, budget, limits.padded), collector, saved, advance)
    count = len(examples)
    total, absolute, norms = collector.sums
    return CollectedScores(
        _scores_from_gradients(total, candidates, count, signed=True),
        _scores_from_gradients(absolute, candidates, count, signed=False)
        if wanted.preservation
        else None,
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
        if losses.requires_grad:  # false if all candidates are experts that no token was routed to
            losses.sum().backward()
        loss += float(losses.detach().double().sum())
        done, examples = done + 1, examples + len(batch.rows)
        if saved:
            saved.save(collector.sums, done, loss, examples)
        advance(len(batch.rows))
    return loss


@torch.no_grad()
def _scores_from_gradients(
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
