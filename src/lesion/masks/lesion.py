"""Ablation: set a mask's weights to zero in a model in memory, and restore them exactly.

To set them to another value is the exception (`responses.ablation`).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from lesion.io.formats import LesionError
from lesion.models.layout import FlatIndices
from lesion.models.trial import with_changed_weights
from lesion.study.types import Ablation


class Zeroed(NamedTuple):
    """Weights of one parameter that have been zeroed, and their values before."""

    parameter: nn.Parameter
    where: Tensor
    values: Tensor


@contextmanager
def lesioned(
    model: nn.Module, indices: Mapping[str, FlatIndices], ablation: Ablation = "zero"
) -> Iterator[None]:
    """Zero `indices` (flat, by parameter) inside the block, and restore the same bytes afterwards.

    With another `ablation` they are set to their parameter's mean, or multiplied by a number.

    Raises:
        LesionError: the mask names a parameter that the model lacks, or indices outside it.
    """
    zeroed = zero(model, indices)
    with torch.no_grad():
        for parameter, index, values in zeroed if ablation != "zero" else ():
            flat = parameter.data.view(-1)
            if isinstance(ablation, str):
                # Of the parameter as it was, so that the mask's own weights count.
                total = flat.float().sum() + values.float().sum()
                flat[index] = (total / flat.numel()).to(flat.dtype)
            else:
                flat[index] = values * ablation
    try:
        with with_changed_weights(model) if zeroed else nullcontext():
            yield
    finally:
        with torch.no_grad():
            # In reverse order: under two names of one tensor, the first save has the true value.
            for parameter, index, values in reversed(zeroed):
                parameter.data.view(-1)[index] = values


def zero(model: nn.Module, indices: Mapping[str, FlatIndices]) -> list[Zeroed]:
    """Zero `indices` (flat, by parameter): all of them or, if they do not fit, none.

    Raises:
        LesionError: the mask names a parameter that the model lacks or that is not in memory, or
            indices outside it.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for name, own in indices.items():
        if name not in parameters or (own.size and own[-1] >= parameters[name].numel()):
            raise LesionError(
                f"the mask's `{name}` does not fit this model; it was made for another"
            )
        if parameters[name].device.type == "meta":
            raise LesionError(
                f"`{name}` is not in memory, so it can't be zeroed. Load the model without "
                "offloading to disk or CPU"
            )
    zeroed = []
    for name, own in indices.items():
        flat = parameters[name].data.view(-1)
        index = torch.from_numpy(np.asarray(own)).to(flat.device)
        zeroed.append(Zeroed(parameters[name], index, flat[index].clone()))
        flat[index] = 0
    return zeroed
