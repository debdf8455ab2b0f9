"""What a rerun costs: `python benchmarks/reruns.py [STUDY.yaml ...] [--quick]`.

Runs a study (config.yaml by default) into a temporary folder, and again after each of these
changes: none; one setting of the report is another; one harm type has lost the last quarter of its
prompts. Prints, for each run, its seconds, the processor time of Snakemake and all its jobs, and
both as shares of the first run. Needs processors without an accelerator, whose work is not counted.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import yaml

from lesion.cli.studies import read_study
from lesion.io.formats import read_parquet

LESION = Path(sys.executable).with_name("lesion")


class Cost(NamedTuple):
    """What a run took."""

    seconds: float
    core_seconds: float


def processor_time() -> float:
    """Processor seconds of all processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(files: Sequence[Path], *, quick: bool) -> Cost:
    """Run a study as a user does; what it prints goes to stderr.

    Raises:
        SystemExit: the run failed.
    """
    before, started = processor_time(), time.monotonic()
    command = [LESION, "run", *files, *(["--quick"] if quick else [])]
    if subprocess.run(command, stdout=sys.stderr).returncode:
        sys.exit("a run failed; its messages are above")
    return Cost(time.monotonic() - started, processor_time() - before)


def changes(config: Mapping[str, Any], prompts: pl.DataFrame, harm: str) -> dict[str, Any]:
    """The changed part of the study's config, by the name of the change."""
    limit = prompts.height - prompts.height // 4
    return {
        "nothing": {},
        "report.examples": {"report": {"examples": config["report"]["examples"] + 1}},
        f"{harm}: {prompts.height} to {limit} prompts": {"behaviours": {harm: {"limit": limit}}},
    }


def main() -> None:
    """Run the study, then each change alone, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", nargs="*", type=Path, default=[Path("config.yaml")])
    parser.add_argument("--quick", action="store_true", help="the preset `quick`")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        over = Path(scratch) / "over.yaml"
        files = [*chosen.study, over]

        def write(part: Mapping[str, Any]) -> None:
            over.write_text(yaml.safe_dump({"results": scratch, **part}), encoding="utf-8")

        write({})
        study = read_study(files, quick=chosen.quick)
        costs = {"the whole study": run(files, quick=chosen.quick)}
        harm = study.of_role("harm")[0]
        prompts = read_parquet(study.folder / "pairs" / "prompts" / f"{harm}.parquet")
        for name, part in changes(study.model_dump(), prompts, harm).items():
            # From the state of the first run, which the change before has left.
            write({})
            run(files, quick=chosen.quick)
            write(part)
            costs[name] = run(files, quick=chosen.quick)
    whole = costs["the whole study"]
    print(f"{'change':<40} {'seconds':>8} {'share':>6} {'core-s':>8} {'share':>6}")
    for name, cost in costs.items():
        print(
            f"{name:<40} {cost.seconds:>8.1f} {cost.seconds / whole.seconds:>6.0%} "
            f"{cost.core_seconds:>8.1f} {cost.core_seconds / whole.core_seconds:>6.0%}"
        )


if __name__ == "__main__":
    main()
