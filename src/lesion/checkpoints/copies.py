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
    wanted, actual = np.zeros(_CHUNK, np.uint8), np.zeros(_CHUNK, np.uint8)
    offset = 0
    with base.open("rb", buffering=0) as source, copy.open("x+b", buffering=0) as target:
        shared = _reflink(source, target)
        while size := _fill(source, offset, wanted):
            if not shared:
                _copy(source, target, offset, wanted.data[:size])
            for weights in zeros:
                _zero(target, wanted[:size], offset, weights)
            read = _fill(target, offset, actual)
            # As 64-bit words, which takes an eighth of the comparisons.
            if read != size or not np.array_equal(wanted.view(np.int64), actual.view(np.int64)):
                raise BadFile(
                    f"{copy}: differs after byte {offset} from {base} with the mask applied. The "
                    "base was changed meanwhile, or the disk or memory is faulty. Run it again."
                )
            offset += size
            done(size)
        if os.fstat(target.fileno()).st_size != offset:
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


def _copy(source: BinaryIO, target: BinaryIO, offset: int, data: memoryview) -> None:
    """Copy a chunk within the kernel, or write the bytes that were read if that fails."""
    end = offset + len(data)
    try:
        while offset < end and (
            more := os.copy_file_range(
                source.fileno(), target.fileno(), end - offset, offset, offset
            )
        ):
            offset += more
    except (OSError, AttributeError):
        pass  # If the disk has a problem, the write below reports it.
    if offset < end:
        _write(target, offset, data[offset - end :])


def _zero(file: BinaryIO, chunk: NDArray[np.uint8], offset: int, zeros: Zeros) -> None:
    """Zero the mask's weights in a chunk that begins at `offset`, in memory and in the file.

    In the file, each contiguous run is written at once, so that the rest stays shared.
    """
    # Weights may begin before the chunk or end after it.
    reach = np.searchsorted(zeros.starts, [offset - zeros.width + 1, offset + chunk.size])
    starts = zeros.starts[slice(*reach)]
    offsets = (starts[:, None] + np.arange(zeros.width) - offset).ravel()
    offsets = offsets[(offsets >= 0) & (offsets < chunk.size)]
    chunk[offsets] = 0
    if offsets.size:
        breaks = np.flatnonzero(np.diff(offsets) != 1)
        first = offsets[np.concatenate([[0], breaks + 1])].tolist()
        last = offsets[np.concatenate([breaks, [-1]])].tolist()
        for begin, end in zip(first, last, strict=True):
            _write(file, offset + begin, _ZEROS[: end + 1 - begin])


def _fill(file: BinaryIO, offset: int, chunk: NDArray[np.uint8]) -> int:
    """Read a chunk, with zeros after the end of the file; a single read may be incomplete."""
    filled = 0
    while filled < chunk.size and (
        more := os.preadv(file.fileno(), [chunk.data[filled:]], offset + filled)
    ):
        filled += more
    chunk[filled:] = 0
    return filled


def _write(file: BinaryIO, offset: int, data: memoryview) -> None:
    while data:
        written = os.pwrite(file.fileno(), data, offset)
        offset, data = offset + written, data[written:]
