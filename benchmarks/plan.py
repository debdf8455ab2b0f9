"""How long Snakemake takes to plan the default study, beside `snakemake --version`.

python benchmarks/plan.py [rounds]
"""

import shutil
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from ratios import alternate, ratio, spread

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
        flags = ("--version", "-n")
        sides = {flag: partial(seconds, Path(scratch), flag) for flag in flags}
        times = alternate(sides, rounds)
    for flag in flags:
        print(f"snakemake {flag:10} {spread(times[flag])} s")
    print(f"-n / --version       {ratio(times['-n'], times['--version'])}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
