"""Trials of a model in memory: a few rows are run in two ways that should give equal logits.

Their results are kept for the model object, and, where jobs are forked from one server, for the
other jobs of the run that load the same checkpoint: a trial takes as long as several batches.
"""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from lesion.io.formats import BadFile, digest, read_json, write_json
from lesion.preload.names import RUN_FOLDER

FINE = 1e-3
"""The largest difference that counts as rounding in fp32, relative to the logits' standard
deviation over the vocabulary. Random models of a hundred families that respect their masks stay
below 2e-5."""
COARSE, GROSS = 0.05, 0.25
"""The same for 16 bits: for the row with the smallest difference, and for any row. Rounding
sometimes routes a token to another expert (0.11 in some rows of a deep Mixtral), while padding that
matters shows in all rows (0.1 and more) or as a large difference (0.4 for a rotation for long
rows)."""


_Results = dict[str, tuple[int, list[bool]]]
_RESULTS: WeakKeyDictionary[nn.Module, _Results] = WeakKeyDictionary()
_CHECKPOINTS: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()


def share_results(model: nn.Module, checkpoint: str) -> None:
    """Share the trials of a model with the other jobs of the run that load this checkpoint.

    A mask changes none of them: they ask what a model's structure makes of padding and caches, and
    a weight that is zero can only hide that.

    Args:
        model: on the device and in the dtype that it is used with.
        checkpoint: the digest of its record.
    """
    weight = next(model.parameters())
    _CHECKPOINTS[model] = digest([checkpoint, str(weight.dtype), weight.device.type])


def cached_result(
    model: nn.Module, trial: str, length: int, find: Callable[[], Sequence[bool]]
) -> Sequence[bool]:
    """The cached result of `find` for a model and rows of up to `length` tokens.

    Windows, blocks and rotations show only in rows as long as the longest, so a result is valid up
    to that length, but not for rows of less than half of it. A job asks for few lengths.
    """
    results = _RESULTS.setdefault(model, {})
    key = f"{trial}, {(length - 1).bit_length()} bits"
    if key not in results or results[key][0] < length:
        shared = _shared_file(model, key)
        known = _read(shared) if shared else None
        if known is None or known[0] < length:
            known = length, list(find())
            if shared:
                # The folder goes with the run, and a job that outlives it needs no file.
                with suppress(OSError):
                    write_json(known, shared)
        results[key] = known
    return results[key][1]


def _shared_file(model: nn.Module, key: str) -> Path | None:
    folder, checkpoint = os.environ.get(RUN_FOLDER), _CHECKPOINTS.get(model)
    if not folder or checkpoint is None or not Path(folder).is_dir():
        return None
    return Path(folder, f"trial-{digest([checkpoint, key])}.json")


def _read(file: Path) -> tuple[int, list[bool]] | None:
    try:
        length, result = read_json(file)
    except (OSError, BadFile):
        return None
    return length, result


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
