"""What every workflow script does around its one call: a log that always has the reason."""

import errno
import gc
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

from lesion.formats import LesionError

# Importing transformers makes a million objects that live as long as the process; looking for
# garbage among them takes a third of that time, in every job.
gc.set_threshold(200_000, 50, 100)


@contextmanager
def logged(log: str) -> Iterator[None]:
    """Send what the block prints to `log`; on an error say its reason on the terminal as well.

    A `LesionError` is the user's to mend, so the terminal gets its message without a traceback;
    the log gets both.
    """
    path = Path(log)
    failure: BaseException | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        opened = path.open("w", encoding="utf-8", buffering=1)
        with opened as file, redirect_stderr(file), redirect_stdout(file):
            try:
                yield
            except BaseException as error:
                failure = error
                traceback.print_exc(file=file)
    except OSError as error:
        # The log itself could not be written; the first reason is the one to tell.
        failure = failure or error
    if failure is not None:
        print(_told(failure, path), file=sys.__stderr__, flush=True)
        raise SystemExit(1)


def _told(error: BaseException, log: Path) -> str:
    if isinstance(error, LesionError):
        return f"\nlesion: {error}\n(log: {log})"
    if isinstance(error, MemoryError):
        return (
            f"\nlesion: out of memory. Lower `scores.batch_tokens`, `responses.batch_size` or the "
            f"number of jobs at once (--cores).\n(log: {log})"
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"\nlesion: the disk is full ({error}). Free some space (or set `results` to another "
            f"disk) and run the same command again.\n(log: {log})"
        )
    return f"\nlesion: {type(error).__name__}: {error}\n(log: {log})"
