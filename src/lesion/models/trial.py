"""Trials of a model in memory: a few rows are run in two ways that should give equal logits.

Their results are kept for the model object, and, where jobs are forked from one server, for the
other jobs of the run that load the same checkpoint: a trial takes as long as several batches.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from lesion.io.formats import BadFile, digest, read_json
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


_Results = dict[tuple[str, bool], tuple[int, list[bool]]]
_RESULTS: WeakKeyDictionary[nn.Module, _Results] = WeakKeyDictionary()
_CHECKPOINTS: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()
_CHANGED: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()
"""Models whose weights are not those of their checkpoint, and how many changes they have."""


def share_results(model: nn.Module, checkpoint: str) -> None:
    """Share the trials of a model with the other jobs of the run that load this checkpoint.

    What is found with weights zeroed is not shared, since they may hide what the checkpoint's make
    of padding (`with_changed_weights`).

    Args:
        model: on the device and in the dtype that it is used with.
        checkpoint: the digest of its record.
    """
    weight = next(model.parameters())
    _CHECKPOINTS[model] = digest([checkpoint, str(weight.dtype), weight.device.type])


@contextmanager
def with_changed_weights(model: nn.Module) -> Iterator[None]:
    """Inside the block, the model's weights are not those of its checkpoint.

    Zeros can only hide the effects of padding and caches: that there are none is taken from trials
    of the checkpoint, and that there are some is tried again.
    """
    _CHANGED[model] = _CHANGED.get(model, 0) + 1
    try:
        yield
    finally:
        _CHANGED[model] -= 1


def cached_result(
    model: nn.Module, trial: str, length: int, find: Callable[[], Sequence[bool]]
) -> Sequence[bool]:
    """The cached result of `find` for a model and rows of up to `length` tokens.

    Windows, blocks and rotations show only in rows as long as the longest, so a result is valid up
    to that length, but not for rows of less than half of it. A job asks for few lengths.
    """
    results, changed = _RESULTS.setdefault(model, {}), bool(_CHANGED.get(model))
    key = f"{trial}, {(length - 1).bit_length()} bits"
    own = (key, changed)
    if own not in results or results[own][0] < length:
        shared = _shared_file(model, key)
        known = _read(shared) if shared else None
        if known is None or known[0] < length or (changed and not all(known[1])):
            known = length, list(find())
            if shared and not changed:
                _write(known, shared)
        results[own] = known
    return results[own][1]


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


def _write(known: tuple[int, list[bool]], file: Path) -> None:
    # The folder goes with the run, and nobody waits for the file: a job can always try itself.
    part = file.with_suffix(f".{os.getpid()}")
    with suppress(OSError):
        part.write_text(json.dumps(known), encoding="utf-8")
        part.replace(file)


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
