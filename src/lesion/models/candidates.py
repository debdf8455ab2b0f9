"""The candidates (prunable parameters): the weight matrices of the transformer blocks.

They are found by structure, so no table of model families is needed; docs/architectures.md lists
the result for each family.
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
        found = getattr(self.module, self.attribute)
        assert isinstance(found, nn.Parameter)
        return found

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

    Args:
        model: a decoder language model; on the meta device too.

    Returns:
        Candidates by their names in `model.named_parameters()`, in the model's order. A file may
        store a weight under another name, which `prepare` records.

    Raises:
        UnsupportedModel: an encoder-decoder, a quantised model, one without blocks or without
            matrices in them, or one that uses a block's weight outside the blocks too.

    Source:
        Wei et al. 2024 (arXiv 2402.05162) score the same seven matrices of Llama-2, by name.
    """
    _refuse_encoder_decoder(model)
    _refuse_quantised(model)
    lists = _block_lists(model)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    users = _users(model)
    inside = {id(module) for blocks in lists.values() for module in blocks.modules()}
    found: dict[str, Candidate] = {}
    for blocks in lists.values():
        for one in _matrices(blocks, _width(model)):
            name, shared = names[id(one.weight)], users[id(one.weight)]
            _refuse_tied_outside(name, shared, inside)
            _refuse_dtype(name, one.weight.dtype)
            if name not in found:
                found[name] = one._replace(kind="direct") if len(shared) > 1 else one
    if not found:
        raise UnsupportedModel(
            f"{type(model).__name__}: `{', '.join(lists)}` holds no dense linear weights "
            "(quantised?). Load an unquantised checkpoint."
        )
    return found


def find_blocks(model: nn.Module) -> list[nn.Module]:
    """The text decoder's blocks, in order."""
    return [block for blocks in _block_lists(model).values() for block in blocks]


def _matrices(blocks: nn.ModuleList, width: int | None) -> Iterator[Candidate]:
    routers = _routers(blocks)
    for module in blocks.modules():
        if isinstance(module, (nn.Linear, Conv1D)):
            if 1 not in module.weight.shape and id(module) not in routers:
                yield Candidate(module, "weight", _kind(module))
        else:
            for own, parameter in _raw(module):
                if parameter.ndim == 3 or (width and min(parameter.shape) >= width):
                    yield Candidate(module, own, "stacked")


