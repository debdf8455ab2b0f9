"""Open a checkpoint folder that the `models` stage made."""

import ctypes
import os
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from transformers import AutoConfig, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from lesion.io.formats import LesionError
from lesion.models import devices
from lesion.models.chat import Chat, from_record
from lesion.models.loading import open_model, stored_dtype
from lesion.models.record import check_weights, read_record
from lesion.models.text import context_of
from lesion.models.trial import share_results
from lesion.study.job import Device

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
"""Constants of glibc's malloc.h."""


class Loaded(NamedTuple):
    """A model in memory, in evaluation mode and without gradients."""

    model: PreTrainedModel
    chat: Chat
    """Its tokenizer with its chat format."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer alone."""
        return self.chat.tokenizer


def load(folder: Path, where: Device, chat: Chat | None = None) -> Loaded:
    """Load a checkpoint folder of the `models` stage, with its chat unless that is given.

    Raises:
        LesionError: the weights do not fit the GPUs, where gradients need them; or the model's
            weights are not those of the files.
        BadFile: a file does not have the recorded size, or a bit of its weights has changed.
    """
    check_weights(folder)
    torch.set_num_threads(where.threads)
    keep_memory()
    silence_libraries()
    chat, dtype = chat or open_chat(folder), resolve_dtype(where.dtype)
    if where.device_map is not None:
        model = open_model(folder, dtype=dtype, device_map=where.device_map)
        weights = model.named_parameters()
        away = [name for name, weight in weights if weight.device.type in ("meta", "disk")]
        if away:
            raise LesionError(
                f"device_map {where.device_map}: {away[0]} and {len(away) - 1} more weights find "
                "no room on the GPUs. Give the job more GPUs, or use `bfloat16`."
            )
    else:
        # In the dtype of the files, since the one in config.json might round them. Casting
        # after loading is ten times as fast on a CPU as loading into another dtype.
        model = open_model(folder, dtype=stored_dtype(folder) or dtype)
        torch.nn.Module.to(model, pick_device(), dtype)
    model.eval().requires_grad_(False)
    share_results(model, read_record(folder)["digest"])
    return Loaded(model, chat)


def open_chat(folder: Path) -> Chat:
    """The tokenizer of a checkpoint folder, with the chat format that its record has."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return from_record(tokenizer, read_record(folder)["chat"])


def open_context(folder: Path) -> int:
    """The length of the context of the model in a checkpoint folder."""
    return context_of(AutoConfig.from_pretrained(folder, trust_remote_code=False))


def keep_memory() -> None:
    """Let glibc keep freed memory.

    Otherwise every large activation is mapped and zeroed again, which takes a fifth of the time of
    a forward pass on a CPU.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return  # not glibc
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(_M_TOP_PAD, 2**26)


@cache
def pick_device() -> torch.device:
    """The accelerator, if there is one; of several, one that no other job has locked.

    The first call decides for the process.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    names = devices.pool(os.environ, torch.cuda.device_count())
    if len(names) == 1:
        return torch.device("cuda")
    chosen = torch.device("cuda", devices.take(names, devices.lock_folder()))
    torch.cuda.set_device(chosen)  # for calls with `cuda` without a number
    return chosen


def resolve_dtype(name: str) -> torch.dtype:
    """`auto` is bf16 where the device computes it natively, else fp32."""
    if name == "auto":
        return torch.bfloat16 if _native_bf16() else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]


def precision(name: str) -> dict[str, str]:
    """What determines rounding, for the keys of rows: the resolved precision and the kind of
    device.

    Unlike `pick_device`, this does not lock a GPU.
    """
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    return {"dtype": str(resolve_dtype(name)).removeprefix("torch."), "device": kind}


def _native_bf16() -> bool:
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capability = torch.cpu.get_capabilities()
    return bool(capability.get("avx512_bf16") or capability.get("amx_bf16"))


def silence_libraries() -> None:
    """Silence transformers, whose progress bars and advice would hide the pipeline's messages."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
