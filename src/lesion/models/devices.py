"""Choosing a GPU when several jobs share several GPUs, which Snakemake only counts.

A job takes the first device whose lock file is free and locks it until it ends. The kernel releases
the locks of a process that dies.
"""

import fcntl
import os
import tempfile
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path

_LOCKS: list[int] = []
"""File descriptors of this process's locks, open for its lifetime."""


def pool(environment: Mapping[str, str], devices: int) -> list[str]:
    """Names of the devices that a process may choose among, in torch's order.

    `CUDA_VISIBLE_DEVICES` of the environment, if set, names them; torch sees `devices` of them.
    """
    named = environment.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return [str(number) for number in range(devices)]
    # CUDA ignores the devices after one that does not exist.
    return [name.strip() for name in named.split(",")][:devices]


def take(names: Sequence[str], folder: Path) -> int:
    """Lock a device for this process's lifetime; if all are locked, one that the fewest share.

    All processes that share the devices use the same folder of lock files. Returns the device's
    index in `names`.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Every device has a first slot, a second …, and all first slots come before any second.
    slots = ((turn, index, name) for turn in count() for index, name in enumerate(names))
    return next(
        index for turn, index, name in slots if _lock(folder / f"{name.replace('/', '_')}.{turn}")
    )


def _lock(path: Path) -> bool:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return False
    _LOCKS.append(handle)
    return True


def lock_folder() -> Path:
    """The folder of lock files of this user's processes on this machine."""
    return Path(tempfile.gettempdir()) / f"lesion-gpus-{os.getuid()}"