def _raw(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """The parameters of other modules than torch's own that may be matrices."""
    if not isinstance(module, (nn.Linear, Conv1D, nn.Embedding, nn.modules.conv._ConvNd)):
        for own, parameter in module.named_parameters(recurse=False):
            # RWKV has vectors of shape [1, 1, n].
            matrix = parameter.ndim in (2, 3) and 1 not in parameter.shape[-2:]
            if matrix and not own.endswith(_NO_MATRIX):
                yield own, parameter


def _kind(module: nn.Module) -> Kind:
    if isinstance(module, Conv1D):
        return "conv1d"
    own = type(module).forward is not nn.Linear.forward
    return "direct" if own and type(module).__name__ not in _SAME_AS_LINEAR else "linear"


def _width(model: nn.Module) -> int | None:
    width = getattr(_text_config(model), "hidden_size", None)
    return width if isinstance(width, int) else None


def _text_config(model: nn.Module) -> Any:
    if isinstance(model, PreTrainedModel):
        return model.config.get_text_config(decoder=True)
    return getattr(model, "config", None)


def _routers(blocks: nn.ModuleList) -> set[int]:
    """Linear modules beside the experts, with the experts' input and one output per expert.

    They are the only ones in their parent: Qwen3-Next's shared expert is as wide as the number of
    experts.
    """
    found = set()
    for parent in blocks.modules():
        shapes = {shape for child in parent.children() for shape in _experts(child)}
        for child in parent.children() if shapes and parent is not blocks else ():
            alone = [one for one in child.modules() if isinstance(one, nn.Linear)]
            if len(alone) == 1 and _routes(alone[0], shapes):
                found.add(id(alone[0]))
    return found


def _routes(module: nn.Linear, shapes: set[tuple[int, ...]]) -> bool:
    return any(
        module.out_features == count and module.in_features in sides for count, *sides in shapes
    )


def _experts(module: nn.Module) -> Iterator[tuple[int, ...]]:
    """The number of experts in a module, and the sides of their matrices."""
    if isinstance(module, nn.ModuleList):
        for expert in module:
            for one in expert.modules():
                if isinstance(one, nn.Linear):
                    yield len(module), *one.weight.shape
    else:
        yield from (tuple(one.shape) for _, one in _raw(module) if one.ndim == 3)


def _block_lists(model: nn.Module) -> dict[str, nn.ModuleList]:
    """The outermost lists of modules in the text decoder, by name."""
    names = {id(module): name for name, module in model.named_modules()}
    for root in _roots(model):
        for towers in (_towers(model, root) | _strangers(root), _towers(model, root), set()):
            lists = {names[id(one)]: one for one in _outermost(root, towers)}
            if lists:
                return lists
    raise UnsupportedModel(
        f"{type(model).__name__} has no list of transformer blocks; only the decoder language "
        "models of transformers can be scored."
    )


def _roots(model: nn.Module) -> Iterator[nn.Module]:
    """Modules that may be the decoder. ModernBERT's `decoder` is its head, so others are tried."""
    if isinstance(model, PreTrainedModel):
        yield model.get_decoder()
        yield model.base_model
    yield model


def _towers(model: nn.Module, root: nn.Module) -> set[int]:
    """Encoders of images, video and audio that transformers finds in the model or the decoder."""
    found: set[int] = set()
    for one in (model, root):
        if isinstance(one, PreTrainedModel):
            towers = [one.get_encoder(modality=kind) for kind in _MODALITIES]
            # Without a tower, `get_encoder` returns a model that contains the decoder.
            found |= {id(one) for one in towers if one is not None and not _holds(one, root)}
    return found


def _holds(module: nn.Module, inner: nn.Module) -> bool:
    return any(one is inner for one in module.modules())


def _strangers(root: nn.Module) -> set[int]:
    """Models inside the decoder with a config of another class, such as GIT's vision model."""
    config = type(getattr(root, "config", None))
    inner = (one for one in root.modules() if isinstance(one, PreTrainedModel))
    return {id(one) for one in inner if type(one.config) is not config}


def _outermost(module: nn.Module, without: set[int]) -> Iterator[nn.ModuleList]:
    for child in module.children():
        if id(child) in without:
            continue
        if not isinstance(child, nn.ModuleList):
            yield from _outermost(child, without)
        elif _are_blocks(child):
            yield child


def _are_blocks(modules: nn.ModuleList) -> bool:
    """Gemma 3n also has lists of bare projections and of rotary tables, which are not blocks."""
    bare = (nn.Linear, Conv1D, nn.Embedding)
    return any(not isinstance(one, bare) and list(one.parameters()) for one in modules)


def _users(model: nn.Module) -> dict[int, list[nn.Module]]:
    """The modules that own each parameter, by the parameter's id."""
    found: dict[int, list[nn.Module]] = {}
    for module in model.modules():
        for parameter in module._parameters.values():
            if parameter is not None:
                found.setdefault(id(parameter), []).append(module)
    return found


def _refuse_tied_outside(name: str, users: list[nn.Module], inside: set[int]) -> None:
    outside = [type(one).__name__ for one in users if id(one) not in inside]
    if outside:
        raise UnsupportedModel(
            f"{name}: is tied to a weight outside the blocks ({', '.join(outside)}), so zeroing it "
            "would change that too. Untie it and save the checkpoint again."
        )


def _refuse_dtype(name: str, dtype: torch.dtype) -> None:
    if dtype not in _DTYPES:
        raise UnsupportedModel(
            f"{name} is {dtype}: quantised weights can't be scored. Load an unquantised checkpoint."
        )


def _refuse_encoder_decoder(model: nn.Module) -> None:
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        raise UnsupportedModel(
            f"{type(model).__name__} is an encoder-decoder; only decoder language models can be "
            "scored."
        )


def _refuse_quantised(model: nn.Module) -> None:
    for config in (getattr(model, "config", None), _text_config(model)):
        how = getattr(config, "quantization_config", None)
        if how is None:
            continue
        settings: Mapping[str, Any] = how if isinstance(how, dict) else vars(how)
        if not settings.get("dequantize"):
            method = getattr(settings.get("quant_method"), "value", settings.get("quant_method"))
            raise UnsupportedModel(
                f"{type(model).__name__} is quantised (`quantization_config` of its config.json: "
                f"{method}), and quantised weights can't be scored. Load an unquantised checkpoint."
            )
    for name, module in model.named_modules():
        if hasattr(module, "qweight"):
            raise UnsupportedModel(
                f"{name}.qweight: quantised weights can't be scored. Load an unquantised "
                "checkpoint."
            )
