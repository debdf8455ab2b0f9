"""The one place where logging is set up: for a job, whose log always has the reason why it failed,
and for the command line.
"""

import errno
import gc
import logging
import re
import resource
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from fnmatch import fnmatch
from itertools import pairwise
from pathlib import Path
from typing import TextIO

import psutil

from lesion.io.formats import LesionError

# Importing transformers creates a million objects that live as long as the process, and garbage
# collection among them takes a third of the import time in every job.
gc.set_threshold(200_000, 50, 100)


_JOB = "%(asctime)s %(levelname)s %(message)s"
_OF_ALL = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
USAGE = ".tsv"
"""The suffix, in place of the log's, of the table of what a job took. The operating system counts
that. Snakemake's `benchmark` only looks at a job from time to time, and sees none of a process that
it did not start."""
USAGE_COLUMNS = ("seconds", "processor", "memory")
"""Seconds since the process was started or forked, seconds of processor time with its children's,
and the largest resident set in MiB, of the process or of any child."""
STAGE_FOLDERS = (
    *("sources", "models", "pairs", "scores", "masks", "checkpoints"),
    *("responses", "judgements", "tables"),
)
"""Folders of the results and of the logs, in the order of the stages. Folders of earlier versions
are ignored; so is `report`, whose time is not known while the page is written."""
_UNIT = 1 if sys.platform == "darwin" else 1024
_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)
_messages = logging.getLogger("lesion")
"""Every module's own logger is below this one, so they all write where this one does."""


@contextmanager
def messages_to(handler: logging.Handler, layout: str = "%(message)s") -> Iterator[None]:
    """Inside the block, the messages of all modules go to this handler and to no other."""
    before = _messages.handlers[:], _messages.level, _messages.propagate
    handler.setFormatter(logging.Formatter(layout))
    # transformers and lm-eval give the root logger handlers that would repeat each message.
    _messages.handlers[:], _messages.propagate = [handler], False
    _messages.setLevel(logging.INFO)
    try:
        yield
    finally:
        _messages.handlers[:], level, _messages.propagate = before
        _messages.setLevel(level)


class Terminal(logging.StreamHandler[TextIO]):
    """Writes to whatever `sys.stderr` is when a message comes."""

    def emit(self, record: logging.LogRecord) -> None:  # noqa: D102
        self.stream = sys.stderr
        super().emit(record)


@contextmanager
def logged(log: str) -> Iterator[None]:
    """Write what the block logs or prints to `log`; the terminal gets only the reason of an error.

    A `LesionError` is for the user to fix, so the terminal shows its message without a traceback;
    the log has both. What a job took that succeeded is written beside the log (see `USAGE`).
    """
    path = Path(log)
    failure: BaseException | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(USAGE).unlink(missing_ok=True)
        opened = path.open("w", encoding="utf-8", buffering=1)
        with (
            opened as file,
            redirect_stderr(file),
            redirect_stdout(file),
            messages_to(logging.StreamHandler(file), _JOB),
        ):
            try:
                yield
            except BaseException as error:
                failure = error
                traceback.print_exc(file=file)
    except OSError as error:
        # The log itself could not be written; the first error is the one to report.
        failure = failure or error
    if failure is not None:
        print(_report(failure, path), file=sys.__stderr__, flush=True)
        raise SystemExit(1)
    with suppress(OSError, psutil.Error):
        _write_usage(path.with_suffix(USAGE))


def _write_usage(path: Path) -> None:
    """Write what this process has taken so far."""
    own, others = (resource.getrusage(who) for who in _OF_ALL)
    values = (
        f"{time.time() - psutil.Process().create_time():.2f}",
        f"{own.ru_utime + own.ru_stime + others.ru_utime + others.ru_stime:.2f}",
        f"{max(_peak(own.ru_maxrss), others.ru_maxrss * _UNIT) / 2**20:.0f}",
    )
    path.write_text("\t".join(USAGE_COLUMNS) + "\n" + "\t".join(values) + "\n", encoding="utf-8")


def _peak(reported: int) -> int:
    """The largest resident set of this process in bytes, given that of `getrusage`.

    On Linux, that also counts what the process was before it became this program.
    """
    status = Path("/proc/self/status")
    peak = _PEAK.search(status.read_text(encoding="utf-8")) if status.exists() else None
    return int(peak[1]) * 1024 if peak else reported * _UNIT


def _report(error: BaseException, log: Path) -> str:
    """What the terminal shows of an error: its message, or what to do about a lack of resources."""
    if isinstance(error, LesionError):
        text = str(error)
    elif _is_out_of_memory(error):
        stage, lower = _stage(log)
        needed = next(iter(str(error).strip().splitlines()), "")
        text = (
            f"{stage}: out of memory{f' ({needed})' if needed else ''}. "
            f"{f'{lower}, or run' if lower else 'Run'} fewer jobs at once (--cores), then the same "
            "command again: what is finished is kept."
        )
    elif isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        text = (
            f"the disk is full ({error}). Free some space (or set `results` to another disk) and "
            "run the same command again."
        )
    else:
        text = f"{type(error).__name__}: {error}"
    return f"\nlesion: {text}\n(log: {log})"


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether Python, numpy, torch's allocator on the CPU, or CUDA's had no more to give.

    Recognised by the words, since importing torch to name its exceptions takes seconds.
    """
    words = ("out of memory", "not enough memory", "can't allocate memory")
    is_worded = any(text in str(error).lower() for text in words)
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and is_worded)


def _stage(log: Path) -> tuple[str, str]:
    """The stage of a log `<results>/<study>/logs/<stage>/…`, and what lowers its memory.

    Any of the folders may be called `logs`.
    """
    for index, (parent, stage) in enumerate(pairwise(log.parts)):
        below = "/".join(log.parts[index + 1 :])
        lower = next((text for pattern, text in _LOWER.items() if fnmatch(below, pattern)), "")
        if parent == "logs" and lower:
            return stage.removesuffix(".log"), lower
    return "job", ""


_BATCH = "Lower `responses.batch_size` and `responses.batch_tokens`"
_LOWER_TRAINING = "raise `accumulate` of the training, or set its `lora`"
_LOWER = {
    "sources/*": "Give the address of the file that is needed, in place of a whole folder",
    "models/*": f"Give the model in a smaller dtype, or, if it is trained, {_LOWER_TRAINING}",
    "pairs/*": "Lower `pairs.batch_size` or `pairs.max_new_tokens`",
    "scores/*": "Lower `scores.batch_tokens`, set `scores.memory.plan: passes`, or `scores.tail`",
    "masks/*": "Set `scores.tail`, lower `responses.batch_tokens`, ask for fewer `masks.p` and `q`",
    "checkpoints/*": "Lower `masks.q`",
    "responses/*/curve/*": f"{_BATCH}, or ask for fewer `curve.sizes`",
    "responses/*/retraining/*": _LOWER_TRAINING.capitalize(),
    "responses/*/utility.log": "Lower `utility.batch_size`",
    "responses/*": _BATCH,
    "judgements/*": "Lower `batch_size` of the judge under `judgements.judges`",
    "tables*": "Lower `tables.resamples`",
    "report*": "Lower `report.examples`",
}
"""By a log's place, the first pattern that fits: which settings lower what its jobs take."""
