"""Trials of a model in memory: a few rows run in two ways that should give the same logits."""

from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-3}
COARSE = 0.05
"""Of the logits' standard deviation, for 16 bits. Random models of a hundred families that honour
their masks stay below 2e-5 in fp32 and, but for one, 0.02 in bf16; the others are above 0.06."""

_Found = TypeVar("_Found")
_KNOWN: WeakKeyDictionary[nn.Module, dict[Hashable, tuple[int, object]]] = WeakKeyDictionary()


def known(model: nn.Module, what: Hashable, length: int, find: Callable[[], _Found]) -> _Found:
    """What `find` says of a model object and rows of up to `length` tokens.

    Windows, blocks and rotations show only in rows as long as the longest, so what was found holds
    up to that length, and not for rows of less than half of it. A job asks for few lengths.
    """
    found = _KNOWN.setdefault(model, {})
    key = what, (length - 1).bit_length()
    if key not in found or found[key][0] < length:
        found[key] = length, find()
    return found[key][1]  # type: ignore[return-value]


def stretched(row: Sequence[int], length: int) -> list[int]:
    """The row cut, or repeated, to a length.

    A trial takes real rows' tokens: others may stand for an image, or be no word at all.
    """
    return (list(row) * (1 + length // len(row)))[:length]


@torch.no_grad()
def differs(model: nn.Module, found: Sequence[Tensor], wanted: Sequence[Tensor]) -> bool:
    """Whether logits [places, vocabulary] of any row differ by more than the dtype rounds."""
    limit = max(TOLERANCE.get(one.dtype, COARSE) for one in model.parameters())
    # NaN is no answer to compare, and no reason to trust the padding.
    return not all(_distance(*pair) <= limit for pair in zip(found, wanted, strict=True))


def _distance(found: Tensor, wanted: Tensor) -> float:
    """Root mean square difference, of the standard deviation over the vocabulary."""
    found, wanted = found.float(), wanted.float()
    gaps = (found - wanted).square().mean(-1)
    scale = wanted.var(-1, correction=0) + torch.finfo(torch.float32).tiny
    return float((gaps / scale).mean().sqrt())
