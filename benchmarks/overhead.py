"""Where the processor time of a study goes: `python benchmarks/overhead.py [STUDY.yaml ...]`.

Runs a study (config.yaml by default) in a folder of its own, once its sources are fetched, and
samples the stack of every job (`sampling/sitecustomize.py`). Prints for each rule the core seconds,
and the shares that went into forward passes, backward passes, the selection of weights, imports and
everything else; then the places of that last share. Needs processors without an accelerator, whose
work is not counted.
"""

import argparse
import csv
import os
import shutil
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import yaml
from reruns import run

from lesion.cli.studies import read_study
from lesion.io.logs import USAGE

SAMPLING = Path(__file__).with_name("sampling")
WORK = ("forward", "backward", "selection")
REST = ("import", "rest")
PLACES = 25
"""So many places are printed."""


class Sample(NamedTuple):
    """Processor seconds of a rule's jobs in one place."""

    rule: str
    kind: str
    place: str
    seconds: float


def read(folder: Path) -> Iterable[Sample]:
    """All samples of a run."""
    for path in folder.glob("*.tsv"):
        with path.open(encoding="utf-8", newline="") as file:
            for rule, kind, place, seconds in csv.reader(file, delimiter="\t"):
                yield Sample(rule, kind, place, float(seconds))


def used(logs: Path) -> float:
    """Processor seconds of all jobs, as the operating system counted them."""
    total = 0.0
    for path in logs.rglob(f"*{USAGE}"):
        with path.open(encoding="utf-8", newline="") as file:
            total += sum(float(row["processor"]) for row in csv.DictReader(file, delimiter="\t"))
    return total


def table(samples: Iterable[Sample], counted: float) -> None:
    """Print the shares of each rule and of all, and where the rest went."""
    kinds: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    places: dict[str, float] = defaultdict(float)
    for sample in samples:
        for rule in (sample.rule, "all jobs"):
            kinds[rule][sample.kind] += sample.seconds
        if sample.kind == "rest":
            places[f"{sample.rule}: {sample.place or '(outside of lesion)'}"] += sample.seconds
    every = (*WORK, *REST)
    print(f"{'script':<24} {'core-s':>8} " + " ".join(f"{kind:>9}" for kind in every))
    for rule in sorted(kinds, key=lambda name: -sum(kinds[name].values())):
        total = sum(kinds[rule].values())
        shares = " ".join(f"{kinds[rule][kind] / total:>9.1%}" for kind in every)
        print(f"{rule:<24} {total:>8.1f} {shares}")
    whole = kinds["all jobs"]
    total = sum(whole.values())
    apart = sum(whole[kind] for kind in REST)
    print(f"\nneither forward, backward nor selection: {apart / total:.1%} of {total:.0f} core-s")
    print(f"sampled / counted by the operating system: {total / counted:.2f}")
    print("\nwhere the rest went, core-s:")
    for place in sorted(places, key=lambda name: -places[name])[:PLACES]:
        print(f"{places[place]:>8.1f}  {place}")


def main() -> None:
    """Fetch, run, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", nargs="*", type=Path, default=[Path("config.yaml")])
    parser.add_argument("--quick", action="store_true", help="the preset `quick`")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lesion-overhead-") as scratch:
        folder = Path(scratch)
        over, samples = folder / "over.yaml", folder / "samples"
        over.write_text(yaml.safe_dump({"results": scratch}), encoding="utf-8")
        files = [*chosen.study, over]
        study = read_study(files, quick=chosen.quick)
        run(files, "--", "sources", quick=chosen.quick)
        shutil.rmtree(study.folder / "logs", ignore_errors=True)
        samples.mkdir()
        paths = filter(None, [str(SAMPLING), os.environ.get("PYTHONPATH")])
        os.environ |= {"PYTHONPATH": os.pathsep.join(paths), "LESION_SAMPLES": str(samples)}
        cost = run(files, quick=chosen.quick)
        print(f"{cost.seconds:.0f} s, {cost.core_seconds:.0f} core-s with Snakemake's own")
        table(read(samples), used(study.folder / "logs"))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
