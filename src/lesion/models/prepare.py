"""Stage `models`: a GGUF file, or a folder with safetensors, becomes a plain checkpoint folder."""

import logging
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gguf
import torch
from accelerate import init_empty_weights
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedModel

from lesion.io.checksums import file_checksum
from lesion.io.formats import LesionError, atomic, write_json
from lesion.io.texts import is_pointer, pointer_error
from lesion.models.candidates import Candidate, find_candidates
from lesion.models.chat import SAMPLE, Chat, to_record
from lesion.models.chat_format import AUTO, find_format
from lesion.models.config import bad_config, check_config, check_stops
from lesion.models.conversion import empty_model, stored_parts
from lesion.models.files import (
    FLOATS,
    QUANTISED,
    UnsupportedModel,
    check_folder,
    first_line,
    kept_files,
    say_left_out,
    stored_tensors,
)
from lesion.models.jobs import ResolvedChat
from lesion.models.load import resolve_dtype, silence_libraries
from lesion.models.loading import check_loaded, check_values, forwarded_warnings, open_model
from lesion.models.parts import is_unchanged
from lesion.models.record import FORMAT, RECORD, content_digest
from lesion.models.tokenizer import check_tokenizer

logger = logging.getLogger(__name__)

_GGUF_PART = re.compile(r"-\d{5}-of-(\d{5})\.gguf$")


def prepare(
    source: Path, out: Path, *, dtype: str, license_: str, chat: ResolvedChat = AUTO
) -> None:
    """Make the checkpoint folder `out`, and its record with digest, sizes and candidates.

    `source` is a GGUF file, whose weights are written in `dtype`, or a folder with safetensors.

    Raises:
        UnsupportedModel: no safetensors, an unknown architecture, or nothing to score in it.
        ChatError: the chat template fails, or changes or drops a prompt.
    """
    silence_libraries()
    with atomic(out) as part, forwarded_warnings(part, source):
        part.mkdir(parents=True)
        listed = None
        if source.suffix.lower() == ".gguf" and source.is_file():
            listed = _from_gguf(source, part, dtype)
        elif source.is_dir():
            check_folder(source)
            say_left_out(source)
            # The record of a folder that this pipeline wrote is replaced by the new one.
            for path in kept_files(source):
                shutil.copyfile(path, part / path.name)
        else:
            raise UnsupportedModel(
                f"{source}: is neither a .gguf file nor a folder with safetensors and config.json"
            )
        model = _empty_model(part, source)
        _check_opened(part, source, listed)
        resolved = _chat(part, source if source.is_dir() else part, chat, out.name)
        write_json(_record(part, license_, resolved, *model), part / RECORD)


def write_model(
    model: PreTrainedModel, chat: Chat, out: Path, *, license_: str, trained: Mapping[str, Any]
) -> None:
    """Write a model that was trained here into the folder `out`, with its record.

    The model is on the CPU, in the precision to write, and `trained` says what it was made of.
    """
    out.mkdir(parents=True, exist_ok=True)
    model.config.dtype = model.dtype
    _save(model, chat.tokenizer, out)
    record = _record(out, license_, chat, *_empty_model(out, out))
    write_json({**record, "trained": dict(trained)}, out / RECORD)


