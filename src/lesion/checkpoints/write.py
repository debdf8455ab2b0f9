"""Write a pruned checkpoint: copy the shards, write zeros at byte offsets, compare every byte."""

import hashlib
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any

from lesion.checkpoints.card import FOLDER, write_card, write_reproduce
from lesion.checkpoints.copies import copy_with_zeros
from lesion.checkpoints.shards import find_zeros
from lesion.io.formats import LesionError, atomic, digest, write_json
from lesion.io.progress import progress
from lesion.masks.store import Mask, read_mask
from lesion.models.files import kept_files, say_left_out
from lesion.models.record import RECORD, content_digest, read_record

_MEGABYTE = 10**6


def write_checkpoint(
    model: Path,
    mask: Path,
    out: Path,
    *,
    base: str,
    license_: str,
    command: str = "",
    study: Mapping[str, Any] | None = None,
    card: bool = True,
) -> None:
    """Write the folder `out`: the base's shards, dtype, index and tokenizer, with zeros in place.

    No tensor is loaded, and memory does not grow with the checkpoint. Afterwards every byte is
    compared with the base's.

    Args:
        model: the base's checkpoint folder, from the `models` stage or any with safetensors.
        mask: a mask of role harm.
        out: the new folder.
        base: name of the base, for the model card.
        license_: licence of the base.
        command: the command line, for `reproduce/`.
        study: the study's config, for `reproduce/`.
        card: write the model card too, without measurements; else `write_card` does.

    Raises:
        LesionError: the mask was made from another model, is not of role harm, or names weights
            that the base's files do not hold as such.
        BadFile: the written bytes are not the expected ones.
    """
    lesion = read_mask(mask)
    if lesion.metadata.get("role") != "harm":
        raise LesionError(
            f"{mask}: is of role {lesion.metadata.get('role')}; only masks of role "
            "harm can be written as checkpoints"
        )
    base_digest = _check_base(model, lesion, mask)
    indices = hashlib.sha256()
    for name, flat_indices in sorted(lesion.indices.items()):
        indices.update(f"{name} {flat_indices.size}\n".encode())
        indices.update(flat_indices.astype("<i8").tobytes())
    # These two determine the new bytes, whose own digest would take as long as writing them.
    pruned = digest({"base": base_digest, "zeroed": indices.hexdigest()})
    facts = {"base": base, "base_digest": base_digest, "digest": pruned}
    facts |= {"license": license_, "command": command}
    with atomic(out) as part:
        files = copy_zeroed(model, lesion, part)
        if (model / RECORD).is_file():
            sizes = {name: (part / name).stat().st_size for name in files}
            # Its bytes have just been compared with the base's, whose checksums no longer apply.
            changed = {"license": license_, "digest": pruned, "files": sizes, "checksums": {}}
            write_json({**read_record(model), **changed}, part / RECORD)
        write_reproduce(part / FOLDER, mask, lesion, facts, study)
        if card:
            write_card(part)


def copy_zeroed(model: Path, mask: Mask, out: Path) -> list[str]:
    """Make the folder `out` of the base's files with the mask's weights zeroed; return their names.

    Raises:
        LesionError: the mask names weights that the base's files do not hold as such.
        BadFile: the written bytes are not the expected ones.
    """
    # A second copy of the weights would still have the pruned ones.
    say_left_out(model)
    files = [path.name for path in kept_files(model)]
    zeros = find_zeros(model, files, mask)
    out.mkdir(parents=True)
    sizes = {name: (model / name).stat().st_size for name in files}
    lock, shown, seen = Lock(), 0, 0
    with progress("write and compare", sum(sizes.values()) // _MEGABYTE, "megabyte") as advance:

        def done(count: int) -> None:
            nonlocal shown, seen
            with lock:
                seen += count
                if seen // _MEGABYTE > shown:
                    advance(seen // _MEGABYTE - shown)
                    shown = seen // _MEGABYTE

        def copy(name: str) -> None:
            copy_with_zeros(model / name, out / name, zeros.get(name, ()), done)

        # System calls do the work, and two at a time saturate a disk or the memory.
        with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
            # Reading the results raises the first error, after which no other file is started.
            list(pool.map(copy, sorted(files, key=lambda name: -sizes[name])))
    return files


def _check_base(folder: Path, mask: Mask, path: Path) -> str:
    """The base's digest, which must equal the mask's."""
    wanted = mask.metadata.get("model_digest")
    if (folder / RECORD).is_file() and read_record(folder)["digest"] == wanted:
        return str(wanted)
    if not any(folder.glob("*.safetensors")):
        raise LesionError(f"{folder}: holds no safetensors. Give the base checkpoint's folder.")
    # A plain folder; or a pruned one, whose record has another digest than its content.
    actual = content_digest(folder)
    if actual != wanted:
        raise LesionError(
            f"{path}: was made from the model with digest {wanted}, but {folder} has digest "
            f"{actual}. Give the same revision of the same model; if the study read a GGUF file, "
            "give the folder that it was converted into, results/<study>/models/<model>."
        )
    return actual
