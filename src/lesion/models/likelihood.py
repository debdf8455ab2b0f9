"""Teacher-forced likelihood of responses, and its change by an ablation."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div, nll_loss, pad

from lesion.models.padding import Batching, batching
from lesion.models.prefix import PrefixCache, device_of, frozen, logits_at, shared_prefix
from lesion.models.text import Batch, Example, batches


def response_losses(model: nn.Module, batch: Batch) -> Tensor:
    """Mean NLL in nats per response token of each example, float32 [batch]; keeps the graph.

    Each example must have at least one response token.
    """
    return _losses(*_predicted(model, batch, batch.mask, {}))


def _predicted(
    model: nn.Module, batch: Batch, mask: Tensor, past: Mapping[str, object]
) -> tuple[Tensor, Tensor]:
    """Logits [batch, positions, vocabulary] in the model's dtype, targets [batch, positions]."""
    device = device_of(model)
    targets = batch.targets[:, batch.first + 1 :].to(device)
    positions = torch.arange(batch.first, batch.tokens.shape[1] - 1, device=device)
    inputs = {"input_ids": batch.tokens.to(device), "attention_mask": mask.to(device)}
    return logits_at(model, positions, **inputs, use_cache=bool(past), **past), targets


def _losses(logits: Tensor, targets: Tensor) -> Tensor:
    # In fp32, because bf16 logits lose the differences that the score measures.
    losses = cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="none")
    return losses.view_as(targets).sum(1) / (targets != -100).sum(1)


def response_nll(
    model: nn.Module,
    examples: Sequence[Example],
    budget: int,
    advance: Callable[[int], object] = lambda _: None,
) -> list[float]:
    """Mean NLL (nats per token) of each example's response, in the examples' order.

    Tokens that all examples begin with, as with a chat template, are run once; `budget` limits the
    padded tokens of a batch without them. `advance` gets the number of examples of each batch.
    """
    return measure_examples(model, examples, _limits(model, examples), budget, _losses, advance)


@torch.inference_mode()
def measure_examples(
    model: nn.Module,
    examples: Sequence[Example],
    limits: Batching,
    budget: int,
    measure: Callable[[Tensor, Tensor], Tensor],
    advance: Callable[[int], object] = lambda _: None,
) -> list[float]:
    """A number for each example, in the examples' order; see `response_nll`.

    `measure` gets a batch's logits [batch, positions, vocabulary], in the model's dtype, and its
    targets [batch, positions], -100 where no token counts; it returns one number for each row.
    """
    prefix = shared_prefix(model, _contexts(examples))
    past = _past(prefix)
    values = [float("nan")] * len(examples)
    for batch, mask in _rests(examples, limits, prefix, budget):
        measured = measure(*_predicted(model, batch, mask, past)).tolist()
        for row, value in zip(batch.rows, measured, strict=True):
            values[row] = value
        advance(len(batch.rows))
    return values


class ResponseLikelihood(NamedTuple):
    """Mean NLL of a response, and mean KL from the unmodified model; nats per response token."""

    nll: float
    kl: float


@torch.inference_mode()
def response_kl(
    model: nn.Module,
    unmodified: Callable[[], AbstractContextManager[object]],
    examples: Sequence[Example],
    budget: int,
    advance: Callable[[int], object] = lambda _: None,
) -> list[ResponseLikelihood]:
    """NLL as `response_nll` gives it, and KL(unmodified || model), in the examples' order.

    Each batch runs twice, once inside `unmodified`, a context in which the ablated model's weights
    are restored, so that there is no second copy of the weights and at most two batches of logits.
    The fp32 softmax is computed for one example at a time. `budget` and `advance` are as for
    `response_nll`.
    """
    with unmodified():
        past_before = _past(shared_prefix(model, _contexts(examples)))
    prefix = shared_prefix(model, _contexts(examples))
    past = _past(prefix)
    likelihoods: dict[int, ResponseLikelihood] = {}
    for batch, mask in _rests(examples, _limits(model, examples), prefix, budget):
        with unmodified():
            before, _ = _predicted(model, batch, mask, past_before)
        logits, targets = _predicted(model, batch, mask, past)
        pairs = map(_compared, before, logits, targets)
        likelihoods.update(zip(batch.rows, pairs, strict=True))
        advance(len(batch.rows))
    return [likelihoods[row] for row in range(len(examples))]


def _compared(unmodified: Tensor, logits: Tensor, targets: Tensor) -> ResponseLikelihood:
    """One example's likelihood, from logits [positions, vocabulary] and targets [positions]."""
    counted = targets != -100
    before, after = (tensor[counted].float().log_softmax(-1) for tensor in (unmodified, logits))
    kl = kl_div(after, before, reduction="batchmean", log_target=True)
    return ResponseLikelihood(float(nll_loss(after, targets[counted])), float(kl))


def _contexts(examples: Sequence[Example]) -> list[list[int]]:
    """The tokens before the one that predicts the response's first token."""
    return [example.tokens[: example.start - 1] for example in examples]


def _past(prefix: PrefixCache | None) -> dict[str, object]:
    return {"past_key_values": frozen(prefix)} if prefix else {}


def _limits(model: nn.Module, examples: Sequence[Example]) -> Batching:
    return batching(model, "right", [example.tokens for example in examples])


def _rests(
    examples: Sequence[Example], limits: Batching, prefix: PrefixCache | None, budget: int
) -> Iterator[tuple[Batch, Tensor]]:
    """Batches of the tokens after the prefix, with the mask of the full rows."""
    n_cached = prefix.lengths[0] if prefix else 0
    rests = [Example(example.tokens[n_cached:], example.start - n_cached) for example in examples]
    for batch in batches(rests, limits.size(budget), limits.padded):
        yield batch, pad(batch.mask, (n_cached, 0), value=1)
