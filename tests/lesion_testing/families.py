"""Tiny random models, one of each family, and their scores by plain autograd."""

from pathlib import Path
from string import ascii_lowercase
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedModel

from lesion.models.candidates import auto_class, find_candidates
from lesion.models.chat import Chat
from lesion.models.chat_format import ChatFormat
from lesion.models.likelihood import response_losses
from lesion.models.text import Example, batches
from lesion_testing.tokenizers import of_letters

VOCABULARY = 60
SPECIAL = ("<pad>", "<s>", "</s>")


class Family(NamedTuple):
    """A model type of transformers, tiny settings, and what is found in two blocks.

    `found` has the candidates of each kind, and `blocks` where their names start.
    """

    settings: dict[str, Any]
    found: dict[str, int]
    blocks: str | tuple[str, ...] = "model.layers."
    kind: str | None = None
    """The model type, where several families have the same."""


_SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_OLD = {
    "vocab_size": VOCABULARY,
    "initializer_range": 0.3,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 24, "num_experts": 6}
_LOCAL = {"num_local_experts": 6, "num_experts_per_tok": 2}
_MAMBA = {"mamba_d_state": 4, "mamba_d_conv": 4, "mamba_expand": 2}
_VISION = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 28,
    "patch_size": 14,
    "vocab_size": VOCABULARY,
}
"""Larger than the decoder beside it, and with as many blocks."""


def _wrapped(text: dict[str, Any], vision: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "text_config": {**_SIZES, "tie_word_embeddings": False, **text},
        "vision_config": vision,
        **more,
    }


