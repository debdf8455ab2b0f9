"""Starts the server from the process that runs the workflow."""

import atexit
import os
import shlex
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

SERVER = "lesion.preload.server"
_CLIENT = Path(__file__).with_name("client.py")
_GPUS = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/kfd", "/dev/dxg")


def preload(modules: Sequence[str], threads: int) -> str:
    """Start a server that lives as long as this process.

    Args:
        modules: what it imports.
        threads: CPU threads of the jobs; a job with another number is not run by the server.

    Returns:
        The words that a job's command has to begin with; empty if nothing is preloaded, because
        this machine has a GPU or its kernel lacks what the server needs.
    """
    if any(map(os.path.exists, _GPUS)) or not hasattr(os, "pidfd_open"):
        return ""
    # Only this user may open the folder, and so the socket.
    folder = tempfile.mkdtemp(prefix="lesion-")
    address = str(Path(folder, "jobs"))
    counts = ("OMP", "GOTO", "OPENBLAS", "MKL", "VECLIB", "NUMEXPR")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(address)
        # A job that comes before the imports are done waits for them.
        listening.listen(512)
        server = subprocess.Popen(
            [sys.executable, "-P", "-m", SERVER, str(listening.fileno()), *modules],
            stdin=subprocess.PIPE,
            pass_fds=[listening.fileno()],
            env={
                **os.environ,
                **{f"{name}_NUM_THREADS": str(threads) for name in counts},
            },
        )
    # The pipe is kept open, and closed by the end of this process, however it ends.
    atexit.register(_wait, server)
    client = [sys.executable, "-I", "-S", str(_CLIENT), address]
    return shlex.join(client) + " "


def _wait(server: "subprocess.Popen[bytes]") -> None:
    assert server.stdin is not None
    server.stdin.close()
    server.wait()
