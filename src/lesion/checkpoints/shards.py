"""Where a mask's weights lie in a checkpoint's safetensors files, in bytes. No tensor is loaded."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lesion.formats import BadFile, LesionError, Stored, read_json, safetensors_header
from lesion.masks.store import Mask
from lesion.models.layout import Places

# Of these a zero byte is part of a zero. It is not in F8_E8M0, and smaller ones share bytes.
_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
_BYTES |= dict.fromkeys(("F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 1)


class Zeros(NamedTuple):
    """Weights of one width in one file: where each begins, in bytes, ascending."""

    width: int
    starts: Places


def find_zeros(folder: Path, files: Iterable[str], mask: Mask) -> dict[str, list[Zeros]]:
    """Where the zeros of a mask go, for each file of a checkpoint.

    Raises:
        LesionError: a tensor of the mask is not stored under its name and shape, is shared with
            another, or is of a dtype that cannot be zeroed by bytes.
        BadFile: a header is damaged.
    """
    shards = [name for name in files if name.endswith(".safetensors")]
    stored = {name: safetensors_header(folder / name) for name in shards}
    names = _stored_names(mask, {key for header in stored.values() for key in header}, folder)
    _check_ties(folder, names.values())
    return {
        shard: _zeros_in(
            folder / shard, header, {names[own]: own for own in names if names[own] in header}, mask
        )
        for shard, header in stored.items()
    }


def _stored_names(mask: Mask, stored: set[str], folder: Path) -> dict[str, str]:
    """The mask's names, each with the name on disk."""
    names = {name: name for name in mask.indices}
    if not stored & set(names):
        # Old checkpoints (GPT-2's) leave out the model's own prefix, `transformer.`
        names = {name: name.partition(".")[2] for name in names}
    missing = sorted(own for own, name in names.items() if name not in stored)
    if missing:
        raise LesionError(
            f"{folder}: stores no tensor named {', '.join(missing[:3])}"
            f"{f' (and {len(missing) - 3} more)' if len(missing) > 3 else ''}. It is tied to "
            "another tensor, or transformers joins or renames this architecture's tensors as it "
            "loads them (stacked experts), and a mask names them as they are in memory. Such a "
            "mask can be studied but not written as a checkpoint: take it out of `checkpoints`."
        )
    return names


def _check_ties(folder: Path, names: Iterable[str]) -> None:
    """Refuse what lies outside the blocks, unless the config says that nothing there is tied."""
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
    shard: Path, header: Mapping[str, Stored], names: Mapping[str, str], mask: Mask
) -> list[Zeros]:
    """The zeros of one file, in bytes; `names` on disk to names in the mask."""
    wanted = sorted(names, key=lambda name: header[name].begin)
    for name in wanted:
        _check_tensor(shard, name, header, mask.shapes[names[name]])
    parts: dict[int, list[Places]] = {}
    for name in wanted:
        width = _BYTES[header[name].dtype]
        starts = header[name].begin + width * mask.indices[names[name]]
        parts.setdefault(width, []).append(starts)
    return [Zeros(width, _joined(starts)) for width, starts in parts.items()]


def _joined(parts: Sequence[Places]) -> Places:
    return np.concatenate(parts) if len(parts) > 1 else parts[0]


def _check_tensor(
    shard: Path, name: str, header: Mapping[str, Stored], shape: tuple[int, ...]
) -> None:
    one = header[name]
    if one.dtype not in _BYTES:
        raise LesionError(f"{shard}: `{name}` is {one.dtype}, which cannot be zeroed in place")
    if one.shape != shape:
        raise LesionError(
            f"{shard}: `{name}` is {list(one.shape)} there and {list(shape)} in the mask. "
            "transformers changes this architecture's tensors as it loads them; such a mask can "
            "be studied but not written as a checkpoint: take it out of `checkpoints`."
        )
    if one.end - one.begin != math.prod(shape) * _BYTES[one.dtype]:
        raise BadFile(f"{shard}: the bytes of `{name}` are not as many as its shape says")
    for other, two in header.items():
        if other != name and two.begin < one.end and one.begin < two.end:
            raise LesionError(
                f"{shard}: `{name}` and `{other}` share bytes, so zeros in one change the "
                "other. Save the model anew with `save_pretrained`, which stores them once."
            )
