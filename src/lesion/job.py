"""What every workflow script does around its one call: a log that always has the reason."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

from lesion.formats import LesionError


@contextmanager
def logged(log: str) -> Iterator[None]:
    """Send what the block prints to `log`; on an error say its reason on the terminal as well.

    A `LesionError` is the user's to mend, so the terminal gets its message without a traceback;
    the log gets both.
    """
    path = Path(log)
    path.parent.mkdir(parents=True, exist_ok=True)
    opened = path.open("w", encoding="utf-8", buffering=1)
    with opened as file, redirect_stderr(file), redirect_stdout(file):
        try:
            yield
        except BaseException as error:
            traceback.print_exc(file=file)
            print(_told(error, path), file=sys.__stderr__, flush=True)
            raise SystemExit(1) from None


def _told(error: BaseException, log: Path) -> str:
    if isinstance(error, LesionError):
        return f"\nlesion: {error}\n(log: {log})"
    if isinstance(error, MemoryError):
        return (
            f"\nlesion: out of memory. Lower `scores.batch_tokens`, `responses.batch_size` or the "
            f"number of jobs at once (--cores).\n(log: {log})"
        )
    return f"\nlesion: {type(error).__name__}: {error}\n(log: {log})"
