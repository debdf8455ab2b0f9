"""Tokens per second of asking, beside plain transformers: `python benchmarks/generation.py`.

After the default study: completes the prompts of one variant (all attacks, its own precision, one
thread) with `lesion.models.generate.complete` at the study's batch size, and with transformers'
`generate` in fixed batches of prompts sorted by length. Batch 1 takes a tenth of the prompts. Says
how many texts differ from ours (in bf16 a batch's shape moves the last bits, and with them a few
words), and what share of the prompts' tokens is not run again. Under four minutes on an idle core.

With LESION_VLLM_PYTHON set, vLLM completes them as well; its time includes its start.
"""

import argparse
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import GenerationConfig

from lesion.io.formats import read_parquet
from lesion.models.generate import complete
from lesion.models.load import Loaded, load
from lesion.models.prefix import left_padded
from lesion.models.text import encode_prompt
from lesion.models.vllm_engine import complete_by_vllm
from lesion.responses import COMPLETIONS
from lesion.study import load_study, read_config
from lesion.study.job import Device
from lesion.study.types import VLLM_PYTHON as PYTHON

SIZES = (8, 16, 32, 64, 128)
ALONE = 10
"""One prompt in so many is completed at batch 1."""


class Timed(NamedTuple):
    """A way of asking: texts by prompt, new tokens, and what they took.

    Seconds of the processor too, which are the same beside other work.
    """

    texts: list[str]
    tokens: int
    seconds: float
    processor: float

    def __str__(self) -> str:
        return f"{self.tokens / self.seconds:9.0f}{self.tokens / self.processor:13.0f}"


def plain(loaded: Loaded, prompts: Sequence[list[int]], tokens: int, size: int) -> list[str]:
    """Texts of transformers' own `generate`, in the prompts' order."""
    model, tokenizer = loaded.model, loaded.tokenizer
    stop = loaded.chat.end_of_turn
    config = GenerationConfig(
        max_new_tokens=tokens, do_sample=False, eos_token_id=stop, pad_token_id=stop
    )
    order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
    completed: dict[int, str] = {}
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        ids, mask = left_padded([prompts[row] for row in rows], stop or 0)
        with torch.inference_mode():
            out = model.generate(  # type: ignore[operator]
                ids, attention_mask=mask, generation_config=config
            )
        texts = tokenizer.batch_decode(out[:, ids.shape[1] :], skip_special_tokens=True)
        completed.update(zip(rows, texts, strict=True))
    return [completed[row] for row in range(len(prompts))]


def timed(loaded: Loaded, work: Callable[[], list[str]]) -> Timed:
    """Run it; tokens are counted in the texts, so that every way counts the same."""
    started, before = time.monotonic(), time.process_time()
    texts = work()
    seconds, processor = time.monotonic() - started, time.process_time() - before
    n_tokens = sum(map(len, loaded.tokenizer(texts, add_special_tokens=False)["input_ids"]))
    return Timed(texts, n_tokens, seconds, processor)


@contextmanager
def fed(loaded: Loaded) -> Iterator[list[int]]:
    """Collects the tokens of each pass through the model."""
    counts: list[int] = []

    def count(_: object, __: object, inputs: dict[str, Any]) -> None:
        counts.append(inputs["input_ids"].numel())

    hook = loaded.model.register_forward_pre_hook(count, with_kwargs=True)
    try:
        yield counts
    finally:
        hook.remove()


def main() -> None:
    """Print one table, and the tokens fed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, default=Path("config.yaml"))
    parser.add_argument("--variant", default="unmodified")
    parser.add_argument("--every", type=int, default=1, help="take one prompt in so many")
    chosen = parser.parse_args()
    study = load_study(read_config(chosen.config))
    results, name = Path(study.results) / study.study, next(iter(study.models))
    completions = read_parquet(
        results / "responses" / name / chosen.variant / "completions.parquet",
        {"prompt": COMPLETIONS["prompt"], "prefill": COMPLETIONS["prefill"]},
    )[:: chosen.every]
    # Earlier versions called the user's turn `asked`, or had nothing but the prompt.
    names = [name for name in ("user_turn", "asked", "prompt") if name in completions.columns]
    turns = completions[names[0]]
    folder = results / "models" / name
    loaded = load(folder, Device(dtype=study.responses.dtype))
    prompts = [
        encode_prompt(loaded.chat, turn, prefill)
        for turn, prefill in zip(turns, completions["prefill"], strict=True)
    ]
    tokens, size = study.responses.max_new_tokens, study.responses.batch_size

    def ours(length: int) -> list[str]:
        return [completion.text for completion in complete(*loaded, prompts, length, size)]

    print(f"{len(prompts)} prompts, {tokens} new tokens, {loaded.model.dtype}, one thread")
    print(f"{'':24}{'tokens/s':>9}{'tokens/CPU s':>13}{'texts that differ':>19}")
    our_run = timed(loaded, lambda: ours(tokens))
    print(f"{f'lesion, batch {size}':24}{our_run}")
    for batch in (1, *SIZES):
        step = ALONE if batch == 1 else 1
        some = prompts[::step]
        other = timed(loaded, lambda some=some, batch=batch: plain(loaded, some, tokens, batch))
        pairs = zip(other.texts, our_run.texts[::step], strict=True)
        differing = f"{sum(a != b for a, b in pairs)} of {len(some)}"
        print(f"{f'generate, batch {batch}':24}{other}{differing:>19}", flush=True)
    if PYTHON in os.environ:
        device = study.responses.dtype, study.device_map

        def by_vllm() -> list[str]:
            completions = complete_by_vllm(folder, loaded.chat, prompts, tokens, *device)
            return [completion.text for completion in completions]

        served = timed(loaded, by_vllm)
        differing = sum(a != b for a, b in zip(served.texts, our_run.texts, strict=True))
        rate = served.tokens / served.seconds
        print(f"{'vLLM':24}{rate:9.0f}{'':13}{f'{differing} of {len(prompts)}':>19}")
    with fed(loaded) as shared:
        ours(1)
    with fed(loaded) as alone:
        plain(loaded, prompts, 1, size)
    saved = 1 - sum(shared) / sum(alone)
    print(f"prompt tokens run: {sum(shared)} of {sum(alone)} padded ones, {saved:.0%} saved")


if __name__ == "__main__":
    main()
