"""Stage `models`: a GGUF file, or a folder with safetensors, becomes a plain checkpoint folder."""

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from lesion.formats import atomic, safetensors_header, write_json
from lesion.models.candidates import Candidate, UnsupportedModel, auto_class, find_candidates
from lesion.models.conversion import empty_model, parts_of
from lesion.models.load import quiet, resolve_dtype
from lesion.models.parts import is_whole
from lesion.models.record import FORMAT, RECORD, content_digest, kept_files
from lesion.models.sums import file_sum

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_STORED = ("F64", "F32", "BF16", "F16")


def prepare(source: Path, out: Path, *, dtype: str, license_: str) -> None:
    """Make the checkpoint folder `out`, and its record with digest, sizes and candidates.

    Raises:
        UnsupportedModel: no safetensors, an unknown architecture, or nothing to score in it.
    """
    quiet()
    with atomic(out) as part:
        part.mkdir(parents=True)
        if source.suffix == ".gguf":
            _from_gguf(source, part, dtype)
        elif source.is_dir():
            _from_folder(source, part)
        else:
            raise UnsupportedModel(
                f"{source}: is neither a .gguf file nor a folder with safetensors and config.json"
            )
        write_json(_record(part, license_), part / RECORD)


def write_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    out: Path,
    *,
    license_: str,
    trained: Mapping[str, Any],
) -> None:
    """Write a model that was trained here into the folder `out`, with its record.

    Args:
        model: on the CPU, in the precision it is to have.
        tokenizer: its own.
        out: an empty folder, or none yet.
        license_: for the record.
        trained: what it was made of, for the record.
    """
    out.mkdir(parents=True, exist_ok=True)
    # A greedy decoder's settings only; what training left there is no part of the model.
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.config.dtype = model.dtype
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    write_json({**_record(out, license_), "trained": dict(trained)}, out / RECORD)


def _from_gguf(source: Path, out: Path, dtype: str) -> None:
    from transformers.utils.quantization_config import GgufConfig

    try:
        model = AutoModelForCausalLM.from_pretrained(
            source.parent,
            gguf_file=source.name,
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.float32,
        )
    except (ValueError, KeyError, IndexError, OSError) as error:
        raise UnsupportedModel(
            f"{source}: is not whole, or not of an architecture that transformers reads from GGUF "
            f"({error}). Fetch it again, or give a folder with safetensors."
        ) from error
    weights = {name: value.to(resolve_dtype(dtype)) for name, value in model.state_dict().items()}
    # transformers won't save what came from a GGUF file: the same weights in a plain model will.
    # `_name_or_path` would put this machine's folder, or the converter's title, into the file.
    settings = model.config.to_dict()
    for key in ("quantization_config", "_name_or_path", "_model_name_or_path"):
        settings.pop(key, None)
    config = type(model.config).from_dict(settings)
    config.dtype = resolve_dtype(dtype)
    with init_empty_weights():
        plain = AutoModelForCausalLM.from_config(config)
    plain.load_state_dict(weights, assign=True)
    plain.tie_weights()
    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    plain.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    plain.save_pretrained(out)
    tokenizer.save_pretrained(out)


def _from_folder(source: Path, out: Path) -> None:
    if not any(source.glob("*.safetensors")):
        pickles = sorted(path.name for path in source.iterdir() if path.suffix in _PICKLES)
        found = f" (only {', '.join(pickles)}, which may run code when loaded)" if pickles else ""
        raise UnsupportedModel(
            f"{source}: holds no safetensors{found}. Convert it with `save_pretrained`."
        )
    # A folder this pipeline wrote has a record of its own, which the new one replaces.
    for path in kept_files(source):
        shutil.copyfile(path, out / path.name)


def _record(folder: Path, license_: str) -> dict[str, Any]:
    sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    candidates, kind = _candidates(folder)
    shapes = {name: list(one.weight.shape) for name, one in candidates.items()}
    return {
        "format": FORMAT,
        "architecture": kind,
        "license": license_,
        "digest": content_digest(folder),
        "files": sizes,
        "sums": {name: file_sum(folder / name) for name in sizes if name.endswith(".safetensors")},
        # A list: an object's keys are sorted when it is written, and the model's order is lost.
        "candidates": list(shapes.items()),
        "transposed": [name for name, one in candidates.items() if one.transposed],
        "unstored": _unstored(folder, shapes),
    }


def _candidates(folder: Path) -> tuple[dict[str, Candidate], str]:
    """What will be scored, found without loading a weight."""
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        # Not accelerate's empty weights: those untie what is tied.
        with torch.device("meta"):
            model = auto_class(config).from_config(config, trust_remote_code=False)
    except (ValueError, KeyError, OSError, ImportError) as error:
        raise UnsupportedModel(
            f"{folder.name}: transformers does not know this architecture as a causal language "
            f"model ({_first_line(error)}). Models that need their own code are not run."
        ) from error
    return find_candidates(model), type(model).__name__


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _unstored(folder: Path, shapes: dict[str, list[int]]) -> list[str]:
    """Candidates that no shard holds as they are under their name, but for the model's prefix.

    transformers stacks experts and renames weights while loading. Where it only moves weights,
    a checkpoint's zeros are put where they come from (`lesion.models.conversion`); of others the
    log says that they can't be written.

    Raises:
        UnsupportedModel: a candidate is stored in a quantised format.
    """
    shards = sorted(folder.glob("*.safetensors"))
    stored = {name: one for path in shards for name, one in safetensors_header(path).items()}
    parts = parts_of(empty_model(folder), folder)
    for own in shapes:
        for name in {own, *(part.name for part in parts.get(own, ()))} & stored.keys():
            if stored[name].dtype not in _STORED:
                raise UnsupportedModel(
                    f"{name} is stored as {stored[name].dtype}: quantised weights can't be scored. "
                    "Give an unquantised checkpoint."
                )
    _tell_unplaced([name for name in shapes if name not in parts], len(shapes))
    # Old checkpoints (GPT-2's) leave out the model's own prefix, and are written so too.
    bare = 0 if shapes.keys() & stored.keys() else 1
    names = {own: own.split(".", bare)[-1] for own in shapes}
    return [
        own
        for own, name in names.items()
        if name not in stored
        or list(stored[name].shape) != shapes[own]
        or not is_whole(parts.get(own, ()))
    ]


def _tell_unplaced(names: list[str], candidates: int) -> None:
    """Say before anything is computed what the study's checkpoints may fail of."""
    if names:
        print(
            f"checkpoints: {len(names)} of {candidates} matrices ({names[0]}, …) come about in a "
            "way that is not followed here when transformers loads the files, so their zeros can't "
            "be written. The model can be studied; a mask in `checkpoints` that holds any of them "
            "will be refused. Save the model anew with transformers' `save_pretrained`, or take "
            "such masks out of `checkpoints`",
            file=sys.stderr,
        )
