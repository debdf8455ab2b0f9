import re
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)
from transformers.pytorch_utils import Conv1D

from lesion.models.candidates import UnsupportedModel, find_candidates
from lesion.models.prepare import prepare
from lesion.models.record import transposed, unstored
from lesion_testing import families, make, tiny


def _stored(folder: Path) -> dict[str, tuple[int, ...]]:
    with safe_open(folder / "model.safetensors", "pt") as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def _found(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(one.weight.shape) for name, one in find_candidates(model).items()}


def test_llama_has_seven_matrices_a_block_named_as_in_the_checkpoint(tmp_path: Path) -> None:
    folder = make.llama(tmp_path, tiny.TEXTS)
    found = _found(AutoModelForCausalLM.from_pretrained(folder))
    stored = _stored(folder)
    assert len(found) == 14
    assert sum(rows * columns for rows, columns in found.values()) == 20_480
    assert found == {name: shape for name, shape in stored.items() if name in found}
    left = set(stored) - set(found)
    assert left == {name for name in stored if "norm" in name or "embed" in name}


def test_an_untied_head_is_no_candidate(tmp_path: Path) -> None:
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config)
    model.save_pretrained(tmp_path)
    assert "lm_head.weight" in _stored(tmp_path)
    assert len(found := _found(model)) == 7
    assert not [name for name in found if "head" in name or "embed" in name]


def test_gpt2s_transposed_linears_are_candidates(tmp_path: Path) -> None:
    model = GPT2LMHeadModel(GPT2Config(n_layer=2, n_embd=16, n_head=2, vocab_size=20))
    model.save_pretrained(tmp_path)
    found, stored = _found(model), _stored(tmp_path)
    assert all(one.kind == "conv1d" for one in find_candidates(model).values())
    assert len(found) == 8
    assert found["transformer.h.1.mlp.c_fc.weight"] == (16, 64)
    assert {name: stored[name] for name in found} == found


def test_a_model_without_blocks_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match="no list of transformer blocks"):
        find_candidates(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)))


