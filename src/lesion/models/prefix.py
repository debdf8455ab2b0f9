"""What token rows with a common beginning share: its keys and values, computed once.

Rows are continued in the layout they have without sharing, left-padded to one width: every row
still lacks the same number of last tokens, and what stands before them comes from a cache. So
masks, positions, windows and distances are the ones of the plain way, and no column is a hole.

A model is judged by its structure. Its keys and values must depend on the tokens up to their own
place and on nothing else: causal attention in all layers, no rotation that changes with the
length of the whole, and a cache of nothing but keys and values. Recurrent states, compressed
caches and layers that read another layer's keys are refused, as are windows that have already
dropped something. What the structure promises is tried before it is relied on; a model that is
refused takes the plain way.
"""

import inspect
from collections.abc import Sequence
from copy import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from lesion.models.trial import differs, known, stretched

WORTH = 32
"""Tokens to be saved before a forward pass of its own pays: it reads all the weights."""


class Held(NamedTuple):
    """Keys and values of some token rows.

    `cache` holds them left-padded to the longest: [rows, heads, width, head size] in each layer;
    `lengths` is each row's number of tokens.
    """

    cache: DynamicCache
    lengths: list[int]


def common_prefix(rows: Sequence[list[int]]) -> int:
    """The number of tokens that all rows begin with."""
    # What the first and the last in order have in common, all between them have.
    low, high = min(rows), max(rows)
    pairs = zip(low, high, strict=False)
    return next((place for place, (one, other) in enumerate(pairs) if one != other), len(low))


def accepts(model: nn.Module, name: str) -> bool:
    """Whether the model's `forward` names this argument."""
    return name in inspect.signature(type(model).forward).parameters


def logits_at(model: nn.Module, columns: Tensor, **inputs: object) -> Tensor:
    """Logits [rows, columns, vocabulary] of some of the columns that the model is fed.

    Most architectures can skip the vocabulary's matrix where no token is predicted.
    """
    if accepts(model, "logits_to_keep"):
        # By index and not by number; see `last_only`.
        kept: Tensor = model(**inputs, logits_to_keep=columns).logits
        return kept
    logits: Tensor = model(**inputs).logits
    return logits[:, columns]


def last_only(model: nn.Module) -> dict[str, Tensor]:
    """Ask for the last position's logits by index.

    By number, as `generate` does, the slice is not contiguous and the product with the
    vocabulary's matrix copies that matrix for every row of the batch: 40% of the prompt's time.
    """
    if not accepts(model, "logits_to_keep"):
        return {}
    return {"logits_to_keep": torch.tensor([-1], device=_device(model))}


