"""Zero a mask's weights in a model in memory, and take it back exactly."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from lesion.io.formats import LesionError
from lesion.models.layout import Places


@contextmanager
def lesioned(model: nn.Module, indices: Mapping[str, Places]) -> Iterator[None]:
    """Zero `indices` (flat places per parameter) inside the block; restore the same bytes after.

    Raises:
        LesionError: the mask names a parameter the model lacks, or places outside it.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    held: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
    try:
        with torch.no_grad():
            for name, places in indices.items():
                held.append(_zero(parameters, name, places))
        yield
    finally:
        with torch.no_grad():
            # Backwards: under two names of one tensor a place is held twice, the first time whole.
            for flat, where, values in reversed(held):
                flat[where] = values


def _zero(
    parameters: Mapping[str, nn.Parameter], name: str, places: Places
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    if name not in parameters or (places.size and int(places[-1]) >= parameters[name].numel()):
        raise LesionError(f"the mask's `{name}` does not fit this model; it was made for another")
    flat = parameters[name].data.view(-1)
    where = torch.from_numpy(np.asarray(places)).to(flat.device)
    values = flat[where].clone()
    flat[where] = 0
    return flat, where, values