def _from_gguf(source: Path, out: Path, dtype: str) -> int:
    """Write a GGUF file as a checkpoint folder; return its number of tokens."""
    from transformers.utils.quantization_config import GgufConfig

    tokens = _check_gguf(source)
    # Alone in a folder, because a config, template or adapter beside it is another checkpoint's.
    with (
        TemporaryDirectory() as scratch,
        forwarded_warnings(Path(scratch), source.parent),
        _parsed_once(),
    ):
        alone = Path(scratch) / source.name
        alone.symlink_to(source.resolve())
        try:
            opened: Any = AutoModelForCausalLM.from_pretrained(
                scratch,
                gguf_file=source.name,
                quantization_config=GgufConfig(dequantize=True),
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are refused below, by name
            )
            tokenizer = AutoTokenizer.from_pretrained(scratch, gguf_file=source.name)
            stored = gguf.GGUFReader(str(alone)).tensors
        except MemoryError:
            raise
        except Exception as error:
            raise _no_gguf(source, first_line(error, Path(scratch), source.parent)) from error
    model, info = opened
    check_loaded(model, info, source)
    # transformers silently ignores some tensors. Their numbers of weights are compared, because
    # names and shapes change when they are read.
    tensors = {tensor.name: int(tensor.n_elements) for tensor in stored}
    used = {tensor.data_ptr(): tensor.numel() for tensor in model.state_dict().values()}
    if sum(tensors.values()) > sum(used.values()):
        what = "tensors, of other kinds or layers"
        if "rope_freqs.weight" in tensors:
            what = "`rope_freqs.weight`, Llama 3.1's scaling of its positions"
        raise UnsupportedModel(
            f"{source}: holds {what}, which transformers does not read from GGUF: the model would "
            "be another. Give a folder with safetensors."
        )
    rows = len(model.get_input_embeddings().weight)
    if tokens > rows:
        raise UnsupportedModel(
            f"{source}: lists {tokens} tokens, and its embedding has {rows} rows. Convert the "
            "model again, after `resize_token_embeddings`."
        )
    weights = {name: value.to(resolve_dtype(dtype)) for name, value in model.state_dict().items()}
    # transformers cannot save a model from a GGUF file, but a plain model with its weights.
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
    _save(plain, tokenizer, out)
    return tokens


@contextmanager
def _parsed_once() -> Iterator[None]:
    """Let transformers parse a GGUF file, and build its table of names, once each.

    Otherwise it parses the file for the config, the weights and the tokenizer, and builds the
    table for every module of the model, which takes most of the time.
    """
    replaced = {name: getattr(gguf, name) for name in ("GGUFReader", "get_tensor_name_map")}
    try:
        for name, function in replaced.items():
            setattr(gguf, name, cache(function))
        yield
    finally:
        for name, function in replaced.items():
            setattr(gguf, name, function)


def _save(model: PreTrainedModel, tokenizer: Any, out: Path) -> None:
    """Save both, with the settings of greedy decoding alone: others are not the model's own."""
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def _no_gguf(source: Path, why: str) -> UnsupportedModel:
    return UnsupportedModel(
        f"{source}: is incomplete, or not of an architecture that transformers reads from GGUF "
        f"({why}). Fetch it again, or give a folder with safetensors."
    )


def _check_gguf(source: Path) -> int:
    """Refuse a file with a part of a model, or none; return its number of tokens."""
    from transformers.integrations.gguf.reader import read_gguf_metadata

    if is_pointer(source):
        raise pointer_error(source)
    named = _GGUF_PART.search(source.name)
    try:
        metadata, _ = read_gguf_metadata(str(source))
    except Exception as error:
        raise _no_gguf(source, first_line(error, source, source)) from error
    parts = max(int(named[1]) if named else 1, int(metadata.get("split.count", 1)))
    if parts > 1:
        raise UnsupportedModel(
            f"{source}: is one of {parts} parts of a model. Join them with `llama-gguf-split "
            "--merge <first part> joined.gguf`, and give that file."
        )
    kind = metadata.get("general.type", "model")
    if kind != "model":
        raise UnsupportedModel(
            f"{source}: holds a GGUF {kind}, and no model. Give the model's file."
        )

    return int(metadata.get("tokenizer.ggml.tokens", 0))


def _chat(part: Path, source: Path, settings: ResolvedChat, model: str) -> Chat:
    """The chat format, which is logged; its template is written where tools look for it."""
    tokenizer = AutoTokenizer.from_pretrained(part)
    # From the source, because a tokenizer's named templates are in a separate folder.
    own = AutoTokenizer.from_pretrained(source) if source != part else tokenizer
    chat = Chat(tokenizer, find_format(own, settings, f"`models.{model}`", source))
    format_ = chat.format
    if format_.template is not None and tokenizer.chat_template != format_.template:
        (part / "chat_template.jinja").write_text(format_.template, encoding="utf-8")
    description = format_.origin if chat.plain else f"template from {format_.origin}"
    logger.info("\n  ".join((f"{model}: chat format: {description}", *format_.notes)))
    logger.info(f"{model}: an example prompt is rendered as:\n{chat.render(SAMPLE)}")
    return chat


