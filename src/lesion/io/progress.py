"""Progress of long work: a bar for a command, and lines at intervals for a job."""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TextIO

from tqdm import tqdm

logger = logging.getLogger(__name__)

_SECONDS = 5.0
_QUIET_SECONDS = 15.0
_LINE = "{desc}: {n_fmt} of {total_fmt} {unit}, {rate_noinv_fmt}{postfix}, {remaining} left"


class Advance(Protocol):
    """Called with the number of units just finished, and of tokens generated for them."""

    def __call__(self, done: int, tokens: int = 0, /) -> object: ...  # noqa: D102


@contextmanager
def progress(what: str, total: int, unit: str) -> Iterator[Advance]:
    """Show the progress of a loop, its speed, and the remaining time.

    A command draws a bar on the terminal. Jobs run in parallel and their bars would overwrite each
    other, so a job writes a line with its name to the terminal about every 5 seconds, or, without a
    terminal, to its log about every 15. The log also gets the total time.

    Args:
        what: a name, such as `physical: responses`.
        total: the number of units.
        unit: the name of a unit, in the singular.
    """
    started = time.monotonic()
    terminal = sys.__stderr__ if sys.__stderr__ is not None and sys.__stderr__.isatty() else None
    if terminal is not None and terminal is sys.stderr:
        with tqdm(
            total=total,
            desc=what,
            unit=f" {unit}s",
            file=terminal,
            mininterval=0.2,
            maxinterval=0.2,
            dynamic_ncols=True,
            leave=False,
        ) as bar:
            yield _Bar(bar)
    elif terminal is not None:
        yield _Lines(what, total, unit, terminal, _SECONDS)
    else:
        yield _Lines(what, total, unit, sys.stderr, _QUIET_SECONDS)
    logger.info(f"{what}: {total} {unit}s in {time.monotonic() - started:.1f} s")


class _Bar:
    """A progress bar."""

    def __init__(self, bar: "tqdm[Any]") -> None:
        self._bar = bar
        self._tokens = 0
        self._started = time.monotonic()

    def __call__(self, done: int, tokens: int = 0, /) -> None:
        self._tokens += tokens
        speed = _speed(self._tokens, time.monotonic() - self._started)
        self._bar.set_postfix_str(speed, refresh=False)
        self._bar.update(done)


class _Lines:
    """Writes lines, because a bar that overwrites itself is unreadable in a log."""

    def __init__(self, what: str, total: int, unit: str, file: TextIO, seconds: float) -> None:
        self._what, self._total, self._unit = what, total, unit
        self._file, self._seconds = file, seconds
        self._done = self._tokens = 0
        self._started = self._last = time.monotonic()

    def __call__(self, done: int, tokens: int = 0, /) -> None:
        self._done += done
        self._tokens += tokens
        now = time.monotonic()
        if now - self._last < self._seconds:
            return
        self._last = now
        line = tqdm.format_meter(
            self._done,
            self._total,
            now - self._started,
            prefix=self._what,
            unit=f" {self._unit}s",
            postfix=_speed(self._tokens, now - self._started),
            bar_format=_LINE,
        )
        # In a single write, since another job may be writing too.
        self._file.write(f"{' '.join(line.split())}\n")
        self._file.flush()


def _speed(tokens: int, seconds: float) -> str:
    return f"{tokens / seconds:,.0f} tokens/s" if tokens and seconds > 0 else ""
