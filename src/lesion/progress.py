"""Progress of long work: a bar on a terminal, a line now and then in a log file."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

_QUIET_SECONDS = 15.0
_LINE = "{desc}: {n_fmt} of {total_fmt} {unit}s, {rate_fmt}, {remaining} left"


@contextmanager
def progress(what: str, total: int, unit: str) -> Iterator[Callable[[int], object]]:
    """Show how far a loop is; the block calls what it is given with the number just done.

    A bar is drawn on the terminal, past the job's log; without a terminal a line is written to
    the log about every 15 seconds. The log gets the time it took in the end.
    """
    started = time.monotonic()
    terminal = sys.__stderr__
    if terminal is not None and terminal.isatty():
        with tqdm(
            total=total,
            desc=what,
            unit=unit,
            file=terminal,
            mininterval=0.2,
            maxinterval=0.2,
            dynamic_ncols=True,
            leave=False,
        ) as bar:
            yield bar.update
    else:
        yield _Lines(what, total, unit)
    print(f"{what}: {total} {unit}s in {time.monotonic() - started:.1f} s", file=sys.stderr)


class _Lines:
    """Writes whole lines: a bar that goes back over itself makes a log nobody can read."""

    def __init__(self, what: str, total: int, unit: str) -> None:
        self._what, self._total, self._unit = what, total, unit
        self._done = 0
        self._started = self._last = time.monotonic()

    def __call__(self, done: int) -> None:
        self._done += done
        now = time.monotonic()
        if now - self._last < _QUIET_SECONDS:
            return
        self._last = now
        line = tqdm.format_meter(
            self._done,
            self._total,
            now - self._started,
            prefix=self._what,
            unit=self._unit,
            bar_format=_LINE,
        )
        print(line, file=sys.stderr)
