"""Snakemake with its imports done: a command is forked from a process that has imported it.

Importing Snakemake takes three seconds, more than planning the tiny study, and tests give hundreds
of commands. The server is that of the workflow's own jobs (`lesion.preload`). Only commands that
are waited for go through it: a signal that ends the client kills the fork at once, and what Python
prints on SIGABRT is the client's.
"""

import atexit
import os
import socket
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from lesion.preload import client
from lesion.preload.start import SERVER

_FORKED = Path(__file__)
"""This file is also what a fork runs."""
_IMPORTED = ("snakemake.cli", "smart_open", "numpy", "polars", "psutil", "pydantic", "yaml")
"""What every command imports, but for lesion."""


def warm(command: list[str]) -> list[str]:
    """The command that has a `snakemake` command run in a fork; any other one as it is."""
    if Path(command[0]).name != "snakemake":
        return command
    through = [sys.executable, "-I", "-S", client.__file__, _server()]
    return [*through, sys.executable, str(_FORKED), *command[1:]]


@cache
def _server() -> str:
    """The address of this process's server, which ends with it."""
    folder = tempfile.mkdtemp(prefix="lesion-test-")
    address = str(Path(folder, "jobs"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(address)
        listening.listen(512)
        server = subprocess.Popen(
            [sys.executable, "-P", "-m", SERVER, str(listening.fileno()), *_IMPORTED],
            stdin=subprocess.PIPE,
            pass_fds=[listening.fileno()],
        )
    assert server.stdin is not None
    atexit.register(server.wait)
    atexit.register(server.stdin.close)
    return address


def _run() -> None:
    """Run Snakemake as a new process would: with the paths of its own environment, and with the
    `lesion` that the study's folder has.
    """
    for name in [*sys.modules]:
        if name.partition(".")[0] == "lesion":
            del sys.modules[name]
    sys.path[:0] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    from snakemake.cli import main

    sys.argv[0] = "snakemake"
    sys.exit(main())


if __name__ == "__main__":
    _run()
