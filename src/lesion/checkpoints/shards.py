"""The byte offsets of a mask's weights in a checkpoint's safetensors files. No tensor is loaded."""

import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lesion.io.formats import BadFile, LesionError, Stored, read_json, safetensors_header
from lesion.masks.store import Mask
from lesion.models.layout import FlatIndices
from lesion.models.parts import Part, Shape, stored_indices, unchanged_part
from lesion.models.record import RECORD, unstored

# Dtypes whose zero is all zero bytes; F8_E8M0 has no zero, and smaller types share bytes.
_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
_BYTES |= dict.fromkeys(("F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 1)


class Zeros(NamedTuple):
    """Weights of one width in one file: their first bytes' offsets, ascending."""

    width: int
    starts: FlatIndices


def find_zeros(folder: Path, files: Iterable[str], mask: Mask) -> dict[str, list[Zeros]]:
    """The zeros of a mask, for each file of a checkpoint.

    Weights that transformers moves while loading (stacked experts) are zeroed at their origin.

    Raises:
        LesionError: the files have no such tensor in its shape or in known parts, it shares bytes
            with another, or its dtype cannot be zeroed by bytes.
        BadFile: a header is damaged.
    """
    shards = [name for name in files if name.endswith(".safetensors")]
    stored = {name: safetensors_header(folder / name) for name in shards}
    tensors = {key: tensor for header in stored.values() for key, tensor in header.items()}
    parts = _parts(folder, mask, tensors)
    _check_ties(folder, sorted({part.name for each in parts.values() for part in each}))
    zeroed: dict[str, tuple[Shape, FlatIndices]] = {}
    for own, each in parts.items():
        shapes = {part.name: part.stored for part in each}
        for name, flat in stored_indices(each, mask.shapes[own], mask.indices[own]).items():
            if name in zeroed:  # two parameters are cut from one tensor
                flat = np.union1d(zeroed[name][1], flat)
            zeroed[name] = (shapes[name], flat)
    return {shard: _zeros_in(folder / shard, stored[shard], zeroed) for shard in shards}


def _parts(folder: Path, mask: Mask, tensors: Mapping[str, Stored]) -> dict[str, tuple[Part, ...]]:
    """The parts of the files' tensors that make up each parameter of the mask."""
    names = {name: name for name in mask.indices}
    if not tensors.keys() & names.keys():
        # Old checkpoints (GPT-2's) omit the model's prefix, `transformer.`
        names = {name: name.partition(".")[2] for name in names}
    moved = set(unstored(folder))
    plain: dict[str, tuple[Part, ...]] = {
        own: (unchanged_part(name, tensors[name].shape),)
        for own, name in names.items()
        if name in tensors and tensors[name].shape == mask.shapes[own] and own not in moved
    }
    if len(plain) == len(names) and (folder / RECORD).is_file():
        return plain
    # Without a record, a tensor of the right name and shape may still be transposed on loading.
    # Importing this takes seconds, and most checkpoints store weights as they are in memory.
    from lesion.models.conversion import empty_model, stored_parts

    parts = dict(plain)
    with suppress(ValueError, KeyError, OSError, ImportError):  # transformers knows no such model
        parts |= stored_parts(empty_model(folder), folder)
    missing = sorted(own for own in names if own not in parts)
    if not missing:
        return {own: parts[own] for own in names}
    name, shape = names[missing[0]], list(mask.shapes[missing[0]])
    if name in tensors:
        raise LesionError(
            f"{folder}: `{name}` is {list(tensors[name].shape)} there and {shape} in the mask. "
            "transformers changes this architecture's tensors as it loads them; such a mask can be "
            "studied but not written as a checkpoint: remove it from `checkpoints`."
        )
    raise LesionError(
        f"{folder}: stores no tensor named {', '.join(missing[:3])}"
        f"{f' (and {len(missing) - 3} more)' if len(missing) > 3 else ''}. It is tied to "
        "another tensor, or transformers makes it from other tensors in a way that is not "
        "supported here (stacked experts), and a mask names tensors as they are in memory. Such a "
        "mask can be studied but not written as a checkpoint: remove it from `checkpoints`."
    )


def _check_ties(folder: Path, names: Iterable[str]) -> None:
    """Refuse tensors outside the blocks, unless the config says that none of them is tied."""
    path = folder / "config.json"
    config = read_json(path) if path.is_file() else {}
    tied = {**config, **(config.get("text_config") or {})}.get("tie_word_embeddings")
    for name in names:
        if tied is not False and not any(part.isdigit() for part in name.split(".")):
            raise LesionError(
                f"{folder}: `{name}` is outside the transformer blocks, and {path.name} does not "
                "say `tie_word_embeddings: false`: it may be used in two places. Only weights of "
                "the blocks can be zeroed here."
            )


def _zeros_in(
    shard: Path, header: Mapping[str, Stored], zeroed: Mapping[str, tuple[Shape, FlatIndices]]
) -> list[Zeros]:
    """The zeros of one file, in bytes."""
    wanted = sorted(header.keys() & zeroed.keys(), key=lambda name: header[name].begin)
    _check_tensors(shard, header, {name: zeroed[name][0] for name in wanted})
    parts: dict[int, list[FlatIndices]] = {}
    for name in wanted:
        width = _BYTES[header[name].dtype]
        parts.setdefault(width, []).append(header[name].begin + width * zeroed[name][1])
    return [Zeros(width, np.concatenate(starts)) for width, starts in parts.items()]


def _check_tensors(shard: Path, header: Mapping[str, Stored], wanted: Mapping[str, Shape]) -> None:
    for name, shape in wanted.items():
        tensor = header[name]
        if tensor.dtype not in _BYTES:
            raise LesionError(
                f"{shard}: `{name}` is {tensor.dtype}, which cannot be zeroed in place"
            )
        if tensor.end - tensor.begin != math.prod(shape) * _BYTES[tensor.dtype]:
            raise BadFile(f"{shard}: the bytes of `{name}` do not match its shape")
    # In the file's order, a tensor that overlaps a later one overlaps the next one.
    extents = sorted(
        (tensor.begin, tensor.end, name)
        for name, tensor in header.items()
        if tensor.end > tensor.begin
    )
    reach, before = 0, ""
    for begin, end, name in extents:
        if begin < reach and {name, before} & wanted.keys():
            first, second = (name, before) if name in wanted else (before, name)
            raise LesionError(
                f"{shard}: `{first}` and `{second}` share bytes, so zeros in one change the "
                "other. Save the model again with `save_pretrained`, which stores them once."
            )
        if end > reach:
            reach, before = end, name
