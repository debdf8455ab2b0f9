"""How long Snakemake takes to plan the default study, beside `snakemake --version`.

python benchmarks/plan.py [rounds]
"""

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
CODE = ("Snakefile", "workflow", "profiles", "src", "envs", "config.yaml", "studies")
SNAKEMAKE = str(Path(sys.executable).parent / "snakemake")


def seconds(folder: Path, *arguments: str) -> float:
    """Wall-clock seconds of one command."""
    start = time.perf_counter()
    subprocess.run([SNAKEMAKE, *arguments], cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - start


def main(rounds: int = 5) -> None:
    """Plan a fresh checkout's study, where everything is to be made, several times."""
    with tempfile.TemporaryDirectory() as scratch:
        # A copy: planning where a study is under way would wait for its lock or disturb it.
        for name in CODE:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
            copy(ROOT / name, Path(scratch) / name)
        seconds(Path(scratch), "-n")  # the first run compiles
        bare = statistics.median(seconds(Path(scratch), "--version") for _ in range(rounds))
        plan = statistics.median(seconds(Path(scratch), "-n") for _ in range(rounds))
    print(f"snakemake --version  {bare:5.2f} s")
    print(f"snakemake -n         {plan:5.2f} s")
    print(f"the plan itself      {plan - bare:5.2f} s   ({plan / bare:.1f} times --version)")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
