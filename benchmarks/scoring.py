"""Scoring against the bare passes it consists of: `python benchmarks/scoring.py`.

On the default model and pairs (after the default study), or on a random model (`--random 8b`; on
a GPU if there is one). Prints medians of paired, alternating ratios (see `ratios`):

- signed scores, and signed with preservation, over a bare forward and backward of the same batches
  with a gradient for every candidate;
- on a GPU, the peak memory of every plan;
- the predecessor's schedule over ours (`--predecessor`): for every layer a pass of its own over
  the data, one example at a time, gradients summed in the weights' dtype (Wei et al. 2024, whose
  formula is W * dL/dW per layer).
"""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import synthetic
import torch
from ratios import alternate, ratio, spread
from torch import nn

from lesion.models.candidates import Candidate, find_candidates
from lesion.models.likelihood import response_losses
from lesion.models.load import keep_memory, load, pick_device, resolve_dtype
from lesion.models.text import Example, batches
from lesion.pairs.tables import encode_pairs, kept_pairs
from lesion.scores.collect import Wanted, score
from lesion.study import load_study, read_config
from lesion.study.job import Device


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call, the GPU's work included."""
    started = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def bare(
    model: nn.Module, weights: Sequence[nn.Parameter], todo: Sequence[Example], budget: int
) -> None:
    """A forward and backward over the batches, with a gradient for each of the weights."""
    for weight in weights:
        weight.requires_grad_(True)
    for batch in batches(todo, budget):
        response_losses(model, batch).sum().backward()
    for weight in weights:
        weight.grad = None
        weight.requires_grad_(False)


def predecessor(
    model: nn.Module, candidates: Mapping[str, Candidate], todo: Sequence[Example]
) -> None:
    """W * dL/dW of each layer by its own pass over the data, one example at a time."""
    layers: dict[str, list[nn.Parameter]] = {}
    for name, candidate in candidates.items():
        layer = name.split("layers.")[1].split(".")[0]
        layers.setdefault(layer, []).append(candidate.weight)
    for weights in layers.values():
        sums = [torch.zeros_like(weight) for weight in weights]
        for example in todo:
            for weight in weights:
                weight.requires_grad_(True)
            for batch in batches([example], 1):
                response_losses(model, batch).sum().backward()
            for total, weight in zip(sums, weights, strict=True):
                total += weight * weight.grad
                weight.grad = None
        for weight in weights:
            weight.requires_grad_(False)


PLANS = {
    "all at once": Wanted(),
    "sums on the CPU": Wanted(offload=True),
    "checkpointed": Wanted(checkpointing=True),
    "with preservation": Wanted(preservation=True),
    "with preservation, sums on the CPU": Wanted(preservation=True, offload=True),
}


def print_memory(
    model: nn.Module, candidates: Mapping[str, Candidate], todo: Sequence[Example], budget: int
) -> None:
    """Peak memory of each plan on the GPU; benchmarks/growth.py does so for the CPU's."""
    quarter = len(candidates) // 4
    cases = [(name, list(candidates), wanted) for name, wanted in PLANS.items()]
    cases.append(("first of 4 passes", list(candidates)[:quarter], Wanted()))
    for name, names, wanted in cases:
        torch.cuda.reset_peak_memory_stats()
        score(model, {name: candidates[name] for name in names}, todo, budget, wanted)
        print(f"{name:36} {torch.cuda.max_memory_allocated() / 2**30:6.1f} GiB")


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--random", choices=synthetic.SHAPES, help="a random model of this size")
    parser.add_argument("--examples", type=int, default=16)
    parser.add_argument("--length", type=int, default=256, help="tokens of a random example")
    parser.add_argument("--batch-tokens", type=int, default=512)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--predecessor", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_memory()
    if arguments.random:
        model: nn.Module = synthetic.llama(
            arguments.random, resolve_dtype(arguments.dtype), str(pick_device())
        )
        todo = synthetic.examples(arguments.examples, arguments.length)
    else:
        study = load_study(read_config(Path("config.yaml")))
        results, name = Path(study.results) / study.study, next(iter(study.models))
        loaded = load(
            results / "models" / name, Device(dtype=arguments.dtype, threads=arguments.threads)
        )
        model = loaded.model
        pairs = kept_pairs(
            results / "pairs" / name / f"{study.of_role('benign')[0]}.parquet", "train"
        )
        todo = encode_pairs(loaded.chat, pairs)[: arguments.examples]
    candidates = find_candidates(model)
    weights = [candidate.weight for candidate in candidates.values()]
    numel, tokens = sum(w.numel() for w in weights), sum(len(example.tokens) for example in todo)
    print(f"{numel / 1e6:.0f} M candidates in {weights[0].dtype} on {weights[0].device}")
    print(f"{len(todo)} examples, {tokens} tokens; medians of {arguments.rounds} rounds")
    budget = arguments.batch_tokens
    sides: dict[str, Callable[[], object]] = {
        "bare": lambda: bare(model, weights, todo, budget),
        "signed": lambda: score(model, candidates, todo, budget),
        "both": lambda: score(model, candidates, todo, budget, Wanted(preservation=True)),
    }
    times = alternate(
        {side: partial(seconds, work) for side, work in sides.items()}, arguments.rounds
    )
    for side, spent in times.items():
        print(f"{side:12} {spread(spent)} s, {tokens / statistics.median(spent):.0f} tokens/s")
    print(f"signed / bare                = {ratio(times['signed'], times['bare'])}")
    print(f"signed + preservation / bare = {ratio(times['both'], times['bare'])}")
    if torch.cuda.is_available():
        print_memory(model, candidates, todo, budget)
    if arguments.predecessor:
        # Once: it takes minutes, and slower is all that matters.
        spent = seconds(lambda: predecessor(model, candidates, todo))
        print(f"predecessor / ours (signed)  = {spent / statistics.median(times['signed']):.1f}")


if __name__ == "__main__":
    main()
