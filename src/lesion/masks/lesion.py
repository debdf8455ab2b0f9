"""Zero a mask's weights in a model in memory, and take it back exactly."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from lesion.io.formats import LesionError
from lesion.models.layout import Places


class Zeroed(NamedTuple):
    """Weights of one parameter that are zero now, and what they were."""

    parameter: nn.Parameter
    where: Tensor
    values: Tensor


@contextmanager
def lesioned(model: nn.Module, indices: Mapping[str, Places]) -> Iterator[None]:
    """Zero `indices` (flat places per parameter) inside the block; restore the same bytes after.

    Raises:
        LesionError: the mask names a parameter the model lacks, or places outside it.
    """
    zeroed = zero(model, indices)
    try:
        yield
    finally:
        with torch.no_grad():
            # Backwards: under two names of one tensor a place is held twice, the first time whole.
            for parameter, where, values in reversed(zeroed):
                parameter.data.view(-1)[where] = values


def zero(model: nn.Module, indices: Mapping[str, Places]) -> list[Zeroed]:
    """Zero `indices` (flat places per parameter); all of them or, if they do not fit, none.

    Raises:
        LesionError: the mask names a parameter the model lacks, or places outside it.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for name, places in indices.items():
        if name not in parameters or (places.size and places[-1] >= parameters[name].numel()):
            raise LesionError(
                f"the mask's `{name}` does not fit this model; it was made for another"
            )
    return [_zeroed(parameters[name], places) for name, places in indices.items()]


def _zeroed(parameter: nn.Parameter, places: Places) -> Zeroed:
    flat = parameter.data.view(-1)
    where = torch.from_numpy(np.asarray(places)).to(flat.device)
    values = flat[where].clone()
    flat[where] = 0
    return Zeroed(parameter, where, values)
