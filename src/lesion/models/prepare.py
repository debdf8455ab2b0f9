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
)

from lesion.formats import atomic, safetensors_header, write_json
from lesion.models.candidates import Candidate, UnsupportedModel, auto_class, find_candidates
from lesion.models.chat import AUTO, SAMPLE, Chat, ChatSettings, find_format, to_record
from lesion.models.load import quiet, resolve_dtype
from lesion.models.record import FORMAT, RECORD, content_digest, kept_files
from lesion.models.sums import file_sum

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_STORED = ("F64", "F32", "BF16", "F16")


def prepare(
    source: Path,
    out: Path,
    *,
    dtype: str,
    license_: str,
    chat: ChatSettings = AUTO,
) -> None:
    """Make the checkpoint folder `out`, and its record with digest, sizes and candidates.

    Args:
        source: a GGUF file, or a folder with safetensors.
        out: the folder to make.
        dtype: of the weights of a GGUF file.
        license_: for the record.
        chat: how prompts are put to the model.

    Raises:
        UnsupportedModel: no safetensors, an unknown architecture, or nothing to score in it.
        ChatError: the chat template does not put prompts to it as they are meant.
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
        folder = source if source.is_dir() else part
        speaking = _chat(part, folder, chat, out.name)
        write_json(_record(part, license_, speaking), part / RECORD)


def write_model(
    model: PreTrainedModel,
    chat: Chat,
    out: Path,
    *,
    license_: str,
    trained: Mapping[str, Any],
) -> None:
    """Write a model that was trained here into the folder `out`, with its record.

    Args:
        model: on the CPU, in the precision it is to have.
        chat: its tokenizer with its chat format.
        out: an empty folder, or none yet.
        license_: for the record.
        trained: what it was made of, for the record.
    """
    out.mkdir(parents=True, exist_ok=True)
    tokenizer = chat.tokenizer
    # A greedy decoder's settings only; what training left there is no part of the model.
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.config.dtype = model.dtype
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    write_json({**_record(out, license_, chat), "trained": dict(trained)}, out / RECORD)


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


def _chat(part: Path, source: Path, settings: ChatSettings, model: str) -> Chat:
    """The chat format, said in the log; a template that is found is put where tools look for it."""
    tokenizer = AutoTokenizer.from_pretrained(part)
    # Of the source: a tokenizer's named templates lie in a folder of their own.
    own = AutoTokenizer.from_pretrained(source) if source != part else tokenizer
    chat = Chat(tokenizer, find_format(own, settings, f"`models.{model}`", source))
    one = chat.format
    if one.template is not None and tokenizer.chat_template != one.template:
        (part / "chat_template.jinja").write_text(one.template, encoding="utf-8")
    print(f"{model}: chat format: {one.origin}", *one.notes, sep="\n  ", file=sys.stderr)
    print(f"{model}: a prompt is put so:\n{chat.render(SAMPLE)}", file=sys.stderr)
    return chat


def _record(folder: Path, license_: str, chat: Chat) -> dict[str, Any]:
    sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    candidates, kind = _candidates(folder)
    shapes = {name: list(one.weight.shape) for name, one in candidates.items()}
    return {
        "format": FORMAT,
        "architecture": kind,
        "license": license_,
        "chat": to_record(chat),
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
    """Candidates that no shard holds under their name, but for the model's prefix, and shape.

    transformers stacks experts and renames weights while loading. Such a model can be scored and
    lesioned in memory, but zeros cannot be poked into its files.

    Raises:
        UnsupportedModel: a candidate is stored in a quantised format.
    """
    shards = sorted(folder.glob("*.safetensors"))
    stored = {name: one for path in shards for name, one in safetensors_header(path).items()}
    for name in shapes:
        if name in stored and stored[name].dtype not in _STORED:
            raise UnsupportedModel(
                f"{name} is stored as {stored[name].dtype}: quantised weights can't be scored. "
                "Give an unquantised checkpoint."
            )
    # Old checkpoints (GPT-2's) leave out the model's own prefix, and are written so too.
    bare = 0 if shapes.keys() & stored.keys() else 1
    names = {name: name.split(".", bare)[-1] for name in shapes}
    return [
        own
        for own, name in names.items()
        if name not in stored or list(stored[name].shape) != shapes[own]
    ]
