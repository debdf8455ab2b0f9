"""Trials of a model in memory: a few rows are run in two ways that should give equal logits."""

from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

FINE = 1e-3
"""The largest difference that counts as rounding in fp32, relative to the logits' standard
deviation over the vocabulary. Random models of a hundred families that respect their masks stay
below 2e-5."""
COARSE, GROSS = 0.05, 0.25
"""The same for 16 bits: for the row with the smallest difference, and for any row. Rounding
sometimes routes a token to another expert (0.11 in some rows of a deep Mixtral), while padding that
matters shows in all rows (0.1 and more) or as a large difference (0.4 for a rotation for long
rows)."""


_Result = TypeVar("_Result")
_RESULTS: WeakKeyDictionary[nn.Module, dict[Hashable, tuple[int, object]]] = WeakKeyDictionary()


def cached_result(
    model: nn.Module, what: Hashable, length: int, find: Callable[[], _Result]
) -> _Result:
    """The cached result of `find` for a model object and rows of up to `length` tokens.

    Windows, blocks and rotations show only in rows as long as the longest, so a result is valid up
    to that length, but not for rows of less than half of it. A job asks for few lengths.
    """
    results = _RESULTS.setdefault(model, {})
    key = what, (length - 1).bit_length()
    if key not in results or results[key][0] < length:
        results[key] = length, find()
    return results[key][1]  # type: ignore[return-value]


def stretched(row: Sequence[int], length: int) -> list[int]:
    """The row cut, or repeated, to a length.

    A trial uses the tokens of real rows, since others may stand for an image or be unused.
    """
    return (list(row) * (1 + length // len(row)))[:length]


@torch.no_grad()
def differs(model: nn.Module, logits: Sequence[Tensor], wanted: Sequence[Tensor]) -> bool:
    """Whether logits differ by more than the model's dtype rounds.

    For each row of the trial, `logits` has [positions, vocabulary], and `wanted` the same for the
    row alone.
    """
    # At each position, the root mean square difference relative to the standard deviation.
    gaps = []
    for actual, expected in zip(logits, wanted, strict=True):
        actual, expected = actual.float(), expected.float()
        scale = expected.var(-1, correction=0) + torch.finfo(torch.float32).tiny
        gaps.append(((actual - expected).square().mean(-1) / scale).sqrt())
    # NaN must count as a difference, and a comparison with NaN is always false.
    if all(parameter.dtype.itemsize > 2 for parameter in model.parameters()):
        return not bool(torch.stack([gap.square().mean().sqrt() for gap in gaps]).max() <= FINE)
    usual = torch.stack([gap.median() for gap in gaps])
    return not bool((usual.max() <= GROSS) & (usual.min() <= COARSE))
