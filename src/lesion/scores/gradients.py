"""Weight gradients taken as the backward reaches them, and dropped. No I/O here."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.utils.checkpoint import checkpoint

from lesion.models.candidates import Candidate
from lesion.models.text import Batch

Take = Callable[[Tensor, Tensor], None]


class _Taken(torch.autograd.Function):
    """A linear map that hands its input and output gradient to `take`, in place of a weight's own
    gradient: what they give can then be summed in fp32, and example by example.

    A Function, and not hooks, because only what a Function saves is dropped and made again by
    gradient checkpointing.
    """

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None, _: Tensor, how: "_How"
    ) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        ctx.how = how
        return linear(inputs, weight.T if how.transposed else weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        inputs, weight = ctx.saved_tensors
        ctx.how.take(inputs, gradient)
        below = None
        if ctx.needs_input_grad[0]:
            below = gradient @ (weight.T if ctx.how.transposed else weight)
        return below, None, None, None, None


class _How(NamedTuple):
    take: Take
    transposed: bool


@contextmanager
def taking(candidates: Mapping[str, Candidate], take: Callable[[str], Take]) -> Iterator[None]:
    """Inside the block, the candidates' modules hand over their inputs and output gradients.

    No weight needs `requires_grad`, and nothing below the lowest candidate is gone through: the
    graph begins at the first candidate, by way of an empty tensor that wants a gradient.
    """
    begin = torch.empty(0, requires_grad=True)
    with ExitStack() as stack:
        for name, one in candidates.items():
            how = _How(take(name), one.transposed)
            forward = partial(_forward, one.module, begin.to(one.weight.device), how)
            stack.enter_context(_instead(one.module, forward))
        yield


@contextmanager
def _instead(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Inside the block, a module has this forward; accelerate's own is put back after it."""
    before = module.__dict__.get("forward")
    module.__dict__["forward"] = forward
    try:
        yield
    finally:
        del module.__dict__["forward"]
        if before is not None:
            module.__dict__["forward"] = before


def _forward(module: Any, begin: Tensor, how: _How, inputs: Tensor) -> Any:
    return _Taken.apply(inputs, module.weight, module.bias, begin, how)  # type: ignore[no-untyped-call]


@contextmanager
def taking_own(
    candidates: Mapping[str, Candidate], take: Callable[[str, Tensor], None]
) -> Iterator[None]:
    """Inside the block, autograd's gradients of the candidates are handed over and dropped."""
    with ExitStack() as stack:
        for name, one in candidates.items():
            weight = one.weight
            weight.requires_grad_(True)
            handle = weight.register_post_accumulate_grad_hook(partial(_hand_over, name, take))
            stack.callback(weight.requires_grad_, False)
            stack.callback(setattr, weight, "grad", None)
            stack.callback(handle.remove)
        yield


def _hand_over(name: str, take: Callable[[str, Tensor], None], weight: Tensor) -> None:
    assert weight.grad is not None
    take(name, weight.grad)
    weight.grad = None


@contextmanager
def checkpointed(blocks: Iterable[nn.Module]) -> Iterator[None]:
    """Inside the block, activations within each transformer block are dropped and made again."""
    with ExitStack() as stack:
        for block in blocks:
            # transformers' own switch works in training mode alone, which turns dropout on.
            forward = partial(checkpoint, block.forward, use_reentrant=False)
            stack.enter_context(_instead(block, forward))
        yield


@torch.no_grad()
def separable(model: nn.Module, candidates: Mapping[str, Candidate], batch: Batch) -> set[str]:
    """Names of the linear candidates whose module is called once, on every position of a batch.

    Of those alone a position's example is known. The rest are weights that are used directly,
    more than once, or on routed tokens; a small batch shows which they are.
    """
    rows, width = 2, min(6, batch.tokens.shape[1])
    calls: dict[str, list[int]] = {name: [] for name in candidates}

    def note(name: str, _: nn.Module, inputs: tuple[Tensor, ...], __: object) -> None:
        calls[name].append(inputs[0].shape[:-1].numel())

    handles = [
        one.module.register_forward_hook(partial(note, name))
        for name, one in candidates.items()
        if one.kind in ("linear", "conv1d")
    ]
    try:
        first = next(model.parameters()).device
        tokens = batch.tokens[:1, :width].expand(rows, width).to(first)
        model(input_ids=tokens, attention_mask=torch.ones_like(tokens), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return {name for name, seen in calls.items() if seen == [rows * width]}
