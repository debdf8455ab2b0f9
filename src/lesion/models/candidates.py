"""Which weights are candidates: the linear matrices of the transformer blocks."""

from collections.abc import Iterator

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from lesion.formats import LesionError


class UnsupportedModel(LesionError):
    """A model whose weights cannot be scored, with the reason."""


def find_candidates(model: nn.Module) -> dict[str, nn.Module]:
    """Find the linear modules of the transformer blocks, by structure and not by name.

    The blocks are the longest `ModuleList` of the model whose members are of one class. Inside
    them every `nn.Linear` and every `Conv1D` (GPT-2's transposed linear) counts; embeddings,
    `lm_head`, norms and biases lie outside or are no such module.

    Args:
        model: a causal language model in memory.

    Returns:
        Parameter name of the weight (as in the checkpoint) to its module, in the model's order.

    Raises:
        UnsupportedModel: there are no blocks, or no dense linear modules in them.

    Source:
        Wei et al. 2024 (arXiv 2402.05162) score the same seven matrices of Llama-2, by name.
    """
    prefix, blocks = _blocks(model)
    found: dict[str, nn.Module] = {
        f"{prefix}.{name}.weight": module
        for name, module in blocks.named_modules()
        if isinstance(module, (nn.Linear, Conv1D))
    }
    if not found:
        raise UnsupportedModel(
            f"{type(model).__name__}: `{prefix}` holds no dense linear weights (quantised?). "
            "Load an unquantised checkpoint."
        )
    for name, module in found.items():
        dtype = module.weight.dtype
        if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
            raise UnsupportedModel(f"{name} is {dtype}: quantised weights can't be scored")
    return found


def _blocks(model: nn.Module) -> tuple[str, nn.ModuleList]:
    lists = list(_uniform_lists(model))
    if not lists:
        raise UnsupportedModel(
            f"{type(model).__name__} has no list of transformer blocks; only decoder language "
            "models of transformers' AutoModelForCausalLM can be scored."
        )
    return max(lists, key=lambda item: len(item[1]) * sum(p.numel() for p in item[1].parameters()))


def _uniform_lists(model: nn.Module) -> Iterator[tuple[str, nn.ModuleList]]:
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len({type(child) for child in module}) == 1:
            yield name, module
