"""GGUF files, written as llama.cpp's converter writes them."""

from collections.abc import Callable, Sequence
from pathlib import Path

import gguf
import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
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
ROTARY = ("self_attn.q_proj", "self_attn.k_proj")
SPECIAL = 3
"""GGUF's type of a control token; others have 1."""


def write_gguf(
    path: Path,
    model: PreTrainedModel,
    words: Sequence[str],
    end: int,
    *,
    special: Sequence[str],
    merges: Sequence[str],
    template: str | None = None,
    keep: Callable[[str], bool] = lambda _: True,
    change: Callable[[str, torch.Tensor], torch.Tensor] = lambda _, weight: weight,
    more: Callable[[gguf.GGUFWriter], object] = lambda _: None,
) -> None:
    """Write a Llama and its byte-level tokenizer into one file.

    Args:
        path: the file.
        model: a Llama with as many key heads as heads.
        words: its tokenizer's words, in the order of their ids.
        end: id of the token that ends a text.
        special: those of the words that are control tokens.
        merges: pairs of words; the format wants at least one.
        template: of a chat.
        keep: which parameters to write, by their names.
        change: another value for a parameter.
        more: writes further keys.
    """
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_attention_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(words))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(words)
    writer.add_token_types([SPECIAL if word in special else 1 for word in words])
    writer.add_token_merges(merges)
    writer.add_eos_token_id(end)
    if template is not None:
        writer.add_chat_template(template)
    more(writer)
    for name, weight in model.named_parameters():
        if keep(name):
            values = change(name, weight.detach()).float().numpy()
            writer.add_tensor(*_tensor(name, values, config.num_attention_heads))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _tensor(name: str, values: NDArray[np.float32], heads: int) -> tuple[str, NDArray[np.float32]]:
    """A parameter's name and layout in a GGUF file; rotary halves lie interleaved there."""
    own = name.removesuffix(".weight")
    if own in NAMES:
        return f"{NAMES[own]}.weight", values
    _, _, layer, part = own.split(".", 3)
    if part in ROTARY:
        halves = values.reshape(heads, 2, -1, values.shape[1])
        values = np.ascontiguousarray(halves.swapaxes(1, 2).reshape(values.shape))
    return f"blk.{layer}.{NAMES[part]}.weight", values
