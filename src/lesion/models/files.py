"""Choosing and checking the files of a checkpoint folder. No torch."""

import json
import logging
import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from lesion.io.formats import BadFile, LesionError, Stored, safetensors_header
from lesion.io.texts import is_pointer, pointer_error

logger = logging.getLogger(__name__)

RECORD = "lesion.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
CONFIG = "config.json"
GENERATION = "generation_config.json"
KEPT = (".safetensors", ".json", ".txt", ".model", ".jinja", ".tiktoken")
"""Endings of the files that make a checkpoint: weights, config, tokenizer and chat template."""
QUANTISED = "quantised weights can't be scored. Give an unquantised checkpoint."

FLOATS = ("F64", "F32", "BF16", "F16")
"""Names of safetensors files for the dtypes that weights may have."""
_BUFFERS = ("BOOL", "U8", "I64", "I32")
"""Dtypes of masks and positions in old checkpoints; other unknown names are refused later."""
ADAPTER = "adapter_config.json"
_ADAPTERS = ("adapter_model.safetensors", ADAPTER)
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_OBJECTS = (
    *(CONFIG, GENERATION, INDEX, "tokenizer.json", "tokenizer_config.json", "vocab.json"),
    *("special_tokens_map.json", "added_tokens.json", "chat_template.json"),
    *("processor_config.json", "preprocessor_config.json"),
)
"""JSON files that transformers reads from a folder, each with one object."""
_KEYS = {
    GENERATION: {
        *("bos_token_id", "do_sample", "eos_token_id", "max_length", "max_new_tokens"),
        *("pad_token_id", "temperature", "top_k", "top_p", "transformers_version"),
    },
    "tokenizer_config.json": {
        *("add_bos_token", "add_prefix_space", "added_tokens_decoder", "auto_map", "backend"),
        *("bos_token", "chat_template", "do_lower_case", "eos_token", "model_max_length"),
        *("name_or_path", "pad_token", "tokenizer_class", "tokenizer_file", "unk_token"),
    },
}
"""Keys of which a file has at least one; an empty file would override the model's settings."""
_VOCABULARIES = (
    ("tokenizer.json",),
    ("vocab.json", "merges.txt"),
    ("vocab.txt",),
    ("tekken.json",),
)
"""Sets of files that are a tokenizer's vocabulary, besides files with the suffix `.model`."""
_READERS = {
    "sentencepiece": {"sentencepiece": "sentencepiece", "google.protobuf": "protobuf"},
    "tiktoken": {"tiktoken": "tiktoken"},
}
"""Modules that transformers imports to read a vocabulary, and their packages."""
_AGAIN = "Download it again."


class UnsupportedModel(LesionError):
    """A model whose weights cannot be scored, with the reason."""


def kept_files(folder: Path) -> list[Path]:
    """The files of the checkpoint in a folder, by name, without its record.

    Only the safetensors files that transformers loads: a folder may have weights twice, and also an
    adapter, an optimiser's state, or files of an earlier save.
    """
    left = left_out(folder)
    return [path for path in _named_like_kept(folder) if path.name not in left]


def left_out(folder: Path) -> list[str]:
    """Names of files that look like a part of the checkpoint but do not belong to it."""
    names = {path.name for path in _named_like_kept(folder)}
    loaded = set(_loaded(folder, names))
    left = {name for name in names if name.endswith(".safetensors")} - loaded
    left |= names & set(_ADAPTERS)
    if WEIGHTS in loaded:
        left |= names & {INDEX}
    return sorted(left)


def say_left_out(folder: Path) -> None:
    """Log the files of a folder that are not used."""
    for name in left_out(folder):
        logger.warning(f"{folder / name}: left out, transformers does not load it")


def _named_like_kept(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix in KEPT and path.is_file() and path.name != RECORD
    )


def _loaded(folder: Path, names: set[str]) -> list[str]:
    """The safetensors files that transformers loads: the single one, else those of the index."""
    if WEIGHTS in names:
        return [WEIGHTS]
    return _shards(folder / INDEX) if INDEX in names else []


def _shards(index: Path) -> list[str]:
    """The files that an index names; something else, or files elsewhere, is refused."""
    weight_map = read_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise BadFile(f"{index}: has no `weight_map` that names the files of weights. {_AGAIN}")
    shards = sorted({str(name) for name in weight_map.values()})
    away = [name for name in shards if Path(name).name != name]
    if away:
        raise BadFile(
            f"{index}: names {away[0]}, which is not a file of the same folder. Put all files of "
            "weights beside it, and correct their names there."
        )
    return shards


def stored_tensors(folder: Path) -> dict[str, tuple[Path, Stored]]:
    """The tensors of a checkpoint folder's weights: their files and header entries."""
    return {
        name: (path, entry)
        for path in kept_files(folder)
        if path.suffix == ".safetensors"
        for name, entry in safetensors_header(path).items()
    }


def user_file(source: Path, name: str) -> Path:
    """A file in the user's folder, or the file that the checkpoint folder was made from."""
    return source if source.is_file() else source / name


