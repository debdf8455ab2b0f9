from pathlib import Path

import make
import pytest
import tiny
import torch
from safetensors import safe_open
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)
from transformers.pytorch_utils import Conv1D

from lesion.models.candidates import UnsupportedModel, find_candidates


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
    assert all(isinstance(one, Conv1D) for one in find_candidates(model).values())
    assert len(found) == 8
    assert found["transformer.h.1.mlp.c_fc.weight"] == (16, 64)
    assert {name: stored[name] for name in found} == found


def test_a_model_without_blocks_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match="no list of transformer blocks"):
        find_candidates(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)))


def test_blocks_without_linear_weights_are_refused() -> None:
    model = nn.Module()
    model.layers = nn.ModuleList([nn.LayerNorm(4), nn.LayerNorm(4)])
    with pytest.raises(UnsupportedModel, match="`layers` holds no dense linear weights"):
        find_candidates(model)


def test_integer_weights_are_refused_by_name() -> None:
    model = nn.Module()
    model.layers = nn.ModuleList([nn.Linear(2, 2)])
    whole = torch.zeros(2, 2, dtype=torch.int8)
    model.layers[0].weight = nn.Parameter(whole, requires_grad=False)
    with pytest.raises(UnsupportedModel, match=r"layers\.0\.weight is torch\.int8"):
        find_candidates(model)
