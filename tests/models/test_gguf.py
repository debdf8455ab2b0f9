"""A GGUF file, written as llama.cpp's converter writes it, becomes the same checkpoint."""

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lesion.models.candidates import UnsupportedModel
from lesion.models.load import Loaded, load
from lesion.models.prepare import prepare
from lesion.models.record import read_record
from lesion_testing import tiny

HEADS = 2
NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def _tensor(name: str, weight: torch.Tensor) -> tuple[str, NDArray[np.float32]]:
    """A parameter's name and layout in a GGUF file; rotary halves lie interleaved there."""
    values = weight.float().numpy()
    if not name.startswith("model.layers."):
        short = {"model.embed_tokens.weight": "token_embd", "model.norm.weight": "output_norm"}
        return f"{short[name]}.weight", values
    _, _, layer, part = name.removesuffix(".weight").split(".", 3)
    if part in ("self_attn.q_proj", "self_attn.k_proj"):
        halves = values.reshape(HEADS, 2, -1, values.shape[1])
        values = np.ascontiguousarray(halves.swapaxes(1, 2).reshape(values.shape))
    return f"blk.{layer}.{NAMES[part]}.weight", values


def _write(path: Path, subject: Loaded) -> None:
    config, tokenizer = subject.model.config, subject.tokenizer
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config.vocab_size)
    words = tokenizer.convert_ids_to_tokens(range(config.vocab_size))
    words[-3:] = ["a", "b", "ab"]  # the format wants at least one merge
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(words)
    writer.add_token_types([3 if word.startswith("<|") else 1 for word in words])
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(tokenizer.eos_token_id)
    for name, weight in subject.model.named_parameters():
        writer.add_tensor(*_tensor(name, weight))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    return tiny.loaded(tiny.checkpoint(tmp_path_factory.mktemp("gguf")))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_same_weights_come_out(subject: Loaded, tmp_path: Path, dtype: str) -> None:
    source = tmp_path / "tiny.gguf"
    _write(source, subject)
    prepare(source, tmp_path / "model", dtype=dtype, license_="mit")
    assert read_record(tmp_path / "model")["architecture"] == "LlamaForCausalLM"
    again = load(tmp_path / "model", "float32", 1).model
    kept = {
        name: one.to(getattr(torch, dtype)).float()
        for name, one in subject.model.state_dict().items()
    }
    for name, one in again.state_dict().items():
        assert torch.equal(one, kept[name]), name
    if dtype == "float32":
        tokens = torch.tensor([[5, 9, 3, 11]])
        torch.testing.assert_close(again(tokens).logits, subject.model(tokens).logits)
    assert str(tmp_path) not in (tmp_path / "model" / "config.json").read_text()


def test_a_truncated_gguf_file_leaves_nothing(subject: Loaded, tmp_path: Path) -> None:
    source = tmp_path / "tiny.gguf"
    _write(source, subject)
    source.write_bytes(source.read_bytes()[:20_000])
    with pytest.raises(UnsupportedModel, match=r"tiny\.gguf: is not whole"):
        prepare(source, tmp_path / "model", dtype="float32", license_="mit")
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.gguf"]