def first_named(names: Sequence[str]) -> str:
    """The first name, and the number of the others."""
    more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
    return f"`{names[0]}`{more}"


def read_object(path: Path) -> dict[str, Any]:
    """Read a user's JSON file with one object.

    Raises:
        BadFile: it has something else, or is not JSON in UTF-8.
    """
    try:
        content = json.loads(path.read_bytes().decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        # A byte order mark can be decoded, but is not JSON.
        raise BadFile(
            f"{path}: is not JSON in UTF-8 without a byte order mark ({first_line(error)}). "
            f"{_AGAIN}"
        ) from error
    if not isinstance(content, dict):
        raise BadFile(f"{path}: does not hold a JSON object, {{…}}. {_AGAIN}")
    return content


def first_line(error: Exception, folder: Path | None = None, source: Path | None = None) -> str:
    """The first line of a library's error, with the user's name for a temporary folder."""
    line, *more = str(error).strip().splitlines() or [type(error).__name__]
    if line.endswith(":") and more:
        line = f"{line} {more[0].strip()}"
    if folder is not None:
        for name in (str(folder.resolve()), str(folder)):
            line = line.replace(name, str(source))
    return line


def check_folder(folder: Path) -> None:
    """Check that a user's folder has a complete checkpoint, as far as its files show.

    Raises:
        UnsupportedModel: it has something else: pickles, an adapter, GGUF files, quantised
            weights.
        BadFile: a file is missing, is a git-lfs pointer, is truncated, or contradicts another.
    """
    for path in sorted(folder.iterdir()):
        if path.suffix in KEPT and not path.exists():
            raise BadFile(f"{path}: is a link to {path.readlink()}, which is not there. {_AGAIN}")
    pointers = [path for path in _named_like_kept(folder) if is_pointer(path)]
    if pointers:
        raise pointer_error(*pointers)
    _check_weights(folder)
    if not (folder / CONFIG).is_file():
        raise BadFile(f"{folder}: holds no {CONFIG}. Copy it from where the weights are from.")
    for path in (folder / name for name in _OBJECTS if (folder / name).is_file()):
        content = read_object(path)
        if path.name in _KEYS and not content.keys() & _KEYS[path.name]:
            raise BadFile(
                f"{path}: holds none of the keys of such a file. Copy it again from where the "
                "model is from, or remove it."
            )
    for path in (folder / "merges.txt", folder / "vocab.txt", *sorted(folder.glob("*.jinja"))):
        if path.is_file():
            _check_text(path)
    _check_vocabulary(folder)


def _check_text(path: Path) -> None:
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadFile(f"{path}: is not text in UTF-8 ({error}). {_AGAIN}") from error
    if text.startswith("\ufeff"):
        raise BadFile(
            f"{path}: begins with a byte order mark, which would be read as a character. Save it "
            "as UTF-8 without one."
        )
    if "\0" in text or not text.strip():
        kind = "holds NUL characters" if "\0" in text else "is empty"
        raise BadFile(f"{path}: {kind}, so it is damaged. {_AGAIN}")


def check_holds_weights(folder: Path) -> None:
    """Check that a model's folder has files of weights; they are not read.

    Raises:
        UnsupportedModel: it has none that are loaded; the message says what it has instead.
    """
    names = {path.name for path in _named_like_kept(folder)}
    if not _loaded(folder, names):
        raise UnsupportedModel(f"{folder}: {_why_no_weights(folder, names)}")


def _check_weights(folder: Path) -> None:
    check_holds_weights(folder)
    names = {path.name for path in _named_like_kept(folder)}
    loaded = _loaded(folder, names)
    if ADAPTER in names:
        raise UnsupportedModel(
            f"{folder / ADAPTER}: an adapter lies beside the weights of a model, and transformers "
            "would put it on them. Merge it (peft's `merge_and_unload`, then `save_pretrained`), "
            "or remove it to audit the model without it."
        )
    other = read_object(folder / CONFIG).get("transformers_weights") if CONFIG in names else None
    if other is not None and other not in (WEIGHTS, INDEX):
        raise UnsupportedModel(
            f"{folder / CONFIG}: `transformers_weights` names {other}, and only {WEIGHTS} or the "
            f"shards of {INDEX} are read. Rename the file, and take the key out."
        )
    missing = [name for name in loaded if name not in names]
    if missing:
        raise BadFile(
            f"{folder / INDEX}: names files of weights that are not there: {_listed(missing)}. "
            "Download them too."
        )
    headers = {shard: _user_header(folder / shard) for shard in loaded}
    owner: dict[str, str] = {}
    for shard, header in headers.items():
        for name, entry in header.items():
            if name in owner:
                raise BadFile(
                    f"{folder}: `{name}` is stored both in {owner[name]} and in {shard}. One is "
                    "another save's: keep the files of one save."
                )
            owner[name] = shard
            allowed = FLOATS if name.endswith(".weight") else (*FLOATS, *_BUFFERS)
            if entry.dtype not in allowed:
                raise UnsupportedModel(
                    f"{folder / shard}: {name} is stored as {entry.dtype}: {QUANTISED}"
                )
    if INDEX in names and WEIGHTS in names:
        _check_both(folder, names)


def _user_header(path: Path) -> dict[str, Stored]:
    """As `safetensors_header`, for a user's file."""
    header = safetensors_header(path, _AGAIN)
    try:
        # The library's own check of the header: sizes fit the shapes, and no byte is left over.
        with safe_open(path, "np"):
            pass
    except (SafetensorError, OSError) as error:
        raise BadFile(
            f"{path}: is not a complete safetensors file ({first_line(error)}). {_AGAIN}"
        ) from error
    return header


def _check_both(folder: Path, names: set[str]) -> None:
    """Compare shards and a single file: transformers loads the latter, other engines the former."""
    shards = [name for name in _shards(folder / INDEX) if name != WEIGHTS and name in names]
    if not shards:
        return
    single = _tensors(folder / WEIGHTS)
    parts = {key: tensor for name in shards for key, tensor in _tensors(folder / name).items()}
    if single.keys() != parts.keys() or any(
        tensor[:2] != parts[key][:2] or not np.array_equal(tensor[2], parts[key][2])
        for key, tensor in single.items()
    ):
        raise BadFile(
            f"{folder}: holds two checkpoints, {WEIGHTS} and the files of {INDEX}, which are not "
            "the same. Remove the files of the one that is not meant."
        )


def _tensors(path: Path) -> dict[str, tuple[str, tuple[int, ...], NDArray[np.uint8]]]:
    """The tensors of a file, with their dtypes, shapes and memory-mapped bytes."""
    data = np.memmap(path, np.uint8, "r")
    return {
        name: (entry.dtype, entry.shape, data[entry.begin : entry.end])
        for name, entry in _user_header(path).items()
    }


def _why_no_weights(folder: Path, names: set[str]) -> str:
    safe = sorted(name for name in names if name.endswith(".safetensors"))
    others = sorted(path.name for path in folder.iterdir())
    if names & set(_ADAPTERS):
        return (
            f"holds an adapter ({_listed(sorted(names & set(_ADAPTERS)))}) and no model. Merge it "
            "into its base model (peft's `merge_and_unload`), save that, and give its folder."
        )
    if "consolidated.safetensors" in safe:
        return (
            "holds consolidated.safetensors, which is Mistral's own format. Give the checkpoint "
            f"that transformers reads ({WEIGHTS}, or shards with {INDEX})."
        )
    if safe:
        return (
            f"holds {_listed(safe)}, and neither {WEIGHTS} nor {INDEX}, by which transformers "
            f"finds the weights. If they are parts of a checkpoint, its {INDEX} is missing; if one "
            f"is all of it, name it {WEIGHTS}."
        )
    if "snapshots" in others:
        return "is a model in the hub's cache. Give the folder of a revision below its `snapshots`."
    ggufs = [name for name in others if name.lower().endswith(".gguf")]
    if ggufs:
        return f"holds GGUF files ({_listed(ggufs)}). Name one of them as the model's source."
    upper_case = [name for name in others if name.lower().endswith(".safetensors")]
    if upper_case:
        return (
            f"holds {_listed(upper_case)}, which is not found by that name. Write it in lower case."
        )
    pickles = [name for name in others if name.endswith(_PICKLES)]
    remark = f" (only {', '.join(pickles)}, which may run code when loaded)" if pickles else ""
    return f"holds no safetensors{remark}. Convert it with `save_pretrained`."


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _check_vocabulary(folder: Path) -> None:
    if any(all((folder / name).is_file() for name in names) for names in _VOCABULARIES):
        return
    models = sorted([*folder.glob("*.model"), *folder.glob("*.tiktoken")])
    if models:
        # Of another kind, which transformers needs a library to read.
        with models[0].open("rb") as handle:
            first = handle.readline(200)
        tiktoken = re.fullmatch(rb"[A-Za-z0-9+/=]+ \d+\r?\n", first) is not None
        needed = _READERS["tiktoken" if tiktoken else "sentencepiece"]
        missing = [name for module, name in needed.items() if not _installed(module)]
        if missing:
            raise UnsupportedModel(
                f"{models[0]}: is the only file of the tokenizer, and reading it takes a library "
                f"that is not installed. Run `pip install {' '.join(missing)}`, or put the "
                "tokenizer.json of the model beside it."
            )
    elif (folder / "vocab.json").is_file():
        raise BadFile(
            f"{folder}: holds vocab.json without merges.txt, which says how its tokens are put "
            "together. Copy merges.txt, or tokenizer.json, from where the model is from."
        )
    else:
        raise BadFile(
            f"{folder}: holds no tokenizer (none of tokenizer.json, tokenizer.model, vocab.txt, "
            "vocab.json with merges.txt). Copy the tokenizer's files from where the model is from, "
            "or write them there with `AutoTokenizer.from_pretrained(…).save_pretrained(…)`."
        )


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # its parent is missing
        return False
