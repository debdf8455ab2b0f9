"""Fine-tuning by trl beside a bare PyTorch loop over the same batches: seconds a step, and memory.

    python benchmarks/training.py [--model FOLDER] [--random 8b] [--steps 4] [--batch 8] [--lora 16]

Both train the same model on the same examples in one process, in turn, and the ratio is the median
of paired rounds (see `ratios`), each of which has the median of a side's steps. Without `--model`
the default study's model is taken, which `make audit` puts there.
"""

import argparse
import resource
import statistics
import time
from pathlib import Path
from typing import Any

import synthetic
import torch
from ratios import alternate, ratio, spread
from transformers import TrainerCallback

from lesion.models.load import Loaded, load, pick_device, resolve_dtype
from lesion.study.job import Device
from lesion.study.training import Lora
from lesion.training.examples import TrainingAnswer, TrainingExample
from lesion.training.fit import _encoded, fine_tune
from lesion.training.jobs import SeededRecipe

MODEL = Path("results/default/models/smollm2-135m-instruct")
TEXT = "Take two eggs, a cup of flour and some milk, stir them well, and bake them until brown. "


class _Clock(TrainerCallback):
    """Notes when every step ends."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.ends.append(time.perf_counter())

    def on_step_end(self, *_: Any, **__: Any) -> None:
        _wait()
        self.ends.append(time.perf_counter())

    @property
    def seconds(self) -> list[float]:
        return [end - begin for begin, end in zip(self.ends, self.ends[1:], strict=False)]


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _bare(loaded: Loaded, examples: list[TrainingExample], recipe: SeededRecipe) -> list[float]:
    """Forward, backward and AdamW, and nothing else; one batch again and again."""
    rows = _encoded(loaded, examples, dpo=False)[: recipe.batch_size]
    width = max(map(len, rows["input_ids"]))
    where = loaded.model.device
    tokens, labels = (
        torch.tensor([row + [fill] * (width - len(row)) for row in rows[name]], device=where)
        for name, fill in (("input_ids", 0), ("labels", -100))
    )
    loaded.model.requires_grad_(True).train()
    optimiser = torch.optim.AdamW(loaded.model.parameters(), lr=recipe.learning_rate, fused=True)
    native = resolve_dtype(recipe.dtype) == torch.bfloat16
    seconds = []
    for _ in range(recipe.steps):
        begin = time.perf_counter()
        with torch.autocast(where.type, torch.bfloat16, enabled=native):
            loss = loaded.model(input_ids=tokens, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(loaded.model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        _wait()
        seconds.append(time.perf_counter() - begin)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=MODEL, help="its checkpoint folder")
    parser.add_argument("--random", choices=synthetic.SHAPES, help="a random model of this size")
    parser.add_argument("--steps", type=int, default=5, help="of each; the first is not counted")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=8, help="examples of a step")
    parser.add_argument("--words", type=int, default=36, help="of a response")
    parser.add_argument("--lora", type=int, default=0, help="rank of adapters; 0: all weights")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    answer = TrainingAnswer(" ".join((TEXT.split() * arguments.words)[: arguments.words]))
    examples = [
        TrainingExample(f"How do I bake cake number {number}?", answer)
        for number in range(arguments.batch)
    ]
    lora = Lora(rank=arguments.lora, alpha=2 * arguments.lora) if arguments.lora else None
    recipe = SeededRecipe(steps=arguments.steps, batch_size=arguments.batch, lora=lora, seed=0)

    peaks: list[float] = []

    def bare() -> float:
        spent = statistics.median(_bare(_fresh(arguments), examples, recipe)[1:])
        peaks.append(_peak())
        return spent

    def ours() -> float:
        loaded, clock = _fresh(arguments), _Clock()
        fine_tune(loaded, examples, recipe, "training", [clock])
        return statistics.median(clock.seconds[1:])

    sides = {"trl": ours} if lora else {"bare loop": bare, "trl": ours}
    times = alternate(sides, arguments.rounds)
    weights = sum(
        parameter.numel() * parameter.element_size()
        for parameter in _fresh(arguments).model.parameters()
    )
    print(f"weights (fp32): {weights / 2**30:.2f} GiB; {arguments.batch} examples a step")
    for side, spent in times.items():
        print(f"{side}: {spread(spent)} s a step")
    if not lora:
        print(f"trl / bare loop: {ratio(times['trl'], times['bare loop'])}")
        print(f"peak memory of the bare loop: {peaks[0]:.2f} GiB")
    print(f"peak memory of both: {_peak():.2f} GiB")


def _fresh(arguments: argparse.Namespace) -> Loaded:
    loaded = load(arguments.model, Device(dtype="float32", threads=arguments.threads))
    if not arguments.random:
        return loaded
    return Loaded(synthetic.llama(arguments.random, torch.float32, str(pick_device())), loaded.chat)


def _peak() -> float:
    if torch.cuda.is_available():
        return float(torch.cuda.max_memory_allocated() / 2**30)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main()
