"""Copies of large files with some bytes zeroed, compared with the original in constant memory."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from lesion.checkpoints.shards import Zeros
from lesion.io.formats import BadFile
from lesion.models.layout import FlatIndices

_CHUNK = 2**20
"""Bytes that are copied, read and compared at a time, few enough for the processor's cache."""
_FICLONE = 0x40049409
_ZEROS = memoryview(bytes(_CHUNK))

Done = Callable[[int], object]
"""Called with the number of bytes that have just been finished."""


def copy_with_zeros(base: Path, copy: Path, zeros: Sequence[Zeros], done: Done) -> None:
    """Copy a file with some of its bytes zeroed, and compare every byte read back.

    Raises:
        BadFile: the copy is not the original with these zeros.
    """
    wanted, found = np.zeros(_CHUNK, np.uint8), np.zeros(_CHUNK, np.uint8)
    at = 0
    with base.open("rb", buffering=0) as source, copy.open("x+b", buffering=0) as target:
        shared = _reflink(source, target)
        while size := _fill(source, at, wanted):
            if not shared:
                _copy(source, target, at, wanted.data[:size])
            near = [one for one in zeros if _near(one, at, size)]
            _poke(target, at, size, near)
            _zero(wanted[:size], at, near)
            again = _fill(target, at, found)
            # As 64-bit words, which takes an eighth of the comparisons.
            if again != size or not np.array_equal(wanted.view(np.int64), found.view(np.int64)):
                raise BadFile(
                    f"{copy}: differs after byte {at} from what {base} and the mask make it. The "
                    "base was changed meanwhile, or the disk or memory is faulty. Run it again."
                )
            at += size
            done(size)
        if os.fstat(target.fileno()).st_size != at:
            raise BadFile(f"{copy}: is longer than {base}, which was changed meanwhile. Run again.")


def _reflink(source: BinaryIO, target: BinaryIO) -> bool:
    """Share the bytes on disk until they are changed, if the file system supports it."""
    if sys.platform != "linux":
        return False
    from fcntl import ioctl

    try:
        ioctl(target.fileno(), _FICLONE, source.fileno())
    except OSError:
        return False
    return True


def _copy(source: BinaryIO, target: BinaryIO, at: int, data: memoryview) -> None:
    """Copy a chunk within the kernel, or write the bytes that were read if that fails."""
    end = at + len(data)
    try:
        while at < end and (
            more := os.copy_file_range(source.fileno(), target.fileno(), end - at, at, at)
        ):
            at += more
    except (OSError, AttributeError):
        pass  # If the disk has a problem, the write below reports it.
    if at < end:
        _write(target, at, data[at - end :])


def _poke(file: BinaryIO, at: int, size: int, zeros: Sequence[Zeros]) -> None:
    """Write the zeros of a chunk, each contiguous run at once, so that the rest stays shared."""
    for one in zeros:
        starts = _reaching(one, at, size)
        if starts.size:
            breaks = np.flatnonzero(np.diff(starts) != one.width)
            first = starts[np.concatenate([[0], breaks + 1])].clip(at)
            last = (starts[np.concatenate([breaks, [-1]])] + one.width).clip(max=at + size)
            for begin, end in zip(first.tolist(), last.tolist(), strict=True):
                _write(file, begin, _ZEROS[: end - begin])


def _zero(chunk: NDArray[np.uint8], at: int, zeros: Sequence[Zeros]) -> None:
    """Zero the mask's weights in a chunk of the original that begins at `at`."""
    for one in zeros:
        starts = _reaching(one, at, chunk.size)
        places = (starts[:, None] + np.arange(one.width) - at).ravel()
        chunk[places[(places >= 0) & (places < chunk.size)]] = 0


def _near(zeros: Zeros, at: int, size: int) -> bool:
    """Whether a chunk may contain any of the zeros; most chunks contain none."""
    if not zeros.starts.size:
        return False
    return bool(zeros.starts[0] < at + size and zeros.starts[-1] + zeros.width > at)


def _reaching(zeros: Zeros, at: int, size: int) -> FlatIndices:
    """The weights with a byte in a chunk; they may begin before it or end after it."""
    first, last = np.searchsorted(zeros.starts, [at - zeros.width + 1, at + size])
    return zeros.starts[first:last]


def _fill(file: BinaryIO, at: int, chunk: NDArray[np.uint8]) -> int:
    """Read a chunk, with zeros after the end of the file; a single read may be incomplete."""
    filled = 0
    while filled < chunk.size and (
        more := os.preadv(file.fileno(), [chunk.data[filled:]], at + filled)
    ):
        filled += more
    chunk[filled:] = 0
    return filled


def _write(file: BinaryIO, at: int, data: memoryview) -> None:
    while data:
        written = os.pwrite(file.fileno(), data, at)
        at, data = at + written, data[written:]
