"""Open the weights of a checkpoint folder, and check that the model has those of the files."""

import logging
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import AutoConfig, PreTrainedModel

from lesion.io.formats import BadFile, LesionError
from lesion.models.candidates import auto_class
from lesion.models.files import ADAPTER, CONFIG, FLOATS, first_named, stored_tensors, user_file

logger = logging.getLogger(__name__)

_DTYPES = {"F64": torch.float64, "F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
_DAMAGED = "Download the checkpoint again, or save it again with `save_pretrained`."
_FAILED = r"\| CONVERSION\b"
"""In the lines of transformers' report that name weights which could not be put together."""


def open_model(folder: Path, named: Path | None = None, **how: Any) -> PreTrainedModel:
    """Load the weights of a checkpoint folder, and check that the files' weights are all used.

    Messages call the folder `named`, if it is temporary. `how` are `dtype` and `device_map` of
    `from_pretrained`: on the device `meta` every tensor is read, renamed, joined and checked, and
    none is kept in memory.

    Raises:
        LesionError: a weight is missing, unknown, or of another shape; the message names the first.
    """
    called = named or folder
    if (folder / ADAPTER).exists():
        raise LesionError(
            f"{called / ADAPTER}: is an adapter, which transformers would put on the weights. "
            "Remove it."
        )
    kind = auto_class(AutoConfig.from_pretrained(folder, trust_remote_code=False))
    with forwarded_warnings(folder, called) as warnings:
        try:
            model, info = kind.from_pretrained(
                folder,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are reported below, by name
                **how,
            )
        except RuntimeError as error:
            # transformers stops before it reports what it could not join (experts, attention).
            lines = [line for text in warnings for line in text.splitlines()]
            wrong = [line.split(" ", 1)[0] for line in lines if re.search(_FAILED, line)]
            if not wrong:
                raise
            raise LesionError(
                f"{called}: {first_named(wrong)} cannot be assembled from the files' tensors: "
                f"a part of it is missing, or of another shape. {_DAMAGED}"
            ) from error
    check_loaded(model, info, called)
    assert isinstance(model, PreTrainedModel)
    # Old configs ask for tuples, which are not used here.
    for config in (model.config, model.config.get_text_config(decoder=True)):
        config.return_dict = True
    return model


@contextmanager
def forwarded_warnings(folder: Path, named: Path) -> Iterator[list[str]]:
    """Log the warnings of transformers as our own, and yield their texts.

    They mention a temporary folder, which is replaced by the name that the user knows.
    """
    warnings: list[str] = []

    class Forwarding(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = record.getMessage()
            for name in (str(folder), str(folder.resolve())):
                text = text.replace(name, str(named))
            warnings.append(text)
            logger.warning(text)

    library_logger = logging.getLogger("transformers")
    before = library_logger.handlers[:], library_logger.level
    library_logger.handlers[:] = [Forwarding()]
    library_logger.setLevel(logging.WARNING)
    try:
        yield warnings
    finally:
        library_logger.handlers[:], level = before
        library_logger.setLevel(level)


def check_loaded(model: Any, info: Mapping[str, Any], called: Path) -> None:
    """Refuse weights that `from_pretrained` reports as missing, unknown, or of another shape.

    It does not report harmless ones: tied heads, and weights that a class declares as not its own
    (a layer that predicts further tokens, a vision tower).
    """
    order = {name: index for index, name in enumerate(model.state_dict())}
    # Old checkpoints contain buffers that the model creates itself.
    buffers = {name for name, _ in model.named_buffers()}
    prefix = f"{model.base_model_prefix}."
    own = {
        name
        for name in info["unexpected_keys"]
        if buffers & {name, prefix + name, name.removeprefix(prefix)} or name.endswith(_OBSOLETE)
    }
    missing = sorted(info["missing_keys"], key=lambda name: (order.get(name, 0), name))
    unknown = sorted(set(info["unexpected_keys"]) - own)
    shapes = sorted(info["mismatched_keys"], key=lambda mismatch: order.get(mismatch[0], 0))
    if missing or unknown:
        parts = []
        if missing:
            parts.append(f"lack {first_named(missing)}, which would be random")
        if unknown:
            parts.append(f"hold {first_named(unknown)}, which {type(model).__name__} does not have")
        raise LesionError(
            f"{called}: the files {', and '.join(parts)}. {_remedy(missing, unknown)}"
        )
    if shapes:
        name, stored, wanted = shapes[0]
        more = f" (and {len(shapes) - 1} more weights differ)" if len(shapes) > 1 else ""
        raise LesionError(
            f"{called}: `{name}` is {list(stored)} in the files and {list(wanted)} by {CONFIG}"
            f"{more}. The files and {CONFIG} are not of one model: take both from the same place."
        )
    if info["error_msgs"]:
        raise LesionError(f"{called}: {info['error_msgs'][0]}")


_OBSOLETE = ("attn.masked_bias", "attention.masked_bias", "rotary_emb.inv_freq", "position_ids")
"""Buffers in the first checkpoints of GPT-2, GPT-NeoX and Llama that no class has any more."""


def _remedy(missing: Sequence[str], unknown: Sequence[str]) -> str:
    for pattern, advice in _ADVICE.items():
        if any(re.search(pattern, name) for name in unknown):
            return advice
    prefix = _prefix(unknown, missing)
    if prefix:
        by = next((f" (saved from {who})" for start, who in _WRAPPERS if start in prefix), "")
        return (
            f"The names in the files begin with `{prefix}`{by}: strip the prefix `{prefix}` from "
            "them, or save the inner model with `save_pretrained`."
        )
    prefix = _prefix(missing, unknown)
    if prefix:
        return (
            f"The names in the files lack the prefix `{prefix}`: save the whole model, or put the "
            "prefix before them."
        )
    if unknown and not missing:
        return (
            f"They belong to another kind of model than {CONFIG} says, or are left from another "
            "save. Take both from the same place, or save the model again with `save_pretrained`."
        )
    return _DAMAGED


_ADVICE = {
    r"\.lora_|\.base_layer\.|lora_magnitude": (
        "It is a model with an adapter of peft that was not merged. Merge it "
        "(`merge_and_unload`), and save that."
    ),
    r"(_orig|_mask|\.original|\.original0)$": (
        "Its weights are stored in parts, as `torch.nn.utils` does to prune or reparametrise "
        "them. Remove that (`torch.nn.utils.prune.remove`), and save the model again."
    ),
    r"\.(qweight|qzeros|scales|g_idx|absmax|quant_map|SCB|weight_scale(_inv)?)$|\.quant_state\.": (
        "Its weights are quantised, and can't be scored. Give an unquantised checkpoint."
    ),
}
"""What to do about unknown weights, by a pattern of their names."""
_WRAPPERS = (
    ("_orig_mod.", "torch.compile"),
    ("base_model.", "peft"),
    ("_fsdp_wrapped_module.", "FSDP"),
    ("_forward_module.", "a trainer that wraps the model"),
    ("module.", "DataParallel or DeepSpeed"),
)


def _prefix(longer: Sequence[str], shorter: Collection[str]) -> str:
    """The prefix that most of the longer names have before a shorter one; empty if few have it."""
    wanted = set(shorter)
    counts: Counter[str] = Counter()
    for name in longer:
        parts = name.split(".")
        tails = (".".join(parts[at:]) for at in range(1, len(parts)))
        tail = next((tail for tail in tails if tail in wanted), None)
        if tail is not None:
            counts[name.removesuffix(tail)] += 1
    prefix, count = next(iter(counts.most_common(1)), ("", 0))
    return prefix if 2 * count > len(longer) else ""


def stored_dtype(folder: Path) -> torch.dtype | None:
    """The dtype of all stored weights in a folder; None if they differ."""
    kinds = {entry.dtype for _, entry in stored_tensors(folder).values() if entry.dtype in FLOATS}
    return _DTYPES[kinds.pop()] if len(kinds) == 1 else None


def check_values(folder: Path, model: PreTrainedModel, called: Path) -> None:
    """Refuse weights that no training produces: not finite, a matrix of zeros, unequal ties.

    Raises:
        BadFile: there are such weights; the message names the first.
    """
    stored = stored_tensors(folder)
    for path in sorted({path for path, _ in stored.values()}):
        user_path = user_file(called, path.name)
        with safe_open(path, "pt") as handle:
            for name in handle.keys():  # noqa: SIM118 - no mapping
                if stored[name][1].dtype in FLOATS:
                    _check_tensor(name, handle.get_tensor(name), user_path)
    # Of a weight stored with the model's prefix and without, one would be dropped.
    prefix = f"{model.base_model_prefix}."
    twice = [name for name in stored if prefix + name in stored]
    if twice:
        raise BadFile(
            f"{called}: the files hold {first_named(twice)} twice, as `{twice[0]}` and as "
            f"`{prefix}{twice[0]}`. Remove the unwanted ones from the files."
        )
    for tied, other in getattr(model, "all_tied_weights_keys", {}).items():
        if tied not in stored or other not in stored:
            continue
        paths = stored[tied][0], stored[other][0]
        with safe_open(paths[0], "pt") as first, safe_open(paths[1], "pt") as second:
            equal = torch.equal(first.get_tensor(tied), second.get_tensor(other))
        if not equal:
            raise BadFile(
                f"{called}: by {CONFIG} `{tied}` is `{other}` (`tie_word_embeddings`), and the "
                f"files hold two that differ. Set `tie_word_embeddings` to false in {CONFIG} if "
                f"the model has two, or remove `{tied}` from the files."
            )


def _check_tensor(name: str, value: torch.Tensor, path: Path) -> None:
    if not value.numel():
        return
    # This takes a tenth of the time of isfinite; NaN is both the minimum and the maximum.
    least, greatest = torch.aminmax(value)
    if not (torch.isfinite(least) and torch.isfinite(greatest)):
        raise BadFile(f"{path}: `{name}` holds values that are not finite. {_DAMAGED}")
    matrix = value.ndim > 1 and min(value.shape[-2:]) > 1
    if matrix and name.endswith(".weight") and not least and not greatest:
        raise BadFile(
            f"{path}: `{name}` is zero throughout, as where a download stopped. {_DAMAGED}"
        )
