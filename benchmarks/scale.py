"""How a large study plans and how it would run on many GPUs: `python benchmarks/scale.py`.

Plans a study of 5 models, 20 harm types and 12 variants (sources are tiny or sparse files; nothing
runs) and prints the seconds that takes, the jobs, and the submissions that the SLURM profile's
groups leave of them. Then schedules those jobs, the one with the longest way to go first, on 1, 8,
64 and 512 GPUs: seconds of a job are those of `lesion.plan.resources.RESOURCE_FORMULAS`, a billion
candidates each, times the model's candidates; a GPU is taken to be as fast as `--speed` of the
measured cores, and a job that reads scores in several processes as fast as these together, which
are assumptions. Last, the longest seconds and the most memory of each stage of a finished study.
"""

import argparse
import csv
import heapq
import json
import math
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from lesion.io.logs import USAGE
from lesion.plan.estimate import FORMULAS
from lesion.plan.resources import RESOURCE_FORMULAS, Size, readers, work
from lesion.study import Study, load_study

ROOT = Path(__file__).parents[1]
CODE = ("Snakefile", "workflow", "profiles", "src", "envs", "config.yaml", "studies")
SNAKEMAKE = str(Path(sys.executable).parent / "snakemake")
HARMS, BENIGN, VARIANTS = 20, 6, 12
# These models are folders, which are copied and hashed as a checkpoint is; a GGUF file takes ten
# times as long.
FORMULA_OF = {**FORMULAS, "model": "checkpoint"}
PROCESSORS = 64
"""Cores for the jobs without a GPU."""


class Job(NamedTuple):
    """A job: its rule, and the ids of the jobs it waits for."""

    rule: str
    needs: tuple[int, ...]


def config(models: int) -> dict[str, Any]:
    """The study: every file it names is written by `inputs`."""
    prompts = {"source": "file:inputs/prompts.jsonl", "limit": 40}
    harms = [f"harm-{number:02}" for number in range(HARMS)]
    named = ["shared", "random", *harms][: VARIANTS - 1]
    return {
        "study": "large",
        "sources": {"data": "file:inputs/folder"},
        "models": {f"model-{number}": {"source": "file:inputs/model"} for number in range(models)},
        "behaviours": {
            **{name: {"role": "harm", **prompts} for name in harms},
            **{f"benign-{number}": {"role": "benign", **prompts} for number in range(BENIGN)},
            "refusal": {"role": "refusal", **prompts},
        },
        "pairs": {"max_new_tokens": 48},
        "masks": {"p": 0.05, "q": 2e-4},
        "responses": {"variants": named, "max_new_tokens": 40, "batch_size": 32},
        "judgements": {"human_scores": "data", "embedder": "data"},
    }


def inputs(folder: Path, weights: int) -> None:
    """Prompts, and a model of so many bytes that take no room."""
    for name in ("model", "folder"):
        (folder / name).mkdir(parents=True)
    with (folder / "model" / "model.safetensors").open("wb") as file:
        file.truncate(weights)
    (folder / "folder" / "file.txt").write_text("nothing")
    (folder / "folder" / "model.safetensors").touch()
    rows = [json.dumps({"prompt": f"prompt {number}"}) for number in range(40)]
    (folder / "prompts.jsonl").write_text("\n".join(rows) + "\n")


