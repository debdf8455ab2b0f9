"""Which GPU a process takes when several jobs share several: Snakemake only counts them.

A job takes the first device whose lock file nobody holds, and holds it until it ends, however it
ends: the kernel lets go of a dead process's locks.
"""

import fcntl
import os
import tempfile
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path

_HELD: list[int] = []
"""Descriptors of this process's locks; open as long as it lives."""


def pool(environment: Mapping[str, str], devices: int) -> list[str]:
    """Names of the devices that a process may choose among, in torch's order.

    Args:
        environment: `CUDA_VISIBLE_DEVICES`, if set, names them.
        devices: how many torch sees.
    """
    named = environment.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return [str(number) for number in range(devices)]
    # What comes after a device that there is not is not seen.
    return [name.strip() for name in named.split(",")][:devices]


def take(names: Sequence[str], folder: Path) -> int:
    """Lock a device for this process's life; where all are taken, one that fewest share.

    Args:
        names: of the pool, at least one.
        folder: of the lock files, the same for all processes that share the devices.

    Returns:
        The device's place in `names`.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Every device has a first place, a second …: all first places go before any second.
    for turn in count():
        for place, name in enumerate(names):
            if _lock(folder / f"{_file_name(name)}.{turn}"):
                return place
    raise AssertionError  # `count` never ends


def _lock(path: Path) -> bool:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return False
    _HELD.append(handle)
    return True


def _file_name(name: str) -> str:
    return name.replace("/", "_")


def lock_folder() -> Path:
    """Where this user's processes on this machine keep their lock files."""
    return Path(tempfile.gettempdir()) / f"lesion-gpus-{os.getuid()}"