FAMILIES: dict[str, Family] = {
    "llama": Family(_SIZES, {"linear": 14}),
    "mistral": Family(_SIZES, {"linear": 14}),
    "qwen2": Family({**_SIZES, "tie_word_embeddings": True}, {"linear": 14}),
    "qwen3": Family(_SIZES, {"linear": 14}),
    "gemma2": Family(_SIZES, {"linear": 14}),
    "gemma3_text": Family(_SIZES, {"linear": 14}),
    "stablelm": Family(_SIZES, {"linear": 14}),
    "cohere": Family(_SIZES, {"linear": 14}),
    "olmo2": Family(_SIZES, {"linear": 14}),
    "phi": Family(_SIZES, {"linear": 12}),
    "phi3": Family(_SIZES, {"linear": 8}),
    "gpt_neox": Family(_SIZES, {"linear": 8}, "gpt_neox.layers."),
    "bloom": Family(
        {**_OLD, "hidden_size": 32, "n_layer": 2, "n_head": 4}, {"linear": 8}, "transformer.h."
    ),
    "mpt": Family(
        {**_OLD, "d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 64},
        {"linear": 8},
        "transformer.blocks.",
    ),
    "falcon": Family(
        {**_OLD, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4},
        {"linear": 8},
        "transformer.h.",
    ),
    "opt": Family(
        {
            **_OLD,
            "hidden_size": 32,
            "ffn_dim": 48,
            "init_std": 0.3,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": 64,
            "word_embed_proj_dim": 16,
        },
        {"linear": 12},
        "model.decoder.layers.",
    ),
    "gpt2": Family(
        {**_OLD, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
        {"conv1d": 8},
        "transformer.h.",
    ),
    "gptj": Family(
        {**_OLD, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "rotary_dim": 4},
        {"linear": 12},
        "transformer.h.",
    ),
    "modernbert-decoder": Family(
        {
            **_OLD,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "cls_token_id": 1,
            "sep_token_id": 2,
        },
        {"linear": 12},
    ),
    "mixtral": Family({**_SIZES, **_LOCAL}, {"linear": 8, "stacked": 4}),
    "qwen2_moe": Family(
        {**_SIZES, **_EXPERTS, "shared_expert_intermediate_size": 40}, {"linear": 14, "stacked": 4}
    ),
    "qwen3_moe": Family({**_SIZES, **_EXPERTS}, {"linear": 8, "stacked": 4}),
    "olmoe": Family({**_SIZES, **_EXPERTS}, {"linear": 8, "stacked": 4}),
    "gpt_oss": Family({**_SIZES, **_LOCAL, "num_experts": 6}, {"linear": 8, "stacked": 4}),
    "jetmoe": Family(
        {**_SIZES, "kv_channels": 8, "num_local_experts": 6, "num_experts_per_tok": 2},
        {"linear": 2, "stacked": 8},
    ),
    "granitemoe": Family({**_SIZES, **_LOCAL}, {"linear": 8, "stacked": 4}),
    "phimoe": Family({**_SIZES, **_LOCAL}, {"linear": 8, "stacked": 4}),
    "deepseek_v3": Family(
        {
            **_SIZES,
            "num_key_value_heads": 4,
            "n_routed_experts": 6,
            "num_experts_per_tok": 2,
            "n_group": 2,
            "topk_group": 1,
            "moe_intermediate_size": 24,
            "first_k_dense_replace": 1,
            "q_lora_rank": 12,
            "kv_lora_rank": 12,
            "qk_rope_head_dim": 4,
            "qk_nope_head_dim": 4,
            "v_head_dim": 8,
            "head_dim": 4,
        },
        {"linear": 16, "stacked": 2},
    ),
    "mamba": Family(
        {**_OLD, "hidden_size": 32, "state_size": 4, "num_hidden_layers": 2, "time_step_rank": 4},
        {"linear": 8},
        "backbone.layers.",
    ),
    "mamba2": Family(
        {
            **_OLD,
            "hidden_size": 32,
            "state_size": 4,
            "num_hidden_layers": 2,
            "num_heads": 8,
            "head_dim": 8,
            "n_groups": 2,
            "chunk_size": 8,
        },
        {"linear": 4},
        "backbone.layers.",
    ),
    "jamba": Family(
        {
            **_SIZES,
            **_MAMBA,
            "num_hidden_layers": 4,
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "expert_layer_period": 2,
            "expert_layer_offset": 1,
            "num_experts": 6,
            "num_experts_per_tok": 2,
            "mamba_dt_rank": 4,
            "use_mamba_kernels": False,
        },
        {"linear": 22, "stacked": 4},
    ),
    "recurrent_gemma": Family(
        {**_SIZES, "num_hidden_layers": 3, "lru_width": 32, "attention_window_size": 16},
        {"linear": 19, "stacked": 4},
    ),
    "rwkv": Family(
        {
            **_OLD,
            "hidden_size": 32,
            "attention_hidden_size": 32,
            "num_hidden_layers": 2,
            "context_length": 64,
        },
        {"linear": 14},
        "rwkv.blocks.",
    ),
    "zamba2": Family(
        {
            **_SIZES,
            "num_hidden_layers": 4,
            "layers_block_type": ["mamba", "hybrid"] * 2,
            "mamba_ngroups": 1,
            "n_mamba_heads": 8,
            "mamba_headdim": 8,
            "mamba_d_state": 4,
            "attention_head_dim": 16,
            "attention_hidden_size": 64,
            "chunk_size": 8,
            "num_mem_blocks": 1,
        },
        {"linear": 10, "direct": 10},
    ),
    "qwen3_next": Family(
        {
            **_SIZES,
            **_EXPERTS,
            "layer_types": ["linear_attention", "full_attention"],
            "linear_num_value_heads": 4,
            "linear_num_key_heads": 2,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
            "shared_expert_intermediate_size": 6,
        },
        {"linear": 13, "stacked": 4},
    ),
    "hrm_text": Family(
        # Of fewer cycles it takes no gradient, which is then not the loss's.
        {
            **_SIZES,
            "initializer_range": 0.1,
            "num_hidden_layers": 16,  # as often as they are run, for the cache
            "num_layers_per_stack": 2,
            "L_cycles": 3,
            "H_cycles": 2,
            "L_bp_cycles": [3, 3],
        },
        {"linear": 32},
        ("model.L_module.layers.", "model.H_module.layers."),
    ),
    "dbrx": Family(
        {
            **_OLD,
            "d_model": 32,
            "n_heads": 4,
            "n_layers": 2,
            "max_seq_len": 64,
            "attn_config": {"kv_n_heads": 2, "clip_qkv": 8, "rope_theta": 10_000.0},
            "ffn_config": {
                "ffn_hidden_size": 48,
                "moe_num_experts": 6,
                "moe_top_k": 2,
                "hidden_size": 32,
            },
        },
        {"linear": 6, "stacked": 6},
        "transformer.blocks.",
    ),
    "gemma3": Family(
        _wrapped(
            {"model_type": "gemma3_text"},
            {"model_type": "siglip_vision_model", **_VISION},
            mm_tokens_per_image=4,
        ),
        {"linear": 14},
        "model.language_model.layers.",
    ),
    "llava": Family(
        _wrapped(
            {"model_type": "llama"},
            {"model_type": "clip_vision_model", **_VISION, "projection_dim": 32},
        ),
        {"linear": 14},
        "model.language_model.layers.",
    ),
    "qwen2_5_vl": Family(
        _wrapped(
            {
                "model_type": "qwen2_5_vl_text",
                "rope_parameters": {
                    "rope_type": "default",
                    "rope_theta": 10_000.0,
                    "mrope_section": [2, 1, 1],
                },
            },
            {
                "depth": 2,
                "hidden_size": 128,
                "intermediate_size": 256,
                "num_heads": 4,
                "out_hidden_size": 32,
            },
        ),
        {"linear": 14},
        "model.language_model.layers.",
    ),
    "git": Family(
        {
            **_OLD,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "vision_config": _VISION,
        },
        {"linear": 12},
        "git.encoder.layer.",
    ),
}

_SSD = {
    "mamba_n_heads": 8,
    "mamba_d_head": 8,
    "mamba_n_groups": 1,
    "mamba_d_state": 4,
    "mamba_d_conv": 4,
    "mamba_expand": 2,
    "mamba_chunk_size": 8,
}
_DELTA = {
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
_LATENT = {
    "num_key_value_heads": 4,
    "q_lora_rank": 12,
    "kv_lora_rank": 12,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 4,
    "v_head_dim": 8,
    "head_dim": 4,
}
_ROUTED = {
    **_EXPERTS,
    "n_routed_experts": 6,
    "n_shared_experts": 1,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
}
_NARROW = {"sliding_window": 6}
_THREE = {"num_hidden_layers": 3}

OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    # Recurrent states and convolutions, by themselves or beside attention.
    "falcon_mamba": (
        "falcon_mamba",
        {**_OLD, "hidden_size": 32, "state_size": 4, "num_hidden_layers": 2, "time_step_rank": 4},
    ),
    "bamba": ("bamba", {**_SIZES, **_THREE, **_SSD, "attn_layer_indices": [1]}),
    "falcon_h1": ("falcon_h1", {**_SIZES, **_SSD, "mamba_d_ssm": 64}),
    "granitemoehybrid": (
        "granitemoehybrid",
        {
            **_SIZES,
            **_SSD,
            **_LOCAL,
            "layer_types": ["mamba", "attention"],
            "shared_intermediate_size": 24,
        },
    ),
    "nemotron_h": (
        "nemotron_h",
        {
            **_SIZES,
            **_THREE,
            **_ROUTED,
            "layers_block_type": ["mamba", "attention", "moe"],
            "mamba_num_heads": 8,
            "mamba_head_dim": 8,
            "n_groups": 1,
            "ssm_state_size": 4,
            "chunk_size": 8,
            "moe_shared_expert_intermediate_size": 24,
        },
    ),
    "zamba": (
        "zamba",
        {
            **_SIZES,
            "num_hidden_layers": 4,
            "layers_block_type": ["mamba", "hybrid"] * 2,
            "mamba_d_state": 4,
            "n_mamba_heads": 2,
            "mamba_dt_rank": 4,
            "attention_hidden_size": 64,
            "attention_head_dim": 16,
        },
    ),
    "lfm2": ("lfm2", {**_SIZES, **_THREE, "layer_types": ["conv", "full_attention", "conv"]}),
    "lfm2_moe": (
        "lfm2_moe",
        {
            **_SIZES,
            **_THREE,
            **_EXPERTS,
            "layer_types": ["conv", "full_attention", "conv"],
            "num_dense_layers": 1,
        },
    ),
    "qwen3_5_text": ("qwen3_5_text", {**_SIZES, **_DELTA}),
    "olmo_hybrid": ("olmo_hybrid", {**_SIZES, **_DELTA}),
    "kimi_linear": (
        "kimi_linear",
        {
            **_SIZES,
            **_ROUTED,
            **_LATENT,
            "layer_types": ["linear_attention", "full_attention"],
            "linear_attn_config": {
                "num_heads": 4,
                "head_dim": 8,
                "short_conv_kernel_size": 4,
                "kda_layers": [1],
                "full_attn_layers": [2],
            },
        },
    ),
    "bailing_hybrid": (
        "bailing_hybrid",
        {**_SIZES, **_ROUTED, **_LATENT, "layer_types": ["linear_attention", "full_attention"]},
    ),
    "minimax": (
        "minimax",
        {**_SIZES, **_LOCAL, "layer_types": ["linear_attention", "full_attention"]},
    ),
    "xlstm": ("xlstm", {**_OLD, "hidden_size": 128, "num_heads": 2, "num_hidden_layers": 2}),
    # Windows and chunks that are shorter than the rows.
    "mistral_narrow": ("mistral", {**_SIZES, **_NARROW}),
    "gemma3_narrow": (
        "gemma3_text",
        {**_SIZES, **_NARROW, "layer_types": ["sliding_attention", "full_attention"]},
    ),
    "gpt_oss_narrow": ("gpt_oss", {**_SIZES, **_LOCAL, **_NARROW, "num_experts": 6}),
    "cohere2": ("cohere2", {**_SIZES, **_NARROW}),
    "gemma3n_text": (
        "gemma3n_text",
        {
            **_SIZES,
            **_NARROW,
            "layer_types": ["sliding_attention", "full_attention"],
            "hidden_size_per_layer_input": 8,
            "vocab_size_per_layer_input": VOCABULARY,
            "num_kv_shared_layers": 0,
            "laurel_rank": 4,
        },
    ),
    "gpt_neo": (
        "gpt_neo",
        {
            **_OLD,
            "hidden_size": 32,
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
            "window_size": 8,
            "max_position_embeddings": 64,
        },
    ),
    "llama4_text": (
        "llama4_text",
        {
            **_SIZES,
            "intermediate_size_mlp": 48,
            "num_local_experts": 6,
            "num_experts_per_tok": 1,
            "attention_chunk_size": 6,
            "layer_types": ["chunked_attention", "full_attention"],
        },
    ),
    # Distances and positions, and angles that depend on the longest row.
    "falcon_alibi": (
        "falcon",
        {
            **_OLD,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "alibi": True,
        },
    ),
    "phi3_longrope": (
        "phi3",
        {
            **_SIZES,
            "original_max_position_embeddings": 16,
            "rope_parameters": {
                "rope_type": "longrope",
                "short_factor": [1.0] * 4,
                "long_factor": [3.0] * 4,
                "rope_theta": 1e4,
                "original_max_position_embeddings": 16,
            },
        },
    ),
    # Attention to what an index chooses.
    "deepseek_v2": ("deepseek_v2", {**_SIZES, **_ROUTED, **_LATENT, "topk_method": "greedy"}),
    "deepseek_v32": (
        "deepseek_v32",
        # With few heads many places have an index of zero, and chance decides between them.
        {
            **_SIZES,
            **_ROUTED,
            **_LATENT,
            "index_topk": 4,
            "index_n_heads": 16,
            "index_head_dim": 8,
        },
    ),
}
"""Families of which only the batches are tried: what runs otherwise than plain attention does."""


def config(name: str) -> Any:
    """The tiny configuration of a family."""
    family = FAMILIES.get(name)
    kind, settings = (family.kind or name, family.settings) if family else OTHERS[name]
    return AutoConfig.for_model(kind, **settings)


def model(name: str, seed: int = 0) -> PreTrainedModel:
    """A tiny random model of a family, in evaluation mode and float32."""
    torch.manual_seed(seed)
    made: PreTrainedModel = auto_class(one := config(name)).from_config(one)
    return made.float().eval()


def save(model: PreTrainedModel, folder: Path, **how: str) -> Path:
    """A model's checkpoint folder, with a tokenizer of fewer words than the model has rows."""
    # Of the kind that classes which build their own (Qwen2's) take too: bytes, here of letters.
    words = [*SPECIAL, "Ġ", *ascii_lowercase]
    of_letters(words, pad_token="<pad>", eos_token="</s>").save_pretrained(folder)
    model.save_pretrained(folder, **how)
    return folder


def examples(lengths: tuple[int, ...] = (9, 4, 6), seed: int = 0) -> list[Example]:
    """Examples of random tokens, the response from the third on."""
    generator = torch.Generator().manual_seed(seed)
    return [
        Example(torch.randint(3, VOCABULARY, (size,), generator=generator).tolist(), 2)
        for size in lengths
    ]


def autograd_scores(model: nn.Module, example: Example) -> dict[str, Tensor]:
    """`W * dL/dW` of every candidate, by plain autograd in one pass over one example.

    An expert that no token was sent to has no gradient: its scores are zero.
    """
    weights = {name: one.weight for name, one in find_candidates(model).items()}
    asked = {name: one.requires_grad for name, one in model.named_parameters()}
    model.requires_grad_(False)
    for weight in weights.values():
        weight.requires_grad_(True)
    (batch,) = batches([example], 1)
    loss = response_losses(model, batch).sum()
    found = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(asked[name])
    return {
        name: torch.zeros_like(weight) if one is None else weight.detach() * one
        for (name, weight), one in zip(weights.items(), found, strict=True)
    }


def numbers(eos_token_id: int | None) -> Chat:
    """A tokenizer whose words are its tokens' numbers, in the plain format."""
    tokenizer: Any = SimpleNamespace(
        eos_token_id=eos_token_id,
        get_added_vocab=dict,
        decode=lambda words, skip_special_tokens: " ".join(map(str, words)),
    )
    return Chat(tokenizer, ChatFormat(None, "plain", {}, None, None, False, "", " "))
