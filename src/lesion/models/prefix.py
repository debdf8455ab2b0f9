"""A KV prefix cache: the keys and values of tokens that several rows begin with, computed once.

Rows are left-padded to one width. The last k tokens of every row are fed, and everything before
them is read from the cache, so attention masks, position ids and window distances equal those of an
uncached run.

Whether a model can share a prefix follows from its structure: its keys and values must depend on
nothing but the tokens up to their own position. That holds for causal attention in all layers, with
a rotation that does not depend on the row's length, and a cache that contains only keys and values.
Models with recurrent states, compressed caches, or layers that read another layer's keys are
refused, and so is a window that has already dropped a token. Before the cache is relied on, a
trial compares its logits with those of an uncached run. A refused model runs without the cache.

`LESION_PREFIX_CACHE=0` in the environment switches the cache off for every model; the results are
the same but for rounding.
"""

import inspect
import os
from collections.abc import Sequence
from copy import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from lesion.models.trial import cached_result, differs, stretched

SWITCH = "LESION_PREFIX_CACHE"
"""The environment variable that switches the cache off if it is `0`."""
MIN_TOKENS_SAVED = 32
"""Tokens that a cache must save to be worth a forward pass of its own, which reads all weights."""
_TRIAL_PREFIX = 8
"""The most tokens that the rows of a trial share."""
_LENGTH_DEPENDENT = {"dynamic", "longrope"}
"""Rotary embeddings whose angles at a position depend on the length of the row."""


class PrefixCache(NamedTuple):
    """Keys and values of some token rows.

    `cache` has them left-padded to the longest row: [rows, heads, width, head size] in each layer;
    `lengths` has each row's number of tokens.
    """

    cache: DynamicCache
    lengths: list[int]


def common_prefix(rows: Sequence[list[int]]) -> int:
    """The number of tokens that all rows begin with."""
    # In sorted order, a prefix of the first and the last row is a prefix of all rows between them.
    low, high = min(rows), max(rows)
    pairs = zip(low, high, strict=False)
    return next((index for index, (a, b) in enumerate(pairs) if a != b), len(low))


def device_of(model: nn.Module) -> torch.device:
    """The device of the model's first parameters, which takes its inputs."""
    return next(model.parameters()).device


def accepts(model: nn.Module, name: str) -> bool:
    """Whether the model's `forward` names this argument."""
    return name in inspect.signature(type(model).forward).parameters


def logits_at(model: nn.Module, columns: Tensor, **inputs: object) -> Tensor:
    """Logits [rows, columns, vocabulary] at some of the columns that the model is fed.

    Most architectures can skip the output projection where no token is predicted.
    """
    if accepts(model, "logits_to_keep"):
        # By index and not by number; see `last_only`.
        kept: Tensor = model(**inputs, logits_to_keep=columns).logits
        return kept
    logits: Tensor = model(**inputs).logits
    return logits[:, columns]


def last_only(model: nn.Module) -> dict[str, Tensor]:
    """The argument that asks for the last position's logits, by index.

    By number, as `generate` asks for them, the slice is not contiguous, and the output projection
    is copied for every row of the batch, which takes 40% of the prompt's time.
    """
    if not accepts(model, "logits_to_keep"):
        return {}
    return {"logits_to_keep": torch.tensor([-1], device=device_of(model))}


def position_ids(model: nn.Module, mask: Tensor, first: int = 0) -> dict[str, Tensor]:
    """The argument that counts positions from each row's first token, if the model names it.

    `mask` is int64 [rows, columns], 0 for padding; the columns from `first` on are fed.
    """
    if not accepts(model, "position_ids"):
        return {}
    return {"position_ids": (mask.cumsum(1) - 1).clamp(min=0)[:, first:]}