class Block(nn.Module):
    """A block of one matrix."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner


def _blocks(*inner: nn.Module) -> nn.Module:
    model = nn.Module()
    model.layers = nn.ModuleList([Block(one) for one in inner])
    return model


def test_blocks_without_linear_weights_are_refused() -> None:
    with pytest.raises(UnsupportedModel, match="`layers` holds no dense linear weights"):
        find_candidates(_blocks(nn.LayerNorm(4), nn.LayerNorm(4)))


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.float8_e4m3fn])
def test_weights_of_a_quantised_type_are_refused_by_name(dtype: torch.dtype) -> None:
    model = _blocks(nn.Linear(3, 2))
    small = torch.zeros(2, 3).to(dtype)
    model.layers[0].inner.weight = nn.Parameter(small, requires_grad=False)
    with pytest.raises(UnsupportedModel, match=rf"layers\.0\.inner\.weight is {dtype}"):
        find_candidates(model)


def test_packed_weights_are_refused_by_name() -> None:
    model = _blocks(nn.Linear(3, 2))
    model.layers[0].inner.register_buffer("qweight", torch.zeros(1, dtype=torch.int32))
    with pytest.raises(UnsupportedModel, match=r"layers\.0\.inner\.qweight: quantised"):
        find_candidates(model)


@pytest.mark.parametrize("method", ["gptq", "awq", "fp8", "bitsandbytes", "mxfp4"])
def test_a_quantised_checkpoint_is_refused_before_a_weight_is_read(method: str) -> None:
    config = families.config("llama")
    config.quantization_config = {"quant_method": method}
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    with pytest.raises(UnsupportedModel, match=f"is quantised .*: {method}"):
        find_candidates(model)
    config.quantization_config = {"quant_method": method, "dequantize": True}
    assert len(find_candidates(model)) == 14


def test_quantised_text_in_a_multimodal_model_is_refused() -> None:
    model = families.model("llava")
    model.config.text_config.quantization_config = {"quant_method": "awq"}
    with pytest.raises(UnsupportedModel, match="LlavaForConditionalGeneration is quantised"):
        find_candidates(model)


def test_weights_stored_in_a_quantised_type_are_refused_by_name(tmp_path: Path) -> None:
    model = families.model("llama")
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    name = "model.layers.1.mlp.up_proj.weight"
    weights[name] = weights[name].to(torch.float8_e4m3fn)
    families.save(model, tmp_path / "source")
    save_file(weights, tmp_path / "source" / "model.safetensors", {"format": "pt"})
    with pytest.raises(UnsupportedModel, match=rf"{re.escape(name)} is stored as F8_E4M3"):
        prepare(tmp_path / "source", tmp_path / "out", dtype="float32", license_="mit")


def test_an_encoder_decoder_is_refused() -> None:
    config = T5Config(d_model=16, d_kv=4, d_ff=16, num_layers=1, num_heads=2, vocab_size=20)
    with pytest.raises(UnsupportedModel, match="T5ForConditionalGeneration is an encoder-decoder"):
        find_candidates(T5ForConditionalGeneration(config))


def test_a_block_used_twice_counts_once() -> None:
    block = Block(nn.Linear(3, 2))
    model = nn.Module()
    model.layers = nn.ModuleList([block, block])
    found = find_candidates(model)
    assert {name: one.kind for name, one in found.items()} == {"layers.0.inner.weight": "linear"}


def test_a_weight_that_two_modules_hold_counts_once_and_is_no_modules_own() -> None:
    model = _blocks(nn.Linear(3, 2), nn.Linear(3, 2))
    model.layers[1].inner.weight = model.layers[0].inner.weight
    found = find_candidates(model)
    assert {name: one.kind for name, one in found.items()} == {"layers.0.inner.weight": "direct"}


def test_a_tied_conv1d_is_still_transposed() -> None:
    model = _blocks(Conv1D(3, 2), Conv1D(3, 2))
    model.layers[1].inner.weight = model.layers[0].inner.weight
    (one,) = find_candidates(model).values()
    assert one.kind == "direct"
    assert one.transposed


def test_a_weight_tied_to_one_outside_the_blocks_is_refused_by_name() -> None:
    model = _blocks(nn.Linear(3, 2), nn.Linear(4, 5))
    model.embed = nn.Embedding(5, 4)
    model.layers[1].inner.weight = model.embed.weight
    with pytest.raises(UnsupportedModel, match=r"outside the blocks \(Embedding\)") as caught:
        find_candidates(model)
    assert "is tied" in str(caught.value)


def test_a_linear_with_a_forward_of_its_own_is_left_to_autograd() -> None:
    class Scaled(nn.Linear):
        def forward(self, values: torch.Tensor) -> torch.Tensor:
            return super().forward(values) / 2

    (one,) = find_candidates(_blocks(Scaled(3, 2))).values()
    assert one.kind == "direct"


def test_blocks_of_several_classes_and_lists_are_one_model() -> None:
    model = _blocks(nn.Linear(3, 2))
    model.layers.append(nn.Sequential(nn.Linear(2, 4)))
    model.more = nn.ModuleList([Block(nn.Linear(5, 2))])
    model.projections = nn.ModuleList([nn.Linear(5, 5)])
    assert list(find_candidates(model)) == [
        "layers.0.inner.weight",
        "layers.1.0.weight",
        "more.0.inner.weight",
    ]


class Mixture(nn.Module):
    """Experts one by one, their router, and a shared expert as wide as they are many."""

    def __init__(self, experts: int, width: int) -> None:
        super().__init__()
        self.router = nn.Linear(width, experts)
        self.experts = nn.ModuleList([nn.Linear(width, width) for _ in range(experts)])
        self.shared = nn.Sequential(nn.Linear(width, experts), nn.Linear(experts, width))
        self.shared_gate = nn.Linear(width, 1)


def test_experts_in_a_list_count_and_their_router_and_gate_do_not() -> None:
    found = list(find_candidates(_blocks(Mixture(6, 4))))
    assert found == [
        *(f"layers.0.inner.experts.{number}.weight" for number in range(6)),
        "layers.0.inner.shared.0.weight",
        "layers.0.inner.shared.1.weight",
    ]


def test_a_larger_vision_tower_with_as_many_blocks_is_left_out() -> None:
    model = families.model("gemma3")
    tower = sum(one.numel() for one in model.model.vision_tower.parameters())
    text = sum(one.numel() for one in model.model.language_model.parameters())
    assert tower > 5 * text
    assert all(".language_model.layers." in name for name in find_candidates(model))


def test_a_vision_model_inside_the_decoder_is_left_out() -> None:
    model = families.model("git")
    assert any("image_encoder" in name for name, _ in model.get_decoder().named_parameters())
    assert not [name for name in find_candidates(model) if "image_encoder" in name]


def test_wide_2d_parameters_of_stacked_experts_count() -> None:
    class Experts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w1 = nn.Parameter(torch.zeros(6 * 48, 32))
            self.router = nn.Parameter(torch.zeros(6, 32))

    model = families.model("llama")
    model.model.layers[0].mlp = Experts()
    found = find_candidates(model)
    assert found["model.layers.0.mlp.w1"].kind == "stacked"
    assert "model.layers.0.mlp.router" not in found


@pytest.mark.parametrize(
    ("name", "kind"),
    [("gemma3", "Gemma3ForConditionalGeneration"), ("llava", "LlavaForConditionalGeneration")],
)
def test_multimodal_models_open_whole(name: str, kind: str) -> None:
    assert type(families.model(name)).__name__ == kind


def test_a_checkpoint_without_the_models_prefix_is_stored_all_the_same(tmp_path: Path) -> None:
    model = families.model("gpt2")
    families.save(model, tmp_path / "source")
    bare = {key.removeprefix("transformer."): one for key, one in model.state_dict().items()}
    bare.pop("lm_head.weight")
    save_file(bare, tmp_path / "source" / "model.safetensors", {"format": "pt"})
    prepare(tmp_path / "source", tmp_path / "out", dtype="float32", license_="mit")
    assert unstored(tmp_path / "out") == []
    assert transposed(tmp_path / "out") == list(find_candidates(model))
