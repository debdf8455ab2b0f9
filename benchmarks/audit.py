"""Time and memory of the default study in a fresh clone: `python benchmarks/audit.py`.

Clones the committed tree into a temporary folder, sets up its `.venv`, then runs `make audit` and
prints the seconds after installation and the peak memory of all its processes together
(proportional set size: pages that processes share are counted once).
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

_PAUSE = 3.0
"""Seconds between two looks: each costs the jobs as much time as it takes."""


def peak_memory(process: subprocess.Popen[bytes]) -> int:
    """Wait for a process; return the peak of its and its descendants' memory in bytes."""
    root = psutil.Process(process.pid)
    peak = 0
    while process.poll() is None:
        peak = max(peak, sum(map(_memory, [root, *_descendants(root)])))
        time.sleep(_PAUSE)
    return peak


def _descendants(root: psutil.Process) -> list[psutil.Process]:
    try:
        return list(root.children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def _memory(process: psutil.Process) -> int:
    try:
        full = process.memory_full_info()
        return int(getattr(full, "pss", full.rss))
    except psutil.Error:
        return 0


def run(folder: Path, command: list[str]) -> tuple[float, int]:
    """Run a command in a folder; return its seconds and peak bytes.

    Raises:
        SystemExit: the command failed.
    """
    started = time.monotonic()
    process = subprocess.Popen(command, cwd=folder)
    peak = peak_memory(process)
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed in {folder}")
    return time.monotonic() - started, peak


def main() -> None:
    """Clone, install, run, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, help="clone into this new folder and keep it")
    chosen = parser.parse_args()
    here = Path(__file__).resolve().parents[1]
    with tempfile.TemporaryDirectory() as scratch:
        clone = chosen.keep or Path(scratch) / "lesion"
        subprocess.run(["git", "clone", "--quiet", str(here), str(clone)], check=True)
        installed, _ = run(clone, ["make", ".venv/ready"])
        seconds, peak = run(clone, ["make", "audit"])
    print(f"installation: {installed:.0f} s")
    print(f"make audit after it: {seconds:.0f} s, peak memory {peak / 2**30:.2f} GiB")


if __name__ == "__main__":
    main()
