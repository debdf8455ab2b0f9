"""What a rerun costs: `python benchmarks/reruns.py [STUDY.yaml ...] [--quick]`.

Runs a study (config.yaml by default) in a folder of its own, once its sources are fetched, and
again after each of these changes: none; one setting of the report, or of the tables, is another;
one harm type has lost the last quarter of its prompts. Prints, for each run, its seconds, the
processor time of `lesion run` and all its processes, and both as shares of the first run. Needs
processors without an accelerator, whose work is not counted.
"""

import argparse
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from lesion.cli.studies import read_study
from lesion.io.formats import read_parquet
from lesion.study import Study

LESION = Path(sys.executable).with_name("lesion")


class Cost(NamedTuple):
    """What a run took."""

    seconds: float
    core_seconds: float


def processor_time() -> float:
    """Processor seconds of all processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(files: Sequence[Path], *arguments: str, quick: bool) -> Cost:
    """Run a study as a user does; what it prints goes to stderr.

    Raises:
        SystemExit: the run failed.
    """
    before, started = processor_time(), time.monotonic()
    command = [LESION, "run", *files, *(["--quick"] if quick else []), *arguments]
    if subprocess.run(command, stdout=sys.stderr).returncode:
        sys.exit(f"a run failed; its messages are above, and its results beside {files[-1]}")
    return Cost(time.monotonic() - started, processor_time() - before)


def changes(study: Study) -> dict[str, dict[str, Any]]:
    """The changed part of a finished study's config, by the name of the change."""
    harm = study.of_role("harm")[0]
    prompts = read_parquet(study.folder / "pairs" / "prompts" / f"{harm}.parquet").height
    limit = prompts - prompts // 4
    return {
        "nothing": {},
        "report.examples": {"report": {"examples": study.report.examples + 1}},
        "tables.resamples": {"tables": {"resamples": study.tables.resamples + 100}},
        f"{harm}, {prompts} prompts, limit {limit}": {"behaviours": {harm: {"limit": limit}}},
    }


def main() -> None:
    """Run the study, then each change alone; print a line after each run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", nargs="*", type=Path, default=[Path("config.yaml")])
    parser.add_argument("--quick", action="store_true", help="the preset `quick`")
    chosen = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="lesion-reruns-"))
    over, quick = folder / "over.yaml", chosen.quick
    files = [*chosen.study, over]

    def study(part: Mapping[str, Any]) -> Study:
        over.write_text(yaml.safe_dump({"results": str(folder), **part}), encoding="utf-8")
        return read_study(files, quick=quick)

    first = study({})
    run(files, "--", "sources", quick=quick)
    whole = run(files, quick=quick)
    print(f"{'change':<40} {'seconds':>8} {'share':>6} {'core-s':>8} {'share':>6}")
    _print("the whole study", whole, whole)
    parts = changes(first)
    for part in parts.values():
        study(part)  # an error in the last one is said before the others run
    for name, part in parts.items():
        # Back to the first run's config, so that each change is measured alone.
        study({})
        run(files, quick=quick)
        study(part)
        _print(name, run(files, quick=quick), whole)
    shutil.rmtree(folder)


def _print(name: str, cost: Cost, whole: Cost) -> None:
    print(
        f"{name:<40} {cost.seconds:>8.1f} {cost.seconds / whole.seconds:>6.0%} "
        f"{cost.core_seconds:>8.1f} {cost.core_seconds / whole.core_seconds:>6.0%}",
        flush=True,
    )


if __name__ == "__main__":
    main()
