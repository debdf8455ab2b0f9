"""The arithmetic of scoring: the gradients of all prunable weights in one pass."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lesion.io.formats import LesionError
from lesion.models.candidates import Candidate, find_blocks
from lesion.models.likelihood import response_losses
from lesion.models.padding import batching
from lesion.models.text import Batch, Example, batches
from lesion.scores.gradients import capturing_linear, capturing_parameters, checkpointed, separable
from lesion.scores.resume import Resumable, Sums


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


class _Collector:
    """Sums gradients in fp32, regardless of the model's dtype, without a second copy of them."""

    def __init__(
        self, candidates: Mapping[str, Candidate], wanted: Wanted, normed: Iterable[str]
    ) -> None:
        """Start with sums of zero, and sums of input norms for the modules of `normed`."""
        self.candidates, self.wanted = candidates, wanted

        def zeros(name: str, shape: Sequence[int]) -> Tensor:
            device = "cpu" if wanted.offload else candidates[name].weight.device
            return torch.zeros(shape, dtype=torch.float32, device=device)

        shapes = {name: candidate.weight.shape for name, candidate in candidates.items()}
        inputs = {name: shapes[name][0 if candidates[name].transposed else 1] for name in normed}
        self.sums = Sums(
            {name: zeros(name, shape) for name, shape in shapes.items()},
            {name: zeros(name, shape) for name, shape in shapes.items() if wanted.preservation},
            {name: zeros(name, [size]) for name, size in inputs.items()},
        )
        self.batch: Batch | None = None
        self._scratch: dict[tuple[torch.device, torch.dtype], Tensor] = {}

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
        total, absolute = sums = self.sums.total[name], self.sums.absolute[name]
        if total.device != inputs.device:
            # Sums of the batch, transferred once for each batch and not once for each example.
            total, absolute = (torch.zeros_like(tensor, device=inputs.device) for tensor in sums)
        for example in range(left.shape[0]):
            product = self._product(left[example], right[example])
            total.add_(product)
            absolute.add_(product.abs_())
        if total is not sums[0]:
            self._add(sums[0], total)
            self._add(sums[1], absolute)

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
        shape, device = (left.shape[1], right.shape[1]), left.device
        size = shape[0] * shape[1]

        def buffer(dtype: torch.dtype) -> Tensor:
            cached = self._scratch.get((device, dtype))
            if cached is None or cached.numel() < size:
                cached = self._scratch[device, dtype] = torch.empty(
                    size, dtype=dtype, device=device
                )
            return cached[:size].view(shape)

        out = torch.mm(left.T, right, out=buffer(left.dtype))
        return out if out.dtype == torch.float32 else buffer(torch.float32).copy_(out)


def score(
    model: nn.Module,
    candidates: Mapping[str, Candidate],
    examples: Sequence[Example],
    batch_tokens: int,
    wanted: Wanted = Wanted(),  # noqa: B008 - it is immutable
    *,
    saved: Resumable | None = None,
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
    limits = batching(model, "right", [example.tokens for example in examples])
    by_example = separable(model, candidates, next(batches(examples, batch_tokens)))
    plain = {name: candidate for name, candidate in candidates.items() if name in by_example}
    rest = {name: candidate for name, candidate in candidates.items() if name not in by_example}
    collector = _Collector(candidates, wanted, plain if wanted.norms else ())
    budget = 1 if rest and wanted.preservation else limits.size(batch_tokens)
    with ExitStack() as stack:
        if wanted.checkpointing:
            stack.enter_context(checkpointed(find_blocks(model)))
        stack.enter_context(capturing_linear(plain, collector.add_linear))
        stack.enter_context(capturing_parameters(rest, collector.add_parameter))
        loss = _pass(model, batches(examples, budget, limits.padded), collector, saved, advance)
    count = len(examples)
    total, absolute, norms = collector.sums
    _multiply_by_weights(total, candidates, count, signed=True)
    _multiply_by_weights(absolute, candidates, count, signed=False)
    return CollectedScores(
        snip=total,
        preservation=absolute if wanted.preservation else None,
        norms=norms if wanted.norms else None,
        loss=loss / count,
        examples=count,
    )


def _pass(
    model: nn.Module,
    todo: Iterable[Batch],
    collector: _Collector,
    saved: Resumable | None,
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
def _multiply_by_weights(
    sums: dict[str, Tensor], candidates: Mapping[str, Candidate], examples: int, *, signed: bool
) -> None:
    """Turn sums of gradients into scores, in place."""
    for name, total in sums.items():
        weight = candidates[name].weight.to(total.device)
        total.mul_(weight.float() if signed else weight.float().abs()).div_(examples)
        if not bool(torch.isfinite(total).all()):
            raise LesionError(
                f"{name}: its score is not finite. The loss overflowed in {weight.dtype}; set "
                "`scores.dtype: float32`, or look for a damaged checkpoint."
            )
