import re
from collections import Counter, defaultdict
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.models.falcon.modeling_falcon import FalconLinear
from transformers.pytorch_utils import Conv1D

from lesion.io.formats import read_json
from lesion.models.candidates import auto_class, find_candidates
from lesion.models.likelihood import response_losses
from lesion.models.prepare import prepare
from lesion.models.record import FORMAT, RECORD, candidate_shapes, transposed, unstored
from lesion.models.text import batches
from lesion_testing import families
from lesion_testing.families import FAMILIES

pytestmark = pytest.mark.slow

ROUTERS = ("router", "mlp.gate.", "shared_expert_gate", "block_sparse_moe.gate")
SHARED = {f"mlp.shared_expert.{one}_proj" for one in ("gate", "up", "down")}
FLAT = {
    "opt": {"fc1", "fc2"},
    "dbrx": {"ffn.router.layer"},
    "qwen2_moe": SHARED,
    "qwen3_next": SHARED,
}
"""Modules that see their positions in one dimension with the examples."""
DEEP = {"deepseek_v3": {"self_attn.kv_b_proj"}}
"""Modules that see a dimension more, of size 1, after that of the examples."""
UNCALLED = {"mamba": {"mixer.dt_proj"}, "jamba": {"mamba.dt_proj"}}
"""Modules whose weight is used without calling them."""
AGAIN = {"hrm_text"}
"""Families that run their blocks several times."""
OTHERWISE = {"gemma3", "llava", "qwen2_5_vl"}
"""Families that transformers renames as a whole between memory and file."""
PARTLY = {"hrm_text"}
"""Families that it renames in part, and whose attention is fused in the file."""
APART = {
    "mixtral",
    "qwen2_moe",
    "qwen3_moe",
    "olmoe",
    "granitemoe",
    "phimoe",
    "deepseek_v3",
    "jamba",
    "qwen3_next",
}
"""Families whose experts lie one by one in the file, and in one parameter in memory."""

every = pytest.mark.parametrize("name", FAMILIES)


@every
def test_the_matrices_of_the_text_decoders_blocks_are_found(name: str) -> None:
    model, family = families.model(name), FAMILIES[name]
    found, parameters = find_candidates(model), dict(model.named_parameters())
    owners = dict(model.named_modules())
    assert Counter(one.kind for one in found.values()) == family.found
    assert list(found) == [one for one in parameters if one in found]
    for key, one in found.items():
        assert parameters[key] is one.weight
        assert key.startswith(family.blocks)
        assert one.weight.ndim == (3 if one.kind == "stacked" and name != "dbrx" else 2)
        assert one.weight.is_floating_point()
        assert not key.endswith(("bias", "A_log"))
        # DBRX has its experts in 2-D parameters, which don't tell how many there are.
        routers = () if name == "dbrx" else ROUTERS
        assert not any(word in key for word in ("embed", "head", "conv", *routers))
        assert not isinstance(owners[key.rpartition(".")[0]], nn.Embedding | nn.LayerNorm)


@every
def test_what_is_left_out_of_the_blocks_is_no_matrix(name: str) -> None:
    model = families.model(name)
    found, owners = find_candidates(model), dict(model.named_modules())
    for key, parameter in model.named_parameters():
        own = key.rpartition(".")[0]
        if not key.startswith(FAMILIES[name].blocks) or key in found or parameter.ndim < 2:
            continue
        small = 1 in parameter.shape or key.endswith(("bias", "A_log", ".D"))
        assert small or isinstance(owners[own], nn.Conv1d) or any(one in key for one in ROUTERS)


@every
def test_the_same_is_found_without_weights(name: str) -> None:
    config = families.config(name)
    with torch.device("meta"):
        empty = auto_class(config).from_config(config)
    found, real = find_candidates(empty), find_candidates(families.model(name))
    assert {key: (one.kind, one.weight.shape) for key, one in found.items()} == {
        key: (one.kind, one.weight.shape) for key, one in real.items()
    }


@every
def test_a_linear_candidate_computes_what_torch_does(name: str) -> None:
    for one in find_candidates(families.model(name)).values():
        if one.kind == "linear":
            own = type(one.module).forward
            assert (own is nn.Linear.forward) == (not isinstance(one.module, FalconLinear))
            values = torch.randn(3, one.weight.shape[1])
            expected = nn.functional.linear(values, one.weight, one.module.bias)
            torch.testing.assert_close(one.module(values), expected)
        elif one.kind == "conv1d":
            assert type(one.module).forward is Conv1D.forward


