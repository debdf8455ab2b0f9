"""The arithmetic of scoring: gradients of every candidate weight in one pass. No I/O here."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers.pytorch_utils import Conv1D

from lesion.formats import LesionError
from lesion.models.likelihood import response_losses
from lesion.models.text import Batch


class Scores(NamedTuple):
    """float32 per parameter, shaped like the weight; `preservation` is None unless asked for."""

    snip: dict[str, Tensor]
    preservation: dict[str, Tensor] | None
    loss: float
    examples: int


class Collector:
    """Takes weight gradients from the inputs and output gradients of linear modules.

    A linear layer's weight gradient is `dY' X`. Taking it in a hook, rather than leaving it to
    autograd, lets one pass give the sum and the per-example absolute values, accumulates in fp32
    whatever the model's dtype, and keeps no second copy of the gradients.
    """

    def __init__(self, candidates: dict[str, nn.Module], preservation: bool) -> None:
        self.candidates = candidates
        self.total = {name: _zeros(module) for name, module in candidates.items()}
        self.absolute = (
            {name: _zeros(module) for name, module in candidates.items()} if preservation else None
        )
        self.batch = (0, 0)
        """Examples and positions of the batch that is under way."""
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> "Collector":
        for name, module in self.candidates.items():
            self._handles.append(module.register_forward_hook(partial(self._forward, name)))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _forward(self, name: str, _: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        output.register_hook(partial(self._backward, name, inputs[0].detach()))

    def _backward(self, name: str, inputs: Tensor, gradient: Tensor) -> None:
        if isinstance(self.candidates[name], Conv1D):  # stores its weight as [in, out]
            inputs, gradient = gradient, inputs
        if self.absolute is None:
            both = gradient.flatten(0, -2), inputs.flatten(0, -2)
            self.total[name].add_(both[0].T @ both[1])
            return
        gradient, inputs = self._by_example(name, gradient), self._by_example(name, inputs)
        for line in range(gradient.shape[0]):
            one = (gradient[line].T @ inputs[line]).float()
            self.total[name].add_(one)
            self.absolute[name].add_(one.abs_())

    def _by_example(self, name: str, values: Tensor) -> Tensor:
        """[examples, positions, features]: some models (OPT) flatten the first two."""
        if values.shape[:-1].numel() != self.batch[0] * self.batch[1]:
            raise LesionError(
                f"{name}: sees {tuple(values.shape[:-1])} positions of a batch of {self.batch}, so "
                "they cannot be told apart by example. Set `scores.preservation: mean`."
            )
        return values.reshape(*self.batch, values.shape[-1])


def _zeros(module: nn.Module) -> Tensor:
    weight = module.weight
    assert isinstance(weight, Tensor)
    return torch.zeros(weight.shape, dtype=torch.float32, device=weight.device)


def score(
    model: nn.Module,
    candidates: dict[str, nn.Module],
    batches: Iterable[Batch],
    *,
    preservation: bool,
    advance: Callable[[int], object] = lambda _: None,
) -> Scores:
    """Score every candidate weight in one pass over the batches.

    Signed SNIP: `I = W * dL/dW`, L the mean over examples of the mean response NLL; no absolute
    value. To first order, zeroing a weight changes L by `-I`, so the most *negative* scores mark
    the weights that promote the responses.

    Preservation importance: `U = mean over examples |W * dL(x)/dW|`.

    Args:
        model: a causal language model; its parameters' `requires_grad` is switched off.
        candidates: from `find_candidates`.
        batches: right-padded examples.
        preservation: collect U too.
        advance: called with the number of examples after each batch.

    Raises:
        LesionError: a loss or score is not finite, with the parameter's name.

    Source:
        Wei et al. 2024 (arXiv 2402.05162) section 3, unsigned; Orgad et al. 2026
        (arXiv 2604.09544), signed.
    """
    model.requires_grad_(False)
    embedding = model.get_input_embeddings()  # type: ignore[operator]
    handle = embedding.register_forward_hook(lambda _, __, output: output.requires_grad_())
    loss, examples = 0.0, 0
    try:
        with Collector(candidates, preservation) as collector:
            for batch in batches:
                collector.batch = (batch.tokens.shape[0], batch.tokens.shape[1])
                losses = response_losses(model, batch)
                losses.sum().backward()
                loss += float(losses.detach().double().sum())
                examples += len(batch.rows)
                advance(len(batch.rows))
    finally:
        handle.remove()
    if not examples:
        raise LesionError(
            "no examples to score: every pair of this behaviour's train split is gone"
        )
    return Scores(
        _times_weight(collector.total, candidates, examples, signed=True),
        collector.absolute
        and _times_weight(collector.absolute, candidates, examples, signed=False),
        loss / examples,
        examples,
    )


@torch.no_grad()
def _times_weight(
    sums: dict[str, Tensor], candidates: dict[str, nn.Module], examples: int, *, signed: bool
) -> dict[str, Tensor]:
    for name, total in sums.items():
        weight = candidates[name].weight
        assert isinstance(weight, Tensor)
        total.mul_(weight.float() if signed else weight.float().abs()).div_(examples)
        if not bool(torch.isfinite(total).all()):
            raise LesionError(
                f"{name}: its score is not finite. The loss overflowed in {weight.dtype}; set "
                "`scores.dtype: float32`, or look for a damaged checkpoint."
            )
    return sums