def left_padded(rows: Sequence[Sequence[int]], padding: int = 0) -> tuple[Tensor, Tensor]:
    """Tokens and mask, int64 [rows, longest], with the padding before each row's first token."""
    width = max(map(len, rows))
    tokens = torch.tensor([[padding] * (width - len(row)) + list(row) for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    return tokens, mask


def structure_allows(model: nn.Module) -> bool:
    """Whether the model's structure promises keys and values that other rows can use."""
    config = getattr(model, "config", None)
    if config is None or getattr(config, "is_encoder_decoder", False):
        return False
    if not all(accepts(model, name) for name in ("past_key_values", "attention_mask", "use_cache")):
        return False
    for module in model.modules():
        rotation = getattr(module, "rope_type", None)
        rotations = rotation.values() if isinstance(rotation, dict) else [rotation]
        causal = getattr(module, "is_causal", True)
        if not causal or _LENGTH_DEPENDENT.intersection(rotations):
            return False
    if not hasattr(config.get_text_config(decoder=True), "num_hidden_layers"):
        return False  # there are several decoders, and none of their caches is the model's
    planned = DynamicCache(config=config)
    return len(_key_value_layers(planned)) == len(planned.layers)


def can_share(model: nn.Module, rows: Sequence[list[int]]) -> bool:
    """Whether these rows may use a prefix cache: it is not switched off, the model's structure
    allows it, and a trial with rows as long as the longest gave the same logits as an uncached run.
    """
    row = max(rows, key=len, default=[])
    if os.environ.get(SWITCH) == "0" or not row or not structure_allows(model):
        return False
    (same,) = cached_result(model, "prefix cache", len(row), lambda: [_same_logits(model, row)])
    return same


@torch.no_grad()
def _same_logits(model: nn.Module, row: list[int]) -> bool:
    """Whether two rows continue from both kinds of cache as they do without one.

    Both rows have the same length, so that padding does not influence the result.
    """
    row = stretched(row, max(len(row), 2))
    shared = row[: min(_TRIAL_PREFIX, len(row) // 2)]
    rows = [row, shared + row[: len(shared) - 1 : -1]]
    prefix = build_cache(model, [shared])
    if prefix is None:
        return True  # `shared_prefix` will not build a cache either
    tokens = torch.tensor(rows, device=device_of(model))
    inputs = {"attention_mask": torch.ones_like(tokens)}
    ends = torch.tensor([-2, -1], device=tokens.device)
    uncached = logits_at(model, ends, input_ids=tokens, use_cache=False, **inputs)
    for cache in (frozen(prefix), gather(prefix, rows, [0, 0])):
        assert cache is not None
        rest = tokens[:, cache.get_seq_length() :]
        columns = ends[-rest.shape[1] :]
        cached = logits_at(
            model, columns, input_ids=rest, past_key_values=cache, use_cache=True, **inputs
        )
        if differs(model, list(cached), list(uncached[:, -len(columns) :])):
            return False
    return True


def build_cache(
    model: nn.Module, rows: Sequence[Sequence[int]], prefix: PrefixCache | None = None
) -> PrefixCache | None:
    """Run the rows through the model and keep their keys and values.

    With more than one row, the model must accept `position_ids`. If `prefix` is given, all rows
    begin with its single row. None if the cache is incomplete, as where a window is shorter than a
    row.
    """
    tokens, mask = (tensor.to(device_of(model)) for tensor in left_padded(rows))
    cache = gather(prefix, rows, [0] * len(rows)) if prefix else None
    n_cached = 0 if cache is None else cache.get_seq_length()
    filled = model(
        input_ids=tokens[:, n_cached:],
        attention_mask=mask,
        past_key_values=cache,
        use_cache=True,
        **position_ids(model, mask, n_cached),
        **last_only(model),
    ).past_key_values
    if type(filled) is not DynamicCache or not filled.layers:
        return None
    layers = _key_value_layers(filled)
    complete = len(layers) == len(filled.layers) and all(
        layer.keys is not None and layer.keys.ndim == 4 and layer.keys.shape[2] == tokens.shape[1]
        for layer in layers
    )
    return PrefixCache(filled, [len(row) for row in rows]) if complete else None


def shared_prefix(model: nn.Module, rows: Sequence[list[int]]) -> PrefixCache | None:
    """The cache of the tokens that all rows begin with, if it saves enough and the model allows it.

    The rows are as much of each token row as may be shared: without its last token, or without the
    tokens whose successors are predicted.
    """
    length = common_prefix(rows) if rows else 0
    n_saved = length * (len(rows) - 1)
    if length < 1 or n_saved < MIN_TOKENS_SAVED or not can_share(model, rows):
        return None
    return build_cache(model, [rows[0][:length]])


def batch_cache(
    model: nn.Module,
    rows: Sequence[Sequence[int]],
    contexts: Sequence[Sequence[int]],
    prefix: PrefixCache | None,
) -> DynamicCache | None:
    """The cache that a batch starts from: of its contexts, if that saves work, or of the prefix.

    Each row begins with its context, which other rows may share, and all contexts begin with the
    single row of `prefix`. The model must accept `position_ids`.
    """
    lines = {context: line for line, context in enumerate(dict.fromkeys(map(tuple, contexts)))}
    n_cached = prefix.lengths[0] if prefix else 0
    cost_without = n_uncached(rows, [n_cached] * len(rows)) * len(rows)
    cost_with = (max(map(len, lines)) - n_cached) * len(lines) + MIN_TOKENS_SAVED
    cost_with += n_uncached(rows, [len(context) for context in contexts]) * len(rows)
    # A context that lies within the prefix has no tokens of its own to run.
    if min(map(len, lines)) > n_cached and cost_with < cost_without:
        built = build_cache(model, list(lines), prefix)
        if built:
            return gather(built, rows, [lines[tuple(context)] for context in contexts])
    return gather(prefix, rows, [0] * len(rows)) if prefix else None


def n_uncached(rows: Sequence[Sequence[int]], cached: Sequence[int]) -> int:
    """How many tokens to feed of every row, whose first `cached` ones are in the cache.

    All rows of a batch are fed the same number of tokens, so the row with the fewest cached tokens
    decides; at least one token is fed.
    """
    return max(len(row) - min(first, len(row) - 1) for row, first in zip(rows, cached, strict=True))


def gather(
    prefix: PrefixCache, rows: Sequence[Sequence[int]], lines: Sequence[int]
) -> DynamicCache | None:
    """A cache of their own for these rows, left-padded as they are; None if it would be empty.

    Each row begins with its cached row, whose number is in `lines`, or is the beginning of it.
    """
    n_fed = n_uncached(rows, [prefix.lengths[line] for line in lines])
    width = max(map(len, rows)) - n_fed
    if width == 0:
        return None
    column = torch.arange(width)
    shift = torch.tensor(
        [
            # The last column is the row's token number `len(row) - n_fed`, from another column.
            max(prefix.lengths) - prefix.lengths[line] + len(row) - n_fed - width
            for row, line in zip(rows, lines, strict=True)
        ]
    )
    # Padding may read any column that exists, because it is masked.
    columns = (column + shift[:, None]).clamp(min=0)
    chosen = torch.tensor(lines)[:, None]

    def gathered(states: Tensor) -> Tensor:
        """[cached rows, heads, cached width, size] to [rows, heads, width, size]."""
        index = chosen.to(states.device), columns.to(states.device)
        return states.transpose(1, 2)[index].transpose(1, 2)

    layers = [copy(layer) for layer in _key_value_layers(prefix.cache)]
    for layer in layers:
        assert layer.keys is not None
        assert layer.values is not None
        layer.keys, layer.values = gathered(layer.keys), gathered(layer.values)
        if isinstance(layer, DynamicSlidingWindowLayer):
            layer.cumulative_length = width
    return _with_layers(prefix, layers)


def frozen(prefix: PrefixCache) -> DynamicCache:
    """A cache that no forward pass changes: one row, expanded to any batch that is run with it."""
    return _with_layers(prefix, [_FrozenLayer(layer) for layer in _key_value_layers(prefix.cache)])


class _FrozenLayer(DynamicLayer):
    """Gives attention the prefix and the batch's own keys, and stores neither.

    So only one layer at a time holds a copy of the prefix for each row.
    """

    def __init__(self, layer: DynamicLayer) -> None:
        # Copies the state of a sliding layer too, but not its way of counting positions.
        self.__dict__.update(vars(layer))
        self.is_sliding = layer.is_sliding

    def update(
        self, key_states: Tensor, value_states: Tensor, *_: object, **__: object
    ) -> tuple[Tensor, Tensor]:
        return _appended(self.keys, key_states), _appended(self.values, value_states)


def _appended(prefix: Tensor | None, states: Tensor) -> Tensor:
    assert prefix is not None
    return torch.cat([prefix.expand(len(states), -1, -1, -1), states], dim=-2)


def _key_value_layers(cache: DynamicCache) -> list[DynamicLayer]:
    """The layers that contain only keys and values; a subclass may contain more."""
    plain = (DynamicLayer, DynamicSlidingWindowLayer)
    return [
        layer for layer in cache.layers if isinstance(layer, DynamicLayer) and type(layer) in plain
    ]


def _with_layers(prefix: PrefixCache, layers: Sequence[DynamicLayer]) -> DynamicCache:
    result = copy(prefix.cache)
    result.layers = list(layers)
    return result
