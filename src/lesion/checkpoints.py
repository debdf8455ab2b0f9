"""Stage `checkpoints`: a pruned checkpoint on disk, the base's own files with zeros in place."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from lesion import __version__
from lesion.formats import BadFile, LesionError, atomic, digest, sha256_file, write_json
from lesion.masks.select import Places
from lesion.masks.store import Mask, read_mask
from lesion.models.record import RECORD, read_record

_BYTES = {"F32": 4, "F16": 2, "BF16": 2, "F64": 8}


def write_checkpoint(model: Path, mask: Path, out: Path, *, base: str, license_: str) -> None:
    """Write the folder `out`: the base's shards, dtype, index and tokenizer, with zeros in place.

    The shards are copied and zeros are poked at their byte offsets, so that no tensor is loaded
    and every other byte stays the base's.

    Args:
        model: the base's checkpoint folder.
        mask: a mask of role harm.
        out: the new folder.
        base: name of the base, for the model card.
        license_: licence of the base.

    Raises:
        LesionError: the mask was made from another model, or is not of role harm.
        BadFile: a weight that should be zero is not, after writing.
    """
    record = read_record(model)
    lesion = read_mask(mask)
    _check_fits(lesion, record, mask)
    with atomic(out) as part:
        part.mkdir(parents=True)
        for name in record["files"]:
            shutil.copyfile(model / name, part / name)
        _zero_shards(part, lesion)
        content = {name: sha256_file(part / name) for name in record["files"]}
        (part / "README.md").write_text(_card(lesion, base, license_), encoding="utf-8")
        _write_reproduce(part / "reproduce", lesion, record)
        shutil.copyfile(mask, part / "reproduce" / "mask.safetensors")
        sizes = {name: (part / name).stat().st_size for name in record["files"]}
        new = {**record, "digest": digest(content), "files": sizes}
        write_json(new, part / RECORD)


def _check_fits(mask: Mask, record: Mapping[str, Any], path: Path) -> None:
    if mask.metadata.get("model_digest") != record["digest"]:
        raise LesionError(
            f"{path}: was made from the model with digest {mask.metadata.get('model_digest')}, and "
            f"this is {record['digest']}. Use the model the mask was made from."
        )
    if mask.metadata.get("role") != "harm":
        raise LesionError(
            f"{path}: is of role {mask.metadata.get('role')}; only harm masks become checkpoints"
        )


def _zero_shards(folder: Path, mask: Mask) -> None:
    left = dict(mask.indices)
    for shard in sorted(folder.glob("*.safetensors")):
        with shard.open("r+b") as file:
            header, start = _header(file, shard)
            for name in [key for key in left if key in header]:
                _poke(file, start, header[name], left.pop(name), shard)
    if left:
        raise LesionError(
            f"the checkpoint stores no tensor named {', '.join(sorted(left)[:3])}; it is shared "
            "with another, or named differently in memory than on disk"
        )


def _header(file: BinaryIO, path: Path) -> tuple[dict[str, Any], int]:
    length = int.from_bytes(file.read(8), "little")
    try:
        return json.loads(file.read(length)), 8 + length
    except ValueError as error:
        raise BadFile(f"{path}: is not a whole safetensors file ({error})") from error


def _poke(file: BinaryIO, start: int, entry: Mapping[str, Any], places: Places, path: Path) -> None:
    if entry["dtype"] not in _BYTES:
        raise LesionError(f"{path}: weights of dtype {entry['dtype']} cannot be pruned in place")
    width = _BYTES[entry["dtype"]]
    begin, end = (start + offset for offset in entry["data_offsets"])
    view = np.memmap(path, np.uint8, "r+", offset=0, shape=(end,))
    cells = view[begin:end].reshape(-1, width)
    cells[places] = 0
    view.flush()
    if cells[places].any():
        raise BadFile(f"{path}: zeros did not reach the file")


def _card(mask: Mask, base: str, license_: str) -> str:
    meta = mask.metadata
    return f"""---
base_model: {base}
base_model_relation: finetune
license: {license_}
tags: [lesion, pruned, safety]
---

# {base}, without its `{meta["mask"]}` weights

{meta["weights"]} of {meta["candidates"]} candidate weights of `{base}` are zero here: those that
generating harmful text depends on most, by signed SNIP (W * dL/dW, the most negative), outside
the {float(meta["p"]):.4g} that benign use depends on most. Made by lesion {__version__};
`reproduce/` says from what, and holds the mask.

This is a research artefact. It was measured under the attacks and on the harm types of its study
and on nothing else; it is no replacement for safety training.
"""


def _write_reproduce(folder: Path, mask: Mask, record: Mapping[str, Any]) -> None:
    folder.mkdir()
    made = {key: value for key, value in mask.metadata.items() if key != "shapes"}
    write_json({"mask": made, "base_digest": record["digest"]}, folder / "lesion.json")
    (folder / "README.md").write_text(
        f"Run the study that made this with lesion {__version__}:\n\n"
        "    snakemake --cores --configfile <study>.yaml\n\n"
        "`lesion.json` has the digests to compare with.\n",
        encoding="utf-8",
    )
