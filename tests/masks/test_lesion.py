from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lesion.io.formats import LesionError
from lesion.masks.lesion import lesioned

INDICES = {"0.weight": np.array([0, 5, 11]), "1.weight": np.array([2])}


def _model() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)).to(torch.bfloat16)
    with torch.no_grad():
        model[0].weight[0, 0] = -0.0  # a zero whose sign would be lost by adding it back
        model[0].weight[1, 1] = float("nan")
    return model


def _bits(model: nn.Module) -> dict[str, Tensor]:
    return {name: one.detach().view(torch.int16).clone() for name, one in model.named_parameters()}


def _same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def test_the_masks_weights_are_zero_inside_and_only_they() -> None:
    model = _model()
    before = _bits(model)
    with lesioned(model, INDICES):
        inside = _bits(model)
    for name, one in before.items():
        wanted = one.flatten().clone()
        wanted[torch.from_numpy(INDICES.get(name, np.empty(0, np.int64)))] = 0
        assert torch.equal(inside[name].flatten(), wanted)
    assert not _same(before, inside)
    assert _same(before, _bits(model))


def test_the_same_bytes_come_back_after_an_error() -> None:
    model = _model()
    before = _bits(model)
    with pytest.raises(RuntimeError, match="inside"), lesioned(model, INDICES):
        raise RuntimeError("inside")
    assert _same(before, _bits(model))


def test_a_mask_of_another_model_changes_nothing() -> None:
    model = _model()
    before = _bits(model)
    for wrong in ({"9.weight": np.array([0])}, {"1.weight": np.array([6])}):
        with (
            pytest.raises(LesionError, match="does not fit this model"),
            lesioned(model, {"0.weight": INDICES["0.weight"], **wrong}),
        ):
            pass
        assert _same(before, _bits(model))


def test_two_names_of_one_tensor() -> None:
    model = _model()
    model.append(nn.Linear(3, 2))
    model[2].weight = model[1].weight
    before = _bits(model)
    with lesioned(model, {"1.weight": np.array([2, 3]), "2.weight": np.array([3, 4])}):
        zeros = model[1].weight.flatten()[[2, 3, 4]]
        assert zeros.tolist() == [0, 0, 0]
    assert _same(before, _bits(model))


@pytest.mark.parametrize("ablation", ["mean", 0.5, 2.0, 0.0])
def test_weights_are_set_to_their_mean_or_scaled(ablation: Literal["mean"] | float) -> None:
    model = _model()
    with torch.no_grad():
        model[0].weight[1, 1] = 0.25
    before, bits = (
        {name: one.detach().clone() for name, one in model.named_parameters()},
        _bits(model),
    )
    with lesioned(model, INDICES, ablation):
        inside = {name: one.detach().clone() for name, one in model.named_parameters()}
    for name, one in before.items():
        places = torch.from_numpy(INDICES.get(name, np.empty(0, np.int64)))
        wanted = one.flatten().clone()
        if isinstance(ablation, str):
            wanted[places] = one.float().mean().to(one.dtype)
        else:
            wanted[places] *= ablation
        torch.testing.assert_close(inside[name].flatten(), wanted)
    assert _same(bits, _bits(model))