def _calls(model: PreTrainedModel, tokens: Tensor) -> dict[str, list[tuple[int, ...]]]:
    """What each module of kind linear or conv1d is called with."""
    seen: dict[str, list[tuple[int, ...]]] = defaultdict(list)
    for key, one in find_candidates(model).items():
        if one.kind in ("linear", "conv1d"):
            seen[key.removesuffix(".weight")] = []
            one.module.register_forward_hook(
                lambda _, inputs, __, key=key: seen[key.removesuffix(".weight")].append(
                    tuple(inputs[0].shape)
                )
            )
    model(input_ids=tokens, use_cache=False)
    return seen


@every
def test_linear_modules_are_called_once_with_examples_and_positions(name: str) -> None:
    model = families.model(name)
    seen = _calls(model, torch.randint(3, families.VOCABULARY, (3, 7)))
    odd: dict[str, set[str]] = defaultdict(set)
    for key, shapes in seen.items():
        own = re.split(r"\.\d+\.", key, maxsplit=1)[1]
        if not shapes:
            odd["uncalled"].add(own)
            continue
        assert len(shapes) == 1 or name in AGAIN
        (shape,) = set(shapes)
        if shape[:-1] == (21,):
            odd["flat"].add(own)
        elif shape[:-1] == (3, 1, 7):
            odd["deep"].add(own)
        else:
            assert shape[:-1] == (3, 7), key
    assert odd["uncalled"] == UNCALLED.get(name, set())
    assert odd["flat"] == FLAT.get(name, set())
    assert odd["deep"] == DEEP.get(name, set())


@every
def test_autograds_scores_are_the_change_of_the_loss(name: str) -> None:
    """Against the loss with all candidates a little larger: its slope is the sum of scores."""
    model = families.model(name)
    (example,) = families.examples((9,))
    found = families.autograd_scores(model, example)
    assert all(bool(torch.isfinite(one).all()) for one in found.values())
    assert all(bool(one.any()) for one in found.values())
    expected = sum(float(one.double().sum()) for one in found.values())
    losses = [_loss(model, example, factor) for factor in (1 - STEP, 1 + STEP)]
    size = sum(abs(float(one.double().sum())) for one in found.values())
    assert (losses[1] - losses[0]) / (2 * STEP) == pytest.approx(expected, abs=0.002 * size + 2e-4)


STEP = 2e-3
"""Small enough that no router chooses differently."""


def _loss(model: PreTrainedModel, example: families.Example, factor: float) -> float:
    kept = {key: one.weight.data.clone() for key, one in find_candidates(model).items()}
    (batch,) = batches([example], 1)
    with torch.no_grad():
        for one in find_candidates(model).values():
            one.weight.mul_(factor)
        loss = float(response_losses(model, batch).sum())
        for key, one in find_candidates(model).items():
            one.weight.copy_(kept[key])
    return loss


def test_an_expert_that_sees_no_token_has_scores_of_zero() -> None:
    model = families.model("mixtral")
    (example,) = families.examples((3,))
    found = families.autograd_scores(model, example)
    used = found["model.layers.0.mlp.experts.down_proj"].abs().amax((1, 2)) > 0
    assert 0 < int(used.sum()) < 6


@every
def test_the_record_tells_what_the_files_do_not_hold(name: str, tmp_path: Path) -> None:
    model = families.model(name)
    families.save(model, tmp_path / "source")
    prepare(tmp_path / "source", tmp_path / "out", dtype="float32", license_="mit")
    found = find_candidates(model)
    assert candidate_shapes(tmp_path / "out") == {
        key: tuple(one.weight.shape) for key, one in found.items()
    }
    assert transposed(tmp_path / "out") == [key for key, one in found.items() if one.transposed]
    assert transposed(tmp_path / "out") == (list(found) if name == "gpt2" else [])
    stacked = [key for key, one in found.items() if one.kind == "stacked"]
    expected = list(found) if name in OTHERWISE else stacked if name in APART else []
    if name in PARTLY:
        assert len(unstored(tmp_path / "out")) == 28
    else:
        assert unstored(tmp_path / "out") == expected
    assert read_json(tmp_path / "out" / RECORD)["format"] == FORMAT
