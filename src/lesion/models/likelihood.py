"""Teacher-forced negative log-likelihood of responses."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

from lesion.models.prefix import WORTH, Held, accepts, common_prefix, fixed, hold, shareable
from lesion.models.text import Batch, Example, batches


def response_losses(model: nn.Module, batch: Batch) -> Tensor:
    """Mean NLL in nats per response token, one number per example; keeps the graph.

    Args:
        model: a causal language model.
        batch: its examples; each must have at least one response token.

    Returns:
        float32 [batch].
    """
    return _losses(model, batch, batch.mask, {})


def _losses(model: nn.Module, batch: Batch, mask: Tensor, past: Mapping[str, object]) -> Tensor:
    device = next(model.parameters()).device
    targets = batch.targets[:, batch.first + 1 :].to(device)
    places = torch.arange(batch.first, batch.tokens.shape[1] - 1, device=device)
    # Most architectures can skip the vocabulary's matrix where no token is predicted.
    keeps = accepts(model, "logits_to_keep")
    logits = model(
        input_ids=batch.tokens.to(device),
        attention_mask=mask.to(device),
        # By index and not by number: a slice is not contiguous, and costs a copy of the
        # vocabulary's matrix per example.
        **({"logits_to_keep": places} if keeps else {}),
        use_cache=bool(past),
        **past,
    ).logits
    chosen = logits if keeps else logits[:, places]
    # In fp32: bf16 logits lose the differences that the score is about.
    losses = cross_entropy(chosen.flatten(0, 1).float(), targets.flatten(), reduction="none")
    return losses.view_as(targets).sum(1) / (targets != -100).sum(1)


@torch.inference_mode()
def response_nll(
    model: nn.Module,
    examples: Sequence[Example],
    budget: int,
    advance: Callable[[int], object] = lambda _: None,
) -> list[float]:
    """Mean NLL (nats per token) of each example's response, in the examples' order.

    What all examples begin with, as a chat template does, is run once; `budget` bounds the padded
    tokens of a batch without it.
    """
    prefix = _prefix(model, examples)
    seen = prefix.lengths[0] if prefix else 0
    rests = [Example(one.tokens[seen:], one.start - seen) for one in examples]
    past = {"past_key_values": fixed(prefix)} if prefix else {}
    found = [float("nan")] * len(examples)
    for batch in batches(rests, budget):
        mask = pad(batch.mask, (seen, 0), value=1)
        losses = _losses(model, batch, mask, past).tolist()
        for row, loss in zip(batch.rows, losses, strict=True):
            found[row] = loss
        advance(len(batch.rows))
    return found


def _prefix(model: nn.Module, examples: Sequence[Example]) -> Held | None:
    """The common beginning, if it is worth a pass and the model can share it.

    It leaves the token whose next one is the first to be predicted.
    """
    if len(examples) < 2:
        return None
    first = min(one.start for one in examples)
    length = min(common_prefix([one.tokens for one in examples]), first - 1)
    if length < 1 or length * (len(examples) - 1) < WORTH or not shareable(model):
        return None
    return hold(model, [examples[0].tokens[:length]])
