"""Ablation: set a mask's weights to zero in a model in memory, and restore them exactly."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from lesion.io.formats import LesionError
from lesion.models.layout import FlatIndices


@contextmanager
def lesioned(model: nn.Module, indices: Mapping[str, FlatIndices]) -> Iterator[None]:
    """Zero `indices` (flat, by parameter) inside the block, and restore the same bytes afterwards.

    Raises:
        LesionError: the mask names a parameter that the model lacks, or indices outside it.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    saved: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
    try:
        with torch.no_grad():
            for name, of_parameter in indices.items():
                saved.append(_zero(parameters, name, of_parameter))
        yield
    finally:
        with torch.no_grad():
            # In reverse order: under two names of one tensor, the first save has the true value.
            for flat, index, values in reversed(saved):
                flat[index] = values


def _zero(
    parameters: Mapping[str, nn.Parameter], name: str, indices: FlatIndices
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    if name not in parameters or (indices.size and int(indices[-1]) >= parameters[name].numel()):
        raise LesionError(f"the mask's `{name}` does not fit this model; it was made for another")
    flat = parameters[name].data.view(-1)
    index = torch.from_numpy(np.asarray(indices)).to(flat.device)
    values = flat[index].clone()
    flat[index] = 0
    return flat, index, values
