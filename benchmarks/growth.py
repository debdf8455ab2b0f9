"""How scoring grows, and what it takes in memory: `python benchmarks/growth.py`.

Scores random models of 10 M to 1 B parameters, each in a process of its own, and the smallest but
two on more and more examples. Prints seconds and peak memory beyond the imports, and the slopes
(exponents) fitted to them; then, of one model, the peak of every plan over what it must hold:
weights + gradients in fp32.
"""

import argparse
import json
import resource
import subprocess
import sys
import time

import numpy as np
import synthetic

SIZES = ("10m", "30m", "100m", "300m", "1b")
COUNTS = (4, 8, 16, 32)
PLANS = {
    "signed": {},
    "signed, 4 passes": {"passes": 4},
    "signed, checkpointed": {"checkpointing": True},
    "signed + preservation": {"preservation": True},
}


def peak() -> int:
    """Most memory this process has held, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def child(size: str, count: int, length: int, plan: dict[str, object]) -> dict[str, float]:
    """Score one model in this process; what it took."""
    import torch

    from lesion.models.candidates import find_candidates
    from lesion.models.load import keep_memory
    from lesion.scores.collect import Wanted, score
    from lesion.scores.shards import shard_groups

    torch.set_num_threads(1)
    keep_memory()
    torch.mm(torch.ones(64, 64), torch.ones(64, 64))
    before = peak()
    model = synthetic.llama(size, torch.float32)
    candidates = find_candidates(model)
    todo = synthetic.examples(count, length)
    sizes = {name: candidate.weight.numel() for name, candidate in candidates.items()}
    wanted = {key: value for key, value in plan.items() if key != "passes"}
    started = time.perf_counter()
    for names in shard_groups(sizes, int(plan.get("passes", 1))):  # type: ignore[call-overload]
        score(model, {name: candidates[name] for name in names}, todo, length, Wanted(**wanted))  # type: ignore[arg-type]
    return {
        "seconds": time.perf_counter() - started,
        "peak": peak() - before,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "candidates": sum(sizes.values()),
        "layer": sum(sizes.values()) / model.config.num_hidden_layers,
    }


def measured(size: str, count: int, length: int, **plan: object) -> dict[str, float]:
    """The same in a process of its own."""
    call = [sys.executable, __file__, "--child", json.dumps([size, count, length, plan])]
    done = subprocess.run(call, check=True, capture_output=True, text=True)
    measurements: dict[str, float] = json.loads(done.stdout)
    return measurements


def slope(xs: list[float], ys: list[float]) -> float:
    """Exponent of a power law through the points."""
    return float(np.polyfit(np.log(xs), np.log(ys), 1)[0])


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--length", type=int, default=128, help="tokens of an example and a batch")
    parser.add_argument("--largest", choices=SIZES, default="1b")
    parser.add_argument("--plans", choices=SIZES, default="300m", help="whose plans are compared")
    arguments = parser.parse_args()
    if arguments.child:
        size, count, length, plan = json.loads(arguments.child)
        print(json.dumps(child(size, count, length, plan)))
        return
    sizes = SIZES[: SIZES.index(arguments.largest) + 1]
    print("signed scores, fp32, 4 examples, one thread\nparameters   seconds   peak GiB")
    rows = [measured(size, 4, arguments.length) for size in sizes]
    for row in rows:
        print(f"{row['parameters'] / 1e6:8.0f} M {row['seconds']:9.1f} {row['peak'] / 2**30:10.2f}")
    parameters = [row["parameters"] for row in rows]
    for what in ("seconds", "peak"):
        print(f"{what} grow as parameters ^ {slope(parameters, [row[what] for row in rows]):.2f}")
    print("\n100 M parameters\nexamples     seconds   peak GiB")
    more = [measured("100m", count, arguments.length) for count in COUNTS]
    for count, row in zip(COUNTS, more, strict=True):
        print(f"{count:10} {row['seconds']:9.1f} {row['peak'] / 2**30:10.2f}")
    counts = [float(count) for count in COUNTS]
    for what in ("seconds", "peak"):
        print(f"{what} grow as examples ^ {slope(counts, [row[what] for row in more]):.2f}")
    print(f"\n{arguments.plans}: peak / (weights + gradients), both fp32")
    for name, plan in PLANS.items():
        row = measured(arguments.plans, 4, arguments.length, **plan)
        full = 4 * (row["parameters"] + row["candidates"])
        least = 4 * (
            row["parameters"] + row["candidates"] / int(plan.get("passes", 1)) + row["layer"]
        )
        print(
            f"{name:24} {row['peak'] / full:5.2f}   (peak {row['peak'] / 2**30:.2f} GiB; weights, "
            f"sums and a layer: {least / 2**30:.2f})"
        )


if __name__ == "__main__":
    main()