def snakemake(folder: Path, *arguments: str) -> str:
    """What a command prints."""
    files = ("--snakefile", "tree/Snakefile", "--configfile", "study.yaml", "--cores", "1")
    call = [SNAKEMAKE, *arguments, *files]
    done = subprocess.run(call, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return done.stdout


def graph(folder: Path) -> dict[int, Job]:
    """All jobs of the plan, without `all`."""
    dag = json.loads(snakemake(folder, "--d3dag"))
    rules = {node["id"]: node["value"]["rule"] for node in dag["nodes"]}
    needs: dict[int, list[int]] = defaultdict(list)
    for edge in dag["edges"]:
        needs[edge["v"]].append(edge["u"])
    return {
        number: Job(rule, tuple(needs[number])) for number, rule in rules.items() if rule != "all"
    }


def seconds(rule: str, study: Study, candidates: float, speed: float) -> float:
    """How long a job takes, from what was measured."""
    stage = FORMULA_OF.get(rule, rule)
    formula = RESOURCE_FORMULAS[stage]
    if not formula.seconds:
        return 60.0  # of one core, whatever the model
    of_behaviour = stage in ("generate_pairs", "signed_scores")
    amount = work(study, stage, {"behaviour": study.of_role("harm")[0]} if of_behaviour else {})
    processes = readers(study, Size(0, int(candidates))) if stage == "select_masks" else 1
    return amount * formula.seconds * candidates / 1e9 / (speed if formula.gpu else processes)


def needs_gpu(rule: str) -> bool:
    """Whether a job of a rule takes a GPU."""
    return RESOURCE_FORMULAS[FORMULA_OF.get(rule, rule)].gpu


def critical(jobs: Mapping[int, Job], times: Mapping[int, float]) -> tuple[float, list[int]]:
    """The longest chain of jobs: its seconds, and the jobs in order."""
    best: dict[int, tuple[float, int | None]] = {}

    def end(number: int) -> float:
        if number not in best:
            last = max(jobs[number].needs, key=end, default=None)
            best[number] = ((end(last) if last is not None else 0.0) + times[number], last)
        return best[number][0]

    number: int | None = max(jobs, key=end)
    total, chain = end(number), []
    while number is not None:
        chain.append(number)
        number = best[number][1]
    return total, chain[::-1]


def schedule(jobs: Mapping[int, Job], times: Mapping[int, float], gpus: int) -> float:
    """Seconds until all is done, if what has the longest way to go is always taken first."""
    after: dict[int, list[int]] = defaultdict(list)
    for number, job in jobs.items():
        for other in job.needs:
            after[other].append(number)
    rank: dict[int, float] = {}
    for number in reversed(ordered(jobs)):
        rank[number] = times[number] + max((rank[later] for later in after[number]), default=0.0)
    waiting = {number: len(job.needs) for number, job in jobs.items()}
    free = {True: gpus, False: PROCESSORS}
    ready: dict[bool, list[tuple[float, int]]] = {True: [], False: []}
    running: list[tuple[float, int]] = []
    now = 0.0

    def offer(numbers: Iterable[int]) -> None:
        for number in numbers:
            heapq.heappush(ready[needs_gpu(jobs[number].rule)], (-rank[number], number))

    offer(number for number, count in waiting.items() if not count)
    while running or any(ready.values()):
        for kind, queue in ready.items():
            while queue and free[kind]:
                _, number = heapq.heappop(queue)
                free[kind] -= 1
                heapq.heappush(running, (now + times[number], number))
        now, number = heapq.heappop(running)
        free[needs_gpu(jobs[number].rule)] += 1
        for other in after[number]:
            waiting[other] -= 1
        offer(later for later in after[number] if not waiting[later])
    return now


def ordered(jobs: Mapping[int, Job]) -> list[int]:
    """Jobs so that each comes after what it needs."""
    done: dict[int, None] = {}

    def visit(number: int) -> None:
        if number not in done:
            for need in jobs[number].needs:
                visit(need)
            done[number] = None

    for number in jobs:
        visit(number)
    return list(done)


def submissions(jobs: Mapping[int, Job]) -> int:
    """What is left for the cluster when small rules are local and scores follow their pairs."""
    count = Counter(job.rule for job in jobs.values())
    text = "".join(path.read_text() for path in (ROOT / "workflow" / "rules").glob("*.smk"))
    local = re.findall(r"^rule (\w+):(?:\n(?!rule ).*)*?\n    localrule: True", text, re.M)
    return sum(n for rule, n in count.items() if rule not in local) - count["generate_pairs"]


def measured(study: Path) -> None:
    """Print seconds and memory of a finished study's jobs beside the laws."""
    measurements: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for path in sorted((study / "logs").rglob(f"*{USAGE}")):
        with path.open(encoding="utf-8") as file:
            row = next(csv.DictReader(file, delimiter="\t"))
        stage = path.relative_to(study / "logs").parts[0].removesuffix(USAGE)
        name = path.stem if stage in ("masks", "judgements") else stage
        measurements[name].append((float(row["seconds"]), float(row["memory"])))
    print(f"\n{study}: longest seconds and most MiB of a stage's jobs")
    for stage, rows in measurements.items():
        print(f"{stage:24} {max(s for s, _ in rows):8.1f} s {max(m for _, m in rows):8.0f} MiB")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=int, default=5)
    parser.add_argument("--billion", type=float, default=7.0, help="candidates of a model")
    parser.add_argument("--speed", type=float, default=50, help="cores that a GPU is worth")
    parser.add_argument("--study", type=Path, default=ROOT / "results" / "default")
    arguments = parser.parse_args()
    candidates = arguments.billion * 1e9
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "tree").mkdir()
        for name in CODE:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
            copy(ROOT / name, folder / "tree" / name)
        inputs(folder / "inputs", int(2 * candidates))
        (folder / "study.yaml").write_text(
            yaml.safe_dump(config(arguments.models), sort_keys=False)
        )
        started = time.perf_counter()
        snakemake(folder, "-n", "--quiet", "all")
        planning = time.perf_counter() - started
        jobs = graph(folder)
    print(f"{arguments.models} models, {HARMS} harm types, {VARIANTS} variants")
    print(f"planned in {planning:.1f} s; {len(jobs)} jobs, {submissions(jobs)} submissions")
    count = Counter(job.rule for job in jobs.values())
    print("  " + ", ".join(f"{rule} {number}" for rule, number in count.most_common()))
    study = load_study(config(arguments.models))
    times = {
        number: seconds(job.rule, study, candidates, arguments.speed)
        for number, job in jobs.items()
    }
    total = sum(t for number, t in times.items() if needs_gpu(jobs[number].rule))
    longest, chain = critical(jobs, times)
    print(
        f"\n{arguments.billion:g} billion candidates a model, a GPU worth {arguments.speed:g} cores"
    )
    print(f"GPU hours {total / 3600:.1f}; the longest chain {longest / 3600:.2f} h:")
    print("  " + " > ".join(f"{jobs[n].rule} {times[n] / 60:.0f} min" for n in chain))
    print("GPUs   hours   GPUs busy")
    for gpus in (1, 8, 64, 512):
        hours = schedule(jobs, times, gpus) / 3600
        print(f"{gpus:4} {hours:7.2f} {total / 3600 / hours / gpus:11.0%}")
    enough = math.ceil(total / longest)
    print(f"beyond about {enough} GPUs (GPU hours / longest chain) more of them change nothing")
    if (arguments.study / "logs").is_dir():
        measured(arguments.study)


if __name__ == "__main__":
    main()
