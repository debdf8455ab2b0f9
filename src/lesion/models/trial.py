"""Trials of a model in memory: a few rows run in two ways that should give the same logits."""

from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

FINE = 1e-3
"""Largest difference that is rounding in fp32, of the logits' standard deviation over the
vocabulary. Random models of a hundred families that honour their masks stay below 2e-5."""
COARSE, GROSS = 0.05, 0.25
"""The same for 16 bits: of the row that differs least, and of any. There rounding sends a token to
another expert now and then (0.11 in some rows of a deep Mixtral), while padding that counts shows
in all rows (0.1 and more), or grossly (a rotation for long rows: 0.4)."""


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
    """Whether logits differ by more than the model's dtype rounds.

    Args:
        model: what they are of.
        found: of each row that was run otherwise, [places, vocabulary].
        wanted: the same of each row alone.
    """
    gaps = [_gaps(*pair) for pair in zip(found, wanted, strict=True)]
    # NaN is no answer to compare, and no reason to trust what is tried: it is not below a limit.
    if all(one.dtype.itemsize > 2 for one in model.parameters()):
        return not bool(torch.stack([one.square().mean().sqrt() for one in gaps]).max() <= FINE)
    usual = torch.stack([one.median() for one in gaps])
    return not bool((usual.max() <= GROSS) & (usual.min() <= COARSE))


def _gaps(found: Tensor, wanted: Tensor) -> Tensor:
    """Root mean square difference at each place, of the standard deviation over the vocabulary."""
    found, wanted = found.float(), wanted.float()
    scale = wanted.var(-1, correction=0) + torch.finfo(torch.float32).tiny
    return ((found - wanted).square().mean(-1) / scale).sqrt()
