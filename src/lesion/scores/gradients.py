"""Capturing weight gradients during the backward pass, without storing them. No I/O here."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.utils.checkpoint import checkpoint

from lesion.models.candidates import Candidate
from lesion.models.text import Batch

Capture = Callable[[Tensor, Tensor], None]


class _CapturingLinear(torch.autograd.Function):
    """A linear map that passes its input and output gradient to `capture` and computes no weight
    gradient, so that their product can be summed in fp32 and separately for each example.

    This is a Function and not a pair of hooks because gradient checkpointing drops and recomputes
    only the tensors that a Function saves.
    """

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        _: Tensor,
        capture: Capture,
        transposed: bool,
    ) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        ctx.capture, ctx.transposed = capture, transposed
        return linear(inputs, weight.T if transposed else weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        inputs, weight = ctx.saved_tensors
        ctx.capture(inputs, gradient)
        below = None
        if ctx.needs_input_grad[0]:
            below = gradient @ (weight.T if ctx.transposed else weight)
        return below, None, None, None, None, None


@contextmanager
def capturing_linear(
    candidates: Mapping[str, Candidate], capture: Callable[[str, Tensor, Tensor], None]
) -> Iterator[None]:
    """Inside the block, the candidates' modules pass inputs and output gradients to `capture`.

    No weight needs `requires_grad`, and the backward pass stops at the first candidate, where the
    graph begins with an empty tensor that requires a gradient.
    """
    graph_start = torch.empty(0, requires_grad=True)

    def forward(name: str, module: Any, start: Tensor, transposed: bool, inputs: Tensor) -> Any:
        how = partial(capture, name), transposed
        return _CapturingLinear.apply(inputs, module.weight, module.bias, start, *how)  # type: ignore[no-untyped-call]

    with ExitStack() as stack:
        for name, candidate in candidates.items():
            start = graph_start.to(candidate.weight.device)
            own = partial(forward, name, candidate.module, start, candidate.transposed)
            stack.enter_context(_replaced_forward(candidate.module, own))
        yield


@contextmanager
def _replaced_forward(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Inside the block, the module has this forward; accelerate's own is restored afterwards."""
    before = module.__dict__.get("forward")
    module.__dict__["forward"] = forward
    try:
        yield
    finally:
        del module.__dict__["forward"]
        if before is not None:
            module.__dict__["forward"] = before


@contextmanager
def capturing_parameters(
    candidates: Mapping[str, Candidate], capture: Callable[[str, Tensor], None]
) -> Iterator[None]:
    """Inside the block, autograd's gradients of the candidates go to `capture` and are dropped."""

    def take(name: str, weight: Tensor) -> None:
        assert weight.grad is not None
        capture(name, weight.grad)
        weight.grad = None

    with ExitStack() as stack:
        for name, candidate in candidates.items():
            weight = candidate.weight
            weight.requires_grad_(True)
            handle = weight.register_post_accumulate_grad_hook(partial(take, name))
            stack.callback(weight.requires_grad_, False)
            stack.callback(setattr, weight, "grad", None)
            stack.callback(handle.remove)
        yield


@contextmanager
def checkpointed(blocks: Iterable[nn.Module]) -> Iterator[None]:
    """Inside the block, activations within each transformer block are dropped and recomputed."""
    with ExitStack() as stack:
        for block in blocks:
            # transformers' own switch works only in training mode, which turns dropout on.
            forward = partial(checkpoint, block.forward, use_reentrant=False)
            stack.enter_context(_replaced_forward(block, forward))
        yield


@torch.no_grad()
def separable(model: nn.Module, candidates: Mapping[str, Candidate], batch: Batch) -> set[str]:
    """Names of the linear candidates whose module is called once, on every position of a batch.

    Only for those is it known which example a position belongs to. The others are weights that are
    used directly, more than once, or on routed tokens; a small batch shows which they are.
    """
    rows, width = 2, min(6, batch.tokens.shape[1])
    calls: dict[str, list[int]] = {name: [] for name in candidates}

    def note(name: str, _: nn.Module, inputs: tuple[Tensor, ...], __: object) -> None:
        calls[name].append(inputs[0].shape[:-1].numel())

    handles = [
        candidate.module.register_forward_hook(partial(note, name))
        for name, candidate in candidates.items()
        if candidate.kind in ("linear", "conv1d")
    ]
    try:
        first = next(model.parameters()).device
        tokens = batch.tokens[:1, :width].expand(rows, width).to(first)
        model(input_ids=tokens, attention_mask=torch.ones_like(tokens), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return {name for name, seen in calls.items() if seen == [rows * width]}
