"""Whether padding changes a model's answers, decided by a trial and not by a list of names.

A batch must not change an answer. Attention ignores masked positions, but some models carry a state
through the padding, count positions by column, divide a row into blocks by column, or have
rotations that depend on the length of the longest row. A few rows are run together and alone; if
the logits differ by more than rounding, the model gets batches of a single length.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple
from weakref import WeakSet

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from lesion.models.prefix import device_of, left_padded, logits_at, position_ids
from lesion.models.text import consecutive_groups
from lesion.models.trial import cached_result, differs, stretched

logger = logging.getLogger(__name__)

Mode = Literal["right", "left", "generate"]
"""Teacher forcing pads on the right. Predicting the next token needs padding on the left, and so
does generation, which continues from a cache."""

SHORT, STEPS, EDGE = 5, 3, 8
"""Tokens of the shortest row, generated tokens, and positions compared at either end of a row."""


_WARNED: WeakSet[nn.Module] = WeakSet()


class Batching(NamedTuple):
    """Whether a batch may have rows of different lengths, and several rows, without effect."""

    padded: bool
    together: bool

    def size(self, wanted: int) -> int:
        """The number of rows, or padded tokens, of a batch."""
        return wanted if self.together else 1


def batching(
    model: nn.Module, mode: Mode, rows: Sequence[Sequence[int]], new: int = 0, size: int = 2
) -> Batching:
    """What batches of these rows may contain; one trial of three rows for each model and length.

    The trial uses the tokens of the rows, after each of which `new` tokens will be generated. A
    single row, and batches of `size` 1, need no trial.
    """
    rows = [row for row in rows if row]
    if min(len(rows), size) < 2:
        return Batching(padded=True, together=True)
    longest = max(map(len, rows)) + new
    steps = min(STEPS, new)
    limits = Batching(
        *cached_result(
            model, mode, longest, lambda: _trial(model, mode, rows, longest - steps, steps)
        )
    )
    if not limits.padded and model not in _WARNED:
        _WARNED.add(model)
        kind = "rows of one length" if limits.together else "a single row"
        logger.warning(
            f"{type(model).__name__}: padding changes its answers, so each batch holds {kind}"
        )
    return limits


def alike(lengths: Sequence[int], size: int) -> Iterator[list[int]]:
    """Row numbers in batches of one length, at most `size` each, the shortest rows first."""
    order = sorted(range(len(lengths)), key=lambda row: (lengths[row], row))
    return consecutive_groups(
        order, lambda batch, row: len(batch) < size and lengths[batch[0]] == lengths[row]
    )


@contextmanager
def own_settings_aside(model: Any) -> Iterator[None]:
    """Inside the block, `generate` ignores the checkpoint's own generation_config.

    That may sample or penalise, and `generate` reads from it whatever is not set explicitly.
    """
    own, model.generation_config = model.generation_config, GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = own


@torch.no_grad()
def _trial(
    model: nn.Module, mode: Mode, sample: Sequence[Sequence[int]], width: int, steps: int
) -> Batching:
    longest, shortest = max(sample, key=len), min(sample, key=len)
    half = width // 2 + 1
    rows = [
        stretched(longest, width),
        stretched(shortest, half),
        stretched(shortest, min(SHORT, width)),
        stretched(longest[::-1], half),
    ]
    # Generation continues from the state after padding, but hides soon what a full pass shows.
    modes: list[Mode] = ["left", "generate"] if mode == "generate" else [mode]

    def same(*batches: tuple[int, ...]) -> bool:
        """Whether all rows of each batch but the first have the same logits as alone."""
        others = [row for batch in batches for row in batch[1:]]
        for each in modes:
            together = [
                logits
                for batch in batches
                for logits in _logits(model, each, [rows[row] for row in batch], steps)[1:]
            ]
            alone = [_logits(model, each, [rows[row]], steps)[0] for row in others]
            if differs(model, together, alone):
                return False
        return True

    if same((0, 1, 2)):
        return Batching(padded=True, together=True)
    return Batching(padded=False, together=same((1, 3), (3, 1)))


def _logits(model: nn.Module, mode: Mode, rows: list[list[int]], steps: int) -> list[Tensor]:
    """Each row's logits [positions, vocabulary] at both ends, or of generated tokens."""
    if mode == "generate":
        return _written(model, rows, steps)
    device = device_of(model)
    left = mode == "left"
    filler = rows[0][-1]  # a real token, so that a model that reads the padding is noticed
    # A row padded on the right is a reversed row padded on the left.
    tokens, mask = (
        (tensor if left else tensor.flip(1)).to(device)
        for tensor in left_padded([row if left else row[::-1] for row in rows], filler)
    )
    starts = [tokens.shape[1] - len(row) if left else 0 for row in rows]
    columns = [
        [start + index for index in range(len(row)) if not EDGE <= index < len(row) - EDGE]
        for start, row in zip(starts, rows, strict=True)
    ]
    needed = sorted(set().union(*columns))
    output = logits_at(
        model,
        torch.tensor(needed, device=device),
        input_ids=tokens,
        attention_mask=mask,
        **(position_ids(model, mask) if left else {}),
        use_cache=False,
    )
    return [
        output[row, [needed.index(column) for column in own]] for row, own in enumerate(columns)
    ]


def _written(model: Any, rows: list[list[int]], steps: int) -> list[Tensor]:
    """Logits [steps, vocabulary] of each row while it is forced to generate its own tokens."""
    tokens, mask = (tensor.to(model.device) for tensor in left_padded(rows, rows[0][-1]))
    forced = torch.tensor([stretched(row, steps) for row in rows], device=model.device)
    config = GenerationConfig(
        max_new_tokens=steps,
        do_sample=False,
        pad_token_id=rows[0][-1],
        output_logits=True,
        return_dict_in_generate=True,
    )
    with own_settings_aside(model):
        output = model.generate(
            tokens,
            attention_mask=mask,
            generation_config=config,
            logits_processor=LogitsProcessorList([_Forced(forced, tokens.shape[1])]),
        )
    return list(torch.stack(output.logits, 1))


class _Forced(LogitsProcessor):
    """Forces given tokens, because greedy ones may differ by rounding, and then all that follow.

    `tokens` are int64 [rows, steps]; `start` is the number of columns before the first.
    """

    def __init__(self, tokens: Tensor, start: int) -> None:
        self.tokens, self.start = tokens, start

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores [rows, vocabulary] that allow a single token."""
        chosen = self.tokens[:, input_ids.shape[1] - self.start, None]
        return torch.full_like(scores, -torch.inf).scatter(1, chosen, 0.0)
