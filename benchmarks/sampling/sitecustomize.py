"""Samples what Snakemake's script jobs spend their processor time on, for `benchmarks/overhead.py`.

Python imports this file when it starts, if its folder is in PYTHONPATH. A timer of the operating
system that counts processor time interrupts the process, and the processor time since the last
interruption is taken to have gone into what the main thread is doing then; while a long operation
of torch runs, Python hears of the timer at its end. Every sample is a line in a file of its
process.
"""

import atexit
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

INTERVAL = 0.05
"""Seconds of processor time between two samples."""
_FOLDER = os.environ.get("LESION_SAMPLES")
_JOBS = f"{os.sep}.snakemake{os.sep}scripts{os.sep}"
_PACKAGE = f"{os.sep}lesion{os.sep}"
WORK = {
    "backward": f"{os.sep}torch{os.sep}autograd{os.sep}",
    "forward": f"{os.sep}torch{os.sep}nn{os.sep}modules{os.sep}module.py",
    "selection": f"{_PACKAGE}masks{os.sep}",
}
"""The work that a study exists for, by what the path of a function's file contains. The first that
is found anywhere in the stack counts: gradients are also collected during a backward pass."""

_last = 0.0


def start() -> None:
    """Take samples of this process, which has just been started or forked."""
    global _last
    _last = time.process_time()
    signal.signal(signal.SIGPROF, _sample)
    signal.setitimer(signal.ITIMER_PROF, INTERVAL, INTERVAL)


def _sample(_: int, frame: FrameType | None) -> None:
    global _last
    now = time.process_time()
    spent, _last = now - _last, now
    script = sys.argv[0] if getattr(sys, "argv", None) else ""
    if _FOLDER is None or _JOBS not in script:
        return
    rule = Path(script).name.split(".")[-2]
    line = "\t".join((rule, *_kind(frame), f"{spent:.4f}"))
    with Path(_FOLDER, f"{os.getpid()}.tsv").open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def _kind(frame: FrameType | None) -> tuple[str, str]:
    """The kind of work that a stack does, and the innermost function of lesion in it."""
    found = set()
    place, imports = "", False
    while frame is not None:
        name = frame.f_code.co_filename
        imports |= name.startswith("<frozen importlib")
        found |= {kind for kind, part in WORK.items() if part in name}
        if not place and _PACKAGE in name and not imports:
            place = f"{name.rpartition(_PACKAGE)[2]}:{frame.f_code.co_name}"
        frame = frame.f_back
    if imports and not found & {"backward", "forward"}:
        return "import", ""
    return next((kind for kind in WORK if kind in found), "rest"), place


if _FOLDER:
    start()
    # While Python ends, nothing handles the signal any more, and it would kill the process.
    atexit.register(signal.setitimer, signal.ITIMER_PROF, 0)
    # A fork has no timer.
    os.register_at_fork(after_in_child=start)
