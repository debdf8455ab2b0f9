"""Random models in Llama's shape, made in memory: what the benchmarks score."""

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from lesion.models.text import Example

SHAPES = {
    "10m": (256, 1024, 10, 4, 4, 2048),
    "30m": (384, 1536, 12, 6, 6, 2048),
    "100m": (768, 2304, 14, 12, 12, 4096),
    "300m": (1024, 4096, 19, 16, 8, 4096),
    "1b": (2048, 8192, 16, 32, 8, 8192),
    "8b": (4096, 14336, 32, 32, 8, 128256),
}
"""hidden, intermediate, layers, heads, key-value heads, vocabulary"""


def llama(size: str, dtype: torch.dtype, device: str = "cpu") -> LlamaForCausalLM:
    """A random model of about this many parameters, made where it will run."""
    hidden, inner, layers, heads, keys, vocabulary = SHAPES[size]
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=keys,
        max_position_embeddings=4096,
        dtype=dtype,
    )
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            model = LlamaForCausalLM(config)
    finally:
        torch.set_default_dtype(before)
    return model.eval().requires_grad_(False)


def examples(count: int, length: int, vocabulary: int = 2048) -> list[Example]:
    """Random pairs of `length` tokens, the second half of which is the response."""
    torch.manual_seed(0)
    rows = torch.randint(3, vocabulary, (count, length)).tolist()
    return [Example(row, length // 2) for row in rows]
