"""The candidates (prunable parameters): the weight matrices of the transformer blocks.

They are found by structure, so no table of model families is needed;
docs/reference/architectures.md lists the result for each family.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
)
from transformers.pytorch_utils import Conv1D

from lesion.models.files import UnsupportedModel as UnsupportedModel

Kind = Literal["linear", "conv1d", "stacked", "direct"]

_DTYPES = {torch.float64, torch.float32, torch.bfloat16, torch.float16}
_SAME_AS_LINEAR = {"FalconLinear"}
"""Subclasses of `nn.Linear` whose own forward computes the same."""
_NO_MATRIX = ("bias", "_embed", "_log")
"""Name endings of 3-D parameters that are added or multiplied elementwise (XLNet, Zamba)."""
_MODALITIES = ("image", "video", "audio")


class Candidate(NamedTuple):
    """A weight matrix that can be scored, and the module that owns it.

    `linear` is the weight of a module that computes the same as `nn.Linear` and is not shared.
    `conv1d` is the same for GPT-2's Conv1D. `stacked` is a parameter of several matrices, mostly
    [experts, outputs, inputs]. `direct` is a matrix that several modules use, or whose module
    computes something else, so that its gradient is known only to autograd.
    """

    module: nn.Module
    attribute: str
    kind: Kind

    @property
    def weight(self) -> nn.Parameter:
        """The parameter itself."""
        parameter = getattr(self.module, self.attribute)
        assert isinstance(parameter, nn.Parameter)
        return parameter

    @property
    def transposed(self) -> bool:
        """Whether it is stored as [inputs, outputs]; for `stacked` that depends on the family."""
        return isinstance(self.module, Conv1D)


def auto_class(config: Any) -> Any:
    """The auto class of transformers that opens a model for text generation.

    Multimodal models without a causal class are opened as they are, and run on text only.
    """
    causal = type(config) in MODEL_FOR_CAUSAL_LM_MAPPING
    return AutoModelForCausalLM if causal else AutoModelForImageTextToText


def find_candidates(model: nn.Module) -> dict[str, Candidate]:
    """Find the weight matrices of the text decoder's blocks, by structure and not by name.

    The blocks are the members of the decoder's outermost `ModuleList`s; a vision or audio tower
    does not belong to the decoder. The candidates in them are every `nn.Linear`, every `Conv1D`,
    every 3-D parameter of a module of another class (stacked experts), and every such 2-D parameter
    with both sides at least as large as the hidden size (DBRX's experts). Embeddings, `lm_head`,
    norms, biases and convolutions are not candidates, nor are a mixture's routers and matrices with
    a side of 1: a router is a raw parameter in most families, and would count only in the others.

    Returns:
        Candidates by their names in `model.named_parameters()`, in the model's order. A file may
        store a weight under another name, which `prepare` records.

    Raises:
        UnsupportedModel: an encoder-decoder, a quantised model, one without blocks or without
            matrices in them, or one that uses a block's weight outside the blocks too.

    Source:
        Wei et al. 2024 (arXiv 2402.05162) score the same seven matrices of Llama-2, by name.
    """
    _refuse_encoder_decoder_or_quantised(model)
    lists = _block_lists(model)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    owners: dict[int, list[nn.Module]] = {}
    for module in model.modules():
        for parameter in module._parameters.values():
            owners.setdefault(id(parameter), []).append(module)
    inside = {id(module) for blocks in lists.values() for module in blocks.modules()}
    candidates: dict[str, Candidate] = {}
    for blocks in lists.values():
        for candidate in _matrices(blocks, getattr(_text_config(model), "hidden_size", None)):
            name, users = names[id(candidate.weight)], owners[id(candidate.weight)]
            outside = [type(user).__name__ for user in users if id(user) not in inside]
            if outside:
                raise UnsupportedModel(
                    f"{name}: is tied to a weight outside the blocks ({', '.join(outside)}), so "
                    "zeroing it would change that too. Untie it and save the checkpoint again."
                )
            if candidate.weight.dtype not in _DTYPES:
                raise UnsupportedModel(
                    f"{name} is {candidate.weight.dtype}: quantised weights can't be scored. Load "
                    "an unquantised checkpoint."
                )
            if name not in candidates:
                candidates[name] = (
                    candidate._replace(kind="direct") if len(users) > 1 else candidate
                )
    if not candidates:
        raise UnsupportedModel(
            f"{type(model).__name__}: `{', '.join(lists)}` holds no dense linear weights "
            "(quantised?). Load an unquantised checkpoint."
        )
    return candidates


def find_blocks(model: nn.Module) -> list[nn.Module]:
    """The text decoder's blocks, in order."""
    return [block for blocks in _block_lists(model).values() for block in blocks]


def _matrices(blocks: nn.ModuleList, width: object) -> Iterator[Candidate]:
    """The candidates in a list of blocks, of a model whose hidden size is `width` if it has one."""
    routers = _routers(blocks)
    for module in blocks.modules():
        if isinstance(module, (nn.Linear, Conv1D)):
            if 1 in module.weight.shape or id(module) in routers:
                continue
            own_forward = type(module).forward is not nn.Linear.forward
            if isinstance(module, Conv1D):
                yield Candidate(module, "weight", "conv1d")
            elif own_forward and type(module).__name__ not in _SAME_AS_LINEAR:
                yield Candidate(module, "weight", "direct")
            else:
                yield Candidate(module, "weight", "linear")
        else:
            for own, parameter in _raw(module):
                wide = isinstance(width, int) and 0 < width <= min(parameter.shape)
                if parameter.ndim == 3 or wide:
                    yield Candidate(module, own, "stacked")


def _raw(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """The parameters of other modules than torch's own that may be matrices."""
    if not isinstance(module, (nn.Linear, Conv1D, nn.Embedding, nn.modules.conv._ConvNd)):
        for own, parameter in module.named_parameters(recurse=False):
            # RWKV has vectors of shape [1, 1, n].
            matrix = parameter.ndim in (2, 3) and 1 not in parameter.shape[-2:]
            if matrix and not own.endswith(_NO_MATRIX):
                yield own, parameter


def _text_config(model: nn.Module) -> Any:
    if isinstance(model, PreTrainedModel):
        return model.config.get_text_config(decoder=True)
    return getattr(model, "config", None)


def _routers(blocks: nn.ModuleList) -> set[int]:
    """Linear modules beside the experts, with the experts' input and one output per expert.

    They are the only ones in their parent: Qwen3-Next's shared expert is as wide as the number of
    experts.
    """
    routers = set()
    for parent in blocks.modules():
        experts = {shape for child in parent.children() for shape in _experts(child)}
        for child in parent.children() if experts and parent is not blocks else ():
            linears = [module for module in child.modules() if isinstance(module, nn.Linear)]
            if len(linears) == 1 and any(
                linears[0].out_features == count and linears[0].in_features in sides
                for count, *sides in experts
            ):
                routers.add(id(linears[0]))
    return routers


def _experts(module: nn.Module) -> Iterator[tuple[int, ...]]:
    """The number of experts in a module, and the sides of their matrices."""
    if isinstance(module, nn.ModuleList):
        linears = (inner for inner in module.modules() if isinstance(inner, nn.Linear))
        yield from ((len(module), *inner.weight.shape) for inner in linears)
    else:
        yield from (tuple(weight.shape) for _, weight in _raw(module) if weight.ndim == 3)


def _block_lists(model: nn.Module) -> dict[str, nn.ModuleList]:
    """The outermost lists of modules in the text decoder, by name."""
    names = {id(module): name for name, module in model.named_modules()}
    # ModernBERT's `decoder` is its head, so others are tried.
    own = [model.get_decoder(), model.base_model] if isinstance(model, PreTrainedModel) else []
    for root in (*own, model):
        # Models with a config of another class are no part of it, such as GIT's vision model.
        config, encoders = type(getattr(root, "config", None)), _towers(model, root)
        inner = (module for module in root.modules() if isinstance(module, PreTrainedModel))
        others = {id(module) for module in inner if type(module.config) is not config}
        for towers in (encoders | others, encoders, set()):
            lists = {names[id(blocks)]: blocks for blocks in _outermost(root, towers)}
            if lists:
                return lists
    raise UnsupportedModel(
        f"{type(model).__name__} has no list of transformer blocks; only the decoder language "
        "models of transformers can be scored."
    )


def _towers(model: nn.Module, root: nn.Module) -> set[int]:
    """Encoders of images, video and audio that transformers finds in the model or the decoder."""
    ids: set[int] = set()
    for module in (model, root):
        if isinstance(module, PreTrainedModel):
            towers = [module.get_encoder(modality=kind) for kind in _MODALITIES]
            # Without a tower, `get_encoder` returns a model that contains the decoder.
            ids |= {
                id(tower)
                for tower in towers
                if tower is not None and all(inner is not root for inner in tower.modules())
            }
    return ids


def _outermost(module: nn.Module, without: set[int]) -> Iterator[nn.ModuleList]:
    bare = (nn.Linear, Conv1D, nn.Embedding)
    for child in module.children():
        if id(child) in without:
            continue
        if not isinstance(child, nn.ModuleList):
            yield from _outermost(child, without)
        # Gemma 3n also has lists of bare projections and of rotary tables, which are not blocks.
        elif any(not isinstance(member, bare) and list(member.parameters()) for member in child):
            yield child


def _refuse_encoder_decoder_or_quantised(model: nn.Module) -> None:
    kind, config = type(model).__name__, getattr(model, "config", None)
    if getattr(config, "is_encoder_decoder", False):
        raise UnsupportedModel(
            f"{kind} is an encoder-decoder; only decoder language models can be scored."
        )
    for part in (config, _text_config(model)):
        how = getattr(part, "quantization_config", None)
        if how is None:
            continue
        settings: Mapping[str, Any] = how if isinstance(how, dict) else vars(how)
        if not settings.get("dequantize"):
            method = getattr(settings.get("quant_method"), "value", settings.get("quant_method"))
            raise UnsupportedModel(
                f"{kind} is quantised (`quantization_config` of its config.json: {method}), and "
                "quantised weights can't be scored. Load an unquantised checkpoint."
            )
    for name, module in model.named_modules():
        if hasattr(module, "qweight"):
            raise UnsupportedModel(
                f"{name}.qweight: quantised weights can't be scored. Load an unquantised "
                "checkpoint."
            )
