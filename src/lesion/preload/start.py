"""Starts the server from the process that runs the workflow."""

import atexit
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from lesion.preload.client import COUNTS
from lesion.preload.names import RUN_FOLDER

SERVER = "lesion.preload.server"
_CLIENT = Path(__file__).with_name("client.py")
_GPUS = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/kfd", "/dev/dxg")
_PATIENCE = 30.0
"""Seconds that the server has to end."""
_SHELL = "set -euo pipefail; "
"""What Snakemake puts before a command that has no prefix of its own."""


def preload(modules: Sequence[str], threads: int) -> str:
    """Start a server that lives as long as this process.

    Args:
        modules: what it imports.
        threads: CPU threads of the jobs; a job with another number is not run by the server.

    Returns:
        The prefix of every job's command, for `snakemake.shell.shell.prefix`; it fits commands that
        are no compound ones. Empty if nothing is preloaded, because this machine has a GPU or lacks
        what the server needs.
    """
    if any(map(os.path.exists, _GPUS)):
        return ""
    folder = ""
    try:
        os.close(os.pidfd_open(os.getpid()))
        # Only this user may open the folder, and so the socket.
        folder = tempfile.mkdtemp(prefix="lesion-")
        address = str(Path(folder, "jobs"))
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
            listening.bind(address)
            # A job that comes before the imports are done waits for them.
            listening.listen(512)
            server = subprocess.Popen(
                [sys.executable, "-P", "-m", SERVER, str(listening.fileno()), *modules],
                stdin=subprocess.PIPE,
                pass_fds=[listening.fileno()],
                env=os.environ | dict.fromkeys(COUNTS, str(threads)),
            )
    except (AttributeError, OSError):
        shutil.rmtree(folder, ignore_errors=True)
        return ""
    os.environ[RUN_FOLDER] = folder
    # The pipe is kept open, and closed by the end of this process, however it ends.
    atexit.register(_end, server, folder)
    client = [sys.executable, "-I", "-S", str(_CLIENT), address]
    # Snakemake fills in what stands in braces.
    return _SHELL + shlex.join(client).replace("{", "{{").replace("}", "}}") + " "


def _end(server: "subprocess.Popen[bytes]", folder: str) -> None:
    assert server.stdin is not None
    with suppress(OSError):
        server.stdin.close()
    try:
        server.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
    shutil.rmtree(folder, ignore_errors=True)
