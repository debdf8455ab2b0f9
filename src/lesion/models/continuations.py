"""Log-likelihoods of continuations of contexts, for multiple-choice tasks."""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from transformers import DynamicCache

from lesion.models.padding import Batching, batching
from lesion.models.prefix import (
    accepts,
    batch_cache,
    can_share,
    device_of,
    left_padded,
    logits_at,
    position_ids,
    shared_prefix,
)
from lesion.models.text import Example, consecutive_groups

PREDICTED = 2048
"""The most predicted tokens of a batch; each has a logit for every word, in fp32."""
SMALL = 16_384
"""Tokens up to which a batch may have more rows than requested, if their continuations have one
length: choices are short, and every forward pass reads all weights."""


class ContinuationLikelihood(NamedTuple):
    """Log-likelihood of a continuation in nats, and whether greedy decoding would write it."""

    nats: float
    greedy: bool


@torch.inference_mode()
def continuation_likelihoods(
    model: nn.Module,
    examples: Sequence[Example],
    batch_size: int,
    advance: Callable[[int], object] = lambda _: None,
) -> list[ContinuationLikelihood]:
    """Log-likelihoods of `tokens[start:]` given `tokens[:start]`, in order.

    A context is run once for all its continuations, and a prefix of all contexts is run once.
    Batches have `batch_size` rows, or more if they are short, and the continuations of a context
    are in one batch. Each example needs a token of context and one of continuation. `advance` is
    called with the number of rows of each batch.
    """
    # The last token is predicted, and predicts nothing.
    rows = [example.tokens[:-1] for example in examples]
    # Without its last token, which predicts the continuation's first.
    contexts = [example.tokens[: example.start - 1] for example in examples]
    limits = batching(model, "left", rows)
    # A model without `position_ids` may count columns, which differ for a cached row.
    shares = limits.padded and accepts(model, "position_ids") and can_share(model, rows)
    different = [list(context) for context in dict.fromkeys(map(tuple, contexts))]
    prefix = shared_prefix(model, different) if shares else None
    likelihoods: dict[int, ContinuationLikelihood] = {}
    for batch in _batches(examples, batch_size, limits):
        chosen = [rows[row] for row in batch]
        beginnings = [contexts[row] for row in batch]
        cache = batch_cache(model, chosen, beginnings, prefix) if shares else None
        continued = [examples[row].tokens[examples[row].start :] for row in batch]
        likelihoods.update(zip(batch, _likelihoods(model, chosen, continued, cache), strict=True))
        advance(len(batch))
    return [likelihoods[row] for row in range(len(examples))]


def _batches(examples: Sequence[Example], size: int, limits: Batching) -> Iterator[list[int]]:
    """Batches of rows by the lengths of continuations and contexts, those of a context together.

    If padding changes the answers, all rows and all continuations of a batch have one length.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for row, example in enumerate(examples):
        # Choices of a context seldom have one length; without padding each row is a group.
        groups.setdefault(
            tuple(example.tokens[: example.start]) if limits.padded else (row,), []
        ).append(row)

    def longest(rows: Sequence[int]) -> int:
        return max(len(examples[row].tokens) - examples[row].start for row in rows)

    def sort_key(rows: list[int]) -> tuple[int, int, list[int]]:
        first = examples[rows[0]]
        return longest(rows), first.start, first.tokens[: first.start]

    def fits(batch: list[list[int]], more: list[int]) -> bool:
        before = list(chain(*batch))
        lengths = [len(examples[row].tokens) for row in (*before, *more)]
        if not (limits.padded or (limits.together and len(set(lengths)) == 1)):
            return False
        same = longest(before) == longest(more)
        small = len(lengths) <= size or (same and len(lengths) * max(lengths) <= SMALL)
        return small and len(lengths) * longest(more) <= PREDICTED

    return (
        list(chain(*batch))
        for batch in consecutive_groups(sorted(groups.values(), key=sort_key), fits)
    )


def _likelihoods(
    model: nn.Module,
    rows: Sequence[list[int]],
    continued: Sequence[list[int]],
    cache: DynamicCache | None,
) -> list[ContinuationLikelihood]:
    """The likelihoods of continuations; each row ends with all but the last token of its own."""
    device = device_of(model)
    tokens, mask = (tensor.to(device) for tensor in left_padded(rows))
    # -100 is a target that `cross_entropy` ignores.
    targets = left_padded(continued, -100)[0]
    seen = 0 if cache is None else cache.get_seq_length()
    fed = tokens.shape[1] - seen
    logits = logits_at(
        model,
        torch.arange(fed - targets.shape[1], fed, device=device),
        input_ids=tokens[:, seen:],
        attention_mask=mask,
        **({} if cache is None else {"past_key_values": cache}),
        **position_ids(model, mask, seen),
        use_cache=cache is not None,
    )
    targets = targets.to(logits.device)
    # In fp32: bf16 keeps two or three digits of a log-likelihood, and choices differ by less.
    losses = cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="none")
    nats = -losses.view_as(targets).sum(1)
    greedy = ((logits.argmax(-1) == targets) | (targets == -100)).all(1)
    return list(map(ContinuationLikelihood, nats.tolist(), greedy.tolist()))
