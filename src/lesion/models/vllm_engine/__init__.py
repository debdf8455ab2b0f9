"""Greedy generation by vLLM, in a process and a Python environment of its own.

vLLM pins its own versions of torch and transformers and takes most of a GPU's memory. A separate
process can have these versions, and frees the memory when it ends.
"""

import importlib.util
import json
import logging
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import Any

import torch
from transformers import AutoConfig, GenerationConfig

from lesion.io.formats import LesionError
from lesion.io.progress import Advance
from lesion.models import devices
from lesion.models.chat import Chat, Completion
from lesion.models.generate import fitting, stop_tokens
from lesion.models.load import pick_device, resolve_dtype
from lesion.models.vllm_engine import worker
from lesion.study.types import VLLM_PYTHON as PYTHON

logger = logging.getLogger(__name__)

_GPU_SHARE = 0.85  # The job's own CUDA context needs some of the rest.
_TAIL = 15  # Lines of vLLM's log that an error shows.


def complete_by_vllm(
    folder: Path,
    chat: Chat,
    prompts: Sequence[list[int]],
    max_new_tokens: int,
    dtype: str,
    device_map: str | None,
    advance: Advance = lambda *_: None,
) -> list[Completion]:
    """Complete each prompt greedily, as `models.generate.complete` does, and return them in order.

    Prompts that leave no room for `max_new_tokens` in the model's context are not run. vLLM's
    kernels round differently from transformers', so a close choice is sometimes another token.
    `dtype` is as for `models.load.load`, and any `device_map` except None spreads the model over
    all GPUs. `advance` is called with the numbers of completions and of their tokens.

    Raises:
        LesionError: vLLM is missing or fails; the message has the end of its log.
    """
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    rows = fitting(config, prompts, max_new_tokens)
    advance(len(prompts) - len(rows))
    if not rows:
        return [Completion("", 0, False)] * len(prompts)
    # As transformers reads it.
    own_file = (folder / "generation_config.json").is_file()
    generation = (
        GenerationConfig.from_pretrained(folder)
        if own_file
        else GenerationConfig.from_model_config(config)
    )
    stops = stop_tokens(generation, chat)
    chosen = [prompts[row] for row in rows]
    device, gpus = pick_device(), torch.cuda.device_count()
    spread = device_map is not None and torch.cuda.is_available()
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    if not spread and device.index is not None:  # this job has locked one of several GPUs
        environment["CUDA_VISIBLE_DEVICES"] = devices.pool(os.environ, gpus)[device.index]
    request = {
        # Arguments of `vllm.LLM`.
        "model": {
            "model": str(folder.resolve()),
            "dtype": str(resolve_dtype(dtype)).removeprefix("torch."),
            "max_model_len": max(map(len, chosen)) + max_new_tokens,
            "skip_tokenizer_init": True,
            "generation_config": "vllm",  # greedy, regardless of the checkpoint's own settings
            "gpu_memory_utilization": _GPU_SHARE,
            "tensor_parallel_size": gpus if spread else 1,
            # Compiling and capturing graphs takes a minute, and a variant's answers take less.
            "enforce_eager": True,
            "seed": 0,
        },
        # Arguments of `vllm.SamplingParams`.
        "sampling": {
            "temperature": 0.0,
            "max_tokens": max_new_tokens,
            "stop_token_ids": stops,
            "detokenize": False,
        },
        "prompts": chosen,
    }
    completions: dict[int, Completion] = {}
    with _answers(request, environment) as answers:
        for row, (tokens, reason) in zip(rows, answers, strict=False):
            read = chat.read(tokens, stops)
            completions[row] = read._replace(finished=read.finished or reason == "stop")
            advance(1, read.tokens)
    if len(completions) < len(rows):
        raise LesionError(f"vLLM answered {len(completions)} of {len(rows)} prompts")
    return [completions.get(row, Completion("", 0, False)) for row in range(len(prompts))]


@contextmanager
def _answers(
    request: Mapping[str, Any], environment: Mapping[str, str]
) -> Iterator[Iterator[tuple[list[int], str]]]:
    """The worker's answers as they arrive; when the block is left, it has ended or is killed."""
    python = _python()
    last_lines: deque[str] = deque(maxlen=_TAIL)
    reading, writing = os.pipe()
    with os.fdopen(reading, encoding="utf-8") as answers:
        try:
            process = subprocess.Popen(
                [python, str(worker.__file__), str(writing)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=[writing],
                env=dict(environment),
                encoding="utf-8",
                errors="replace",
            )
        except OSError as error:
            raise LesionError(
                f"{PYTHON}={python}: cannot be run ({error.strerror}). Give the Python program of "
                "the environment that has vLLM."
            ) from error
        finally:
            os.close(writing)

        def log() -> None:  # which would not reach the job's log otherwise
            for line in process.stdout or ():
                last_lines.append(line)
                logger.info(line.rstrip("\n"))

        listener = Thread(target=log, daemon=True)
        listener.start()
        try:
            assert process.stdin is not None
            # If it has already ended, its exit code and its last lines give the reason.
            with suppress(BrokenPipeError), process.stdin as stdin:
                json.dump(request, stdin)
            yield (tuple(json.loads(line)) for line in answers)
            code = process.wait()
        finally:
            if process.poll() is None:
                # At first by a request, since vLLM has processes of its own to end.
                process.terminate()
                try:
                    process.wait(timeout=10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        listener.join(timeout=10)
    if code != 0:
        raise LesionError(
            f"vLLM ({python}) exited with code {code}. Fix the error below, or set "
            f"`responses.engine: transformers`. The last lines of its log:\n{''.join(last_lines)}"
        )


def _python() -> str:
    """The Python with vLLM: that of the environment variable, or this one."""
    named = os.environ.get(PYTHON)
    if named is None and importlib.util.find_spec("vllm") is None:
        raise LesionError(
            "`responses.engine: vllm` needs vLLM, which is not installed here. Install it in an "
            "environment of its own (`python -m venv vllm && vllm/bin/pip install vllm`) and set "
            f"{PYTHON}=vllm/bin/python; or set `responses.engine: transformers`."
        )
    return named or sys.executable
