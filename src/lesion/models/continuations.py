"""Log-likelihoods of continuations of contexts, for multiple-choice tasks."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import DynamicCache

from lesion.models.padding import Batching, batching
from lesion.models.prefix import (
    PrefixCache,
    accepts,
    batch_cache,
    can_share,
    left_padded,
    logits_at,
    shared_prefix,
)
from lesion.models.text import Example

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
    asked: Sequence[Example],
    batch_size: int,
    advance: Callable[[int], object] = lambda _: None,
) -> list[ContinuationLikelihood]:
    """Log-likelihoods of `tokens[start:]` given `tokens[:start]`, in order.

    A context is run once for all its continuations, and a prefix of all contexts is run once.

    Args:
        model: a causal language model.
        asked: at least one token of context and one of continuation each.
        batch_size: rows of a batch, or more if they are short; the continuations of a context are
            in one batch.
        advance: called with the number of rows of each batch.
    """
    rows = [one.tokens[:-1] for one in asked]
    may = batching(model, "left", rows)
    # A model without `position_ids` may count columns, which differ for a cached row.
    shares = may.padded and accepts(model, "position_ids") and can_share(model, rows)
    contexts = [list(one) for one in dict.fromkeys(tuple(_context(one)) for one in asked)]
    prefix = shared_prefix(model, contexts) if shares else None
    found: dict[int, ContinuationLikelihood] = {}
    for batch in _batches(asked, batch_size, may):
        chosen = [asked[row] for row in batch]
        found.update(zip(batch, _likelihoods(model, chosen, prefix, shares), strict=True))
        advance(len(batch))
    return [found[row] for row in range(len(asked))]


def _context(one: Example) -> list[int]:
    """A context without its last token, which predicts the continuation's first."""
    return one.tokens[: one.start - 1]


def _batches(asked: Sequence[Example], size: int, may: Batching) -> Iterator[list[int]]:
    """Batches of rows by the lengths of continuations and contexts, those of a context together.

    If padding changes the answers, all rows and all continuations of a batch have one length.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for row, one in enumerate(asked):
        # Choices of a context seldom have one length; without padding each row is a group.
        groups.setdefault(tuple(one.tokens[: one.start]) if may.padded else (row,), []).append(row)

    def place(rows: list[int]) -> tuple[int, int, list[int]]:
        first = asked[rows[0]]
        return _longest(asked, rows), first.start, first.tokens[: first.start]

    batch: list[int] = []
    for group in sorted(groups.values(), key=place):
        if batch and not _fits(asked, batch, group, size, may):
            yield batch
            batch = []
        batch = [*batch, *group]
    if batch:
        yield batch


def _longest(asked: Sequence[Example], rows: Sequence[int]) -> int:
    return max(len(asked[row].tokens) - asked[row].start for row in rows)


def _fits(
    asked: Sequence[Example], rows: Sequence[int], more: Sequence[int], size: int, may: Batching
) -> bool:
    whole = [*rows, *more]
    if not (may.padded or (may.together and len({len(asked[row].tokens) for row in whole}) == 1)):
        return False
    longest = _longest(asked, more)
    alike = _longest(asked, rows) == longest
    tokens = len(whole) * max(len(asked[row].tokens) for row in whole)
    small = len(whole) <= size or (alike and tokens <= SMALL)
    return small and len(whole) * longest <= PREDICTED


def _likelihoods(
    model: nn.Module, chosen: Sequence[Example], prefix: PrefixCache | None, shares: bool
) -> list[ContinuationLikelihood]:
    # The last token is predicted, and predicts nothing.
    rows = [one.tokens[:-1] for one in chosen]
    targets = _targets(chosen)
    cache = batch_cache(model, rows, [_context(one) for one in chosen], prefix) if shares else None
    logits = _last_logits(model, rows, targets.shape[1], cache)
    targets = targets.to(logits.device)
    # In fp32: bf16 keeps two or three digits of a log-likelihood, and choices differ by less.
    losses = cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="none")
    nats = -losses.view_as(targets).sum(1)
    greedy = ((logits.argmax(-1) == targets) | (targets == _NONE)).all(1)
    return [
        ContinuationLikelihood(*one) for one in zip(nats.tolist(), greedy.tolist(), strict=True)
    ]


_NONE = -100
"""A target that `cross_entropy` ignores."""


def _targets(chosen: Sequence[Example]) -> Tensor:
    """The continuations, int64 [rows, longest], with `_NONE` before their first tokens."""
    return left_padded([one.tokens[one.start :] for one in chosen], _NONE)[0]


def _last_logits(
    model: nn.Module, rows: Sequence[list[int]], count: int, cache: DynamicCache | None
) -> Tensor:
    """Logits [rows, count, vocabulary] of the rows' last positions."""
    device = next(model.parameters()).device
    tokens, mask = (one.to(device) for one in left_padded(rows))
    seen = 0 if cache is None else cache.get_seq_length()
    fed = tokens.shape[1] - seen
    places = torch.arange(fed - count, fed, device=device)
    told = accepts(model, "position_ids")
    positions = (mask.cumsum(1) - 1).clamp(min=0)[:, seen:]
    return logits_at(
        model,
        places,
        input_ids=tokens[:, seen:],
        attention_mask=mask,
        **({} if cache is None else {"past_key_values": cache}),
        **({"position_ids": positions} if told else {}),
        use_cache=cache is not None,
    )