def _record(
    folder: Path,
    license_: str,
    chat: Chat,
    model: PreTrainedModel,
    candidates: Mapping[str, Candidate],
) -> dict[str, Any]:
    sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    weights = [name for name in sizes if name.endswith(".safetensors")]
    shapes = {name: list(candidate.weight.shape) for name, candidate in candidates.items()}
    return {
        "format": FORMAT,
        "architecture": type(model).__name__,
        "license": license_,
        "chat": to_record(chat),
        "digest": content_digest(folder),
        "files": sizes,
        "checksums": {name: file_checksum(folder / name) for name in weights},
        # A list, because an object's keys are sorted when written, and the model's order is needed.
        "candidates": list(shapes.items()),
        "transposed": [name for name, candidate in candidates.items() if candidate.transposed],
        "unstored": _unstored(folder, model, shapes),
    }


def _empty_model(folder: Path, source: Path) -> tuple[PreTrainedModel, dict[str, Candidate]]:
    """The model without its weights, and its candidates."""
    check_config(folder, source)
    try:
        model = empty_model(folder)
    except Exception as error:
        raise bad_config(source, first_line(error, folder, source)) from error
    try:
        return model, find_candidates(model)
    except UnsupportedModel as error:
        raise UnsupportedModel(f"{source}: {error}") from error


def _check_opened(folder: Path, source: Path, listed: int | None) -> None:
    """Refuse a checkpoint that cannot be opened, or not as its files say.

    `source` is the user's folder or file; `listed` is the number of tokens in a GGUF file.
    """
    try:
        # Opens all weights by transformers' renaming and joining, without keeping any in memory.
        model = open_model(folder, source, dtype="auto", device_map="meta")
    except (LesionError, MemoryError):
        raise
    except Exception as error:
        raise UnsupportedModel(
            f"{source}: its weights can't be opened ({first_line(error, folder, source)})."
        ) from error
    check_values(folder, model, source)
    embedding: Any = model.get_input_embeddings()
    rows = len(embedding.weight)
    check_tokenizer(folder, source, rows, listed)
    check_stops(folder, model, source, rows)


def _unstored(folder: Path, model: PreTrainedModel, shapes: Mapping[str, list[int]]) -> list[str]:
    """Candidates that no shard stores unchanged under their name, apart from the model's prefix.

    transformers stacks experts and renames weights while loading. If it only moves weights, a
    checkpoint's zeros are written at their origin (`lesion.models.conversion`); for the others the
    log says that they cannot be written.
    """
    stored = {name: entry for name, (_, entry) in stored_tensors(folder).items()}
    parts = stored_parts(model, folder)
    for own in shapes:
        for name in {own, *(part.name for part in parts.get(own, ()))} & stored.keys():
            if stored[name].dtype not in FLOATS:
                raise UnsupportedModel(f"{name} is stored as {stored[name].dtype}: {QUANTISED}")
    unplaced = [name for name in shapes if name not in parts]
    if unplaced:
        logger.warning(
            f"checkpoints: {len(unplaced)} of {len(shapes)} matrices ({unplaced[0]}, …) are "
            "computed from the files when transformers loads them, in a way that lesion cannot "
            "invert. They can be ablated in memory but not written to a checkpoint: a mask in "
            "`checkpoints` that contains any of them will be refused. Save the model again with "
            "transformers' `save_pretrained`, or remove such masks from `checkpoints`"
        )
    # Old checkpoints (GPT-2's) omit the model's prefix, and are written so too.
    bare = 0 if shapes.keys() & stored.keys() else 1
    names = {own: own.split(".", bare)[-1] for own in shapes}
    return [
        own
        for own, name in names.items()
        if name not in stored
        or list(stored[name].shape) != shapes[own]
        or not is_unchanged(parts.get(own, ()))
    ]
