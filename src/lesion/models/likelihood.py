"""Teacher-forced negative log-likelihood of responses."""

import inspect
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from lesion.models.text import Batch, Example, batches


def response_losses(model: nn.Module, batch: Batch) -> Tensor:
    """Mean NLL in nats per response token, one number per example; keeps the graph.

    Args:
        model: a causal language model.
        batch: its examples; each must have at least one response token.

    Returns:
        float32 [batch].
    """
    device = next(model.parameters()).device
    targets = batch.targets[:, batch.first + 1 :].to(device)
    places = torch.arange(batch.first, batch.tokens.shape[1] - 1, device=device)
    keeps = keeps_some(type(model))
    logits = model(
        input_ids=batch.tokens.to(device),
        attention_mask=batch.mask.to(device),
        use_cache=False,
        # By index and not by number: a slice is not contiguous, and costs a copy of the
        # vocabulary's matrix per example.
        **({"logits_to_keep": places} if keeps else {}),
    ).logits
    chosen = logits if keeps else logits[:, places]
    # In fp32: bf16 logits lose the differences that the score is about.
    losses = cross_entropy(chosen.flatten(0, 1).float(), targets.flatten(), reduction="none")
    return losses.view_as(targets).sum(1) / (targets != -100).sum(1)


def keeps_some(kind: type[nn.Module]) -> bool:
    """Most architectures can skip the vocabulary's matrix where no token is predicted."""
    return "logits_to_keep" in inspect.signature(kind.forward).parameters


@torch.inference_mode()
def response_nll(
    model: nn.Module,
    examples: Sequence[Example],
    budget: int,
    advance: Callable[[int], object] = lambda _: None,
) -> list[float]:
    """Mean NLL (nats per token) of each example's response, in the examples' order."""
    found = [float("nan")] * len(examples)
    for batch in batches(examples, budget):
        for row, loss in zip(batch.rows, response_losses(model, batch).tolist(), strict=True):
            found[row] = loss
        advance(len(batch.rows))
    return found
