"""Progress of long work: a bar for a command, and lines at intervals for a job."""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Protocol

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
    started = shown = time.monotonic()
    finished = tokens = 0
    terminal = sys.__stderr__ if sys.__stderr__ is not None and sys.__stderr__.isatty() else None
    file, seconds = (terminal, _SECONDS) if terminal else (sys.stderr, _QUIET_SECONDS)
    bar: tqdm[Any] | None = None
    if terminal is not None and terminal is sys.stderr:
        often: dict[str, Any] = {"mininterval": 0.2, "maxinterval": 0.2, "dynamic_ncols": True}
        bar = tqdm(total=total, desc=what, unit=f" {unit}s", file=terminal, leave=False, **often)

    def advance(done: int, more_tokens: int = 0, /) -> None:
        nonlocal finished, tokens, shown
        finished, tokens, now = finished + done, tokens + more_tokens, time.monotonic()
        speed = f"{tokens / (now - started):,.0f} tokens/s" if tokens and now > started else ""
        if bar is not None:
            bar.set_postfix_str(speed, refresh=False)
            bar.update(done)
        elif now - shown >= seconds:
            shown = now
            line = tqdm.format_meter(
                finished,
                total,
                now - started,
                prefix=what,
                unit=f" {unit}s",
                postfix=speed,
                bar_format=_LINE,
            )
            # In a single write, since another job may be writing too.
            file.write(f"{' '.join(line.split())}\n")
            file.flush()

    with nullcontext() if bar is None else bar:
        yield advance
    logger.info(f"{what}: {total} {unit}s in {time.monotonic() - started:.1f} s")