def left_padded(rows: Sequence[Sequence[int]], padding: int = 0) -> tuple[Tensor, Tensor]:
    """Tokens and mask, int64 [rows, longest], with the padding before each row's first token."""
    width = max(map(len, rows))
    tokens = torch.tensor([[padding] * (width - len(row)) + list(row) for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    return tokens, mask


def shareable(model: nn.Module) -> bool:
    """Whether the structure promises keys and values that other rows can use."""
    config = getattr(model, "config", None)
    if config is None or getattr(config, "is_encoder_decoder", False):
        return False
    if not all(accepts(model, name) for name in ("past_key_values", "attention_mask", "use_cache")):
        return False
    if not all(_steady(module) for module in model.modules()):
        return False
    if not hasattr(config.get_text_config(decoder=True), "num_hidden_layers"):
        return False  # several decoders: none of their caches is the model's
    planned = DynamicCache(config=config)
    return len(_layers(planned)) == len(planned.layers)


BASE = 8
"""Tokens at most that the rows of a trial share."""


def sharing(model: nn.Module, rows: Sequence[list[int]]) -> bool:
    """Whether the model is `shareable`, and gives the same logits after a shared beginning.

    Args:
        model: a causal language model.
        rows: all token rows, or what they begin with; the trial has rows of the longest's length.
    """
    row = max(rows, key=len, default=[])
    if not row or not shareable(model):
        return False
    return known(model, "sharing", len(row), lambda: _same(model, row))


@torch.no_grad()
def _same(model: nn.Module, row: list[int]) -> bool:
    """Whether two rows go on from both kinds of cache as they do without; of one length, so that
    no padding comes into it.
    """
    row = stretched(row, max(len(row), 2))
    shared = row[: min(BASE, len(row) // 2)]
    rows = [row, shared + row[: len(shared) - 1 : -1]]
    held = hold(model, [shared])
    if held is None:
        return True  # nor will `beginning` hold anything
    tokens = torch.tensor(rows, device=_device(model))
    inputs = {"attention_mask": torch.ones_like(tokens)}
    ends = torch.tensor([-2, -1], device=tokens.device)
    plain = logits_at(model, ends, input_ids=tokens, use_cache=False, **inputs)
    for cache in (fixed(held), resume(held, rows, [0, 0])):
        assert cache is not None
        rest = tokens[:, cache.get_seq_length() :]
        columns = ends[-rest.shape[1] :]
        found = logits_at(
            model, columns, input_ids=rest, past_key_values=cache, use_cache=True, **inputs
        )
        if differs(model, list(found), list(plain[:, -len(columns) :])):
            return False
    return True


def hold(
    model: nn.Module, rows: Sequence[Sequence[int]], beginning: Held | None = None
) -> Held | None:
    """Run the rows through the model and keep their keys and values.

    Args:
        model: one that is `shareable`.
        rows: token rows; with more than one, the model must accept `position_ids`.
        beginning: one row that all of `rows` begin with.

    Returns:
        None if the cache is not whole after all, as where a window is shorter than a row.
    """
    device = _device(model)
    tokens, mask = (one.to(device) for one in left_padded(rows))
    cache = resume(beginning, rows, [0] * len(rows)) if beginning else None
    seen = 0 if cache is None else cache.get_seq_length()
    places = (mask.cumsum(1) - 1).clamp(min=0)[:, seen:]
    made = model(
        input_ids=tokens[:, seen:],
        attention_mask=mask,
        past_key_values=cache,
        use_cache=True,
        **({"position_ids": places} if accepts(model, "position_ids") else {}),
        **last_only(model),
    ).past_key_values
    return Held(made, [len(row) for row in rows]) if _whole(made, tokens.shape[1]) else None


def beginning(model: nn.Module, rows: Sequence[list[int]]) -> Held | None:
    """What all rows begin with, if it is worth a pass of its own and the model can share it.

    Args:
        model: a causal language model.
        rows: of each token row as much as may be shared: without its last token, or without those
            whose next ones are predicted.
    """
    length = common_prefix(rows) if rows else 0
    if length < 1 or length * (len(rows) - 1) < WORTH or not sharing(model, rows):
        return None
    return hold(model, [rows[0][:length]])


def begun(
    model: nn.Module,
    rows: Sequence[Sequence[int]],
    contexts: Sequence[Sequence[int]],
    prefix: Held | None,
) -> DynamicCache | None:
    """What is known of a batch before it is run: its contexts, if that pays, or the prefix.

    Args:
        model: one that is `shareable` and accepts `position_ids`.
        rows: token rows.
        contexts: for each row, what it begins with; rows may have one in common.
        prefix: one row that all contexts begin with.
    """
    lines = {context: line for line, context in enumerate(dict.fromkeys(map(tuple, contexts)))}
    seen = prefix.lengths[0] if prefix else 0
    alone = lacking(rows, [seen] * len(rows)) * len(rows)
    together = (max(map(len, lines)) - seen) * len(lines) + WORTH
    together += lacking(rows, [len(context) for context in contexts]) * len(rows)
    # A context that the prefix holds whole has nothing left to run.
    if min(map(len, lines)) > seen and together < alone:
        held = hold(model, list(lines), prefix)
        if held:
            return resume(held, rows, [lines[tuple(context)] for context in contexts])
    return resume(prefix, rows, [0] * len(rows)) if prefix else None


def lacking(rows: Sequence[Sequence[int]], known: Sequence[int]) -> int:
    """How many last tokens to feed of every row, of which the `known` first ones are held.

    Rows of a batch are fed in step, so the one that knows least decides; a row always feeds one.
    """
    return max(len(row) - min(first, len(row) - 1) for row, first in zip(rows, known, strict=True))


def resume(held: Held, rows: Sequence[Sequence[int]], lines: Sequence[int]) -> DynamicCache | None:
    """A cache to continue the rows from; each begins with, or is the beginning of, a held one.

    Args:
        held: keys and values.
        rows: token rows.
        lines: for each row, the held row that it has in common.

    Returns:
        A cache of its own for these rows, left-padded as they are; None if it would be empty.
    """
    lack = lacking(rows, [held.lengths[line] for line in lines])
    width = max(map(len, rows)) - lack
    if width == 0:
        return None
    column = torch.arange(width)
    shift = torch.tensor(
        [
            # The last column is the row's token number `len(row) - lack`, from another column.
            max(held.lengths) - held.lengths[line] + len(row) - lack - width
            for row, line in zip(rows, lines, strict=True)
        ]
    )
    # Padding takes any column that exists: it is masked.
    columns = (column + shift[:, None]).clamp(min=0)
    chosen = torch.tensor(lines)
    return _cache(held, [_picked(layer, chosen, columns) for layer in _layers(held.cache)])


def fixed(held: Held) -> DynamicCache:
    """A cache that stays as it is: one held row, before each row of any batch run with it."""
    return _cache(held, [_Fixed(layer) for layer in _layers(held.cache)])


class _Fixed(DynamicLayer):
    """What a batch adds goes to its attention and is forgotten, so the only copy of the prefix
    for each row is the one that attention reads, of one layer at a time.
    """

    def __init__(self, layer: DynamicLayer) -> None:
        # All that a layer has, but for a window's own way of counting.
        self.__dict__.update(vars(layer))
        self.is_sliding = layer.is_sliding

    def update(
        self, key_states: Tensor, value_states: Tensor, *_: object, **__: object
    ) -> tuple[Tensor, Tensor]:
        return _after(self.keys, key_states), _after(self.values, value_states)


def _after(prefix: Tensor | None, states: Tensor) -> Tensor:
    assert prefix is not None
    return torch.cat([prefix.expand(len(states), -1, -1, -1), states], dim=-2)


_MOVING = {"dynamic", "longrope"}
"""Rotations whose angles at a place depend on how long the whole row is."""


def _steady(module: nn.Module) -> bool:
    kinds = getattr(module, "rope_type", None)
    several = kinds.values() if isinstance(kinds, dict) else [kinds]
    causal = getattr(module, "is_causal", True)
    return bool(causal) and not _MOVING.intersection(several)


def _whole(cache: Any, width: int) -> bool:
    """Whether the cache is nothing but `width` keys and values in each layer."""
    if type(cache) is not DynamicCache or not cache.layers:
        return False
    layers = _layers(cache)
    return len(layers) == len(cache.layers) and all(
        layer.keys is not None and layer.keys.ndim == 4 and layer.keys.shape[2] == width
        for layer in layers
    )


def _layers(cache: DynamicCache) -> list[DynamicLayer]:
    """The layers that are nothing but keys and values; not a subclass, which may hold more."""
    plain = (DynamicLayer, DynamicSlidingWindowLayer)
    return [
        layer for layer in cache.layers if isinstance(layer, DynamicLayer) and type(layer) in plain
    ]


def _cache(held: Held, layers: Sequence[DynamicLayer]) -> DynamicCache:
    found = copy(held.cache)
    found.layers = list(layers)
    return found


def _picked(layer: DynamicLayer, lines: Tensor, columns: Tensor) -> DynamicLayer:
    found = copy(layer)
    found.keys, found.values = (
        _pick(one, lines, columns) for one in (layer.keys, layer.values) if one is not None
    )
    if isinstance(found, DynamicSlidingWindowLayer):
        found.cumulative_length = columns.shape[1]
    return found


def _pick(states: Tensor, lines: Tensor, columns: Tensor) -> Tensor:
    """[held rows, heads, held width, size] to [rows, heads, width, size]."""
    lines, columns = lines.to(states.device), columns.to(states.device)
    return states.transpose(1, 2)[lines[:, None], columns].transpose(1, 2)


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
