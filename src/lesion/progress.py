"""Progress of long work: a bar on a terminal, a line now and then in a log file."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

_QUIET_SECONDS = 15.0


@contextmanager
def progress(what: str, total: int, unit: str) -> Iterator[Callable[[int], object]]:
    """Show how far a loop is; the block calls what it is given with the number just done.

    A bar is drawn on the terminal, past the job's log; without a terminal a line is written to
    the log about every 15 seconds. The log gets the time it took in the end.
    """
    terminal = sys.__stderr__
    live = terminal is not None and terminal.isatty()
    pause = 0.2 if live else _QUIET_SECONDS
    started = time.monotonic()
    with tqdm(
        total=total,
        desc=what,
        unit=unit,
        file=terminal if live else sys.stderr,
        ascii=not live,
        mininterval=pause,
        maxinterval=pause,
        leave=False,
    ) as bar:
        yield bar.update
    print(f"{what}: {total} {unit}s in {time.monotonic() - started:.1f} s", file=sys.stderr)
