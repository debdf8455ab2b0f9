"""`snakemake`, `lesion` and the jobs of a study, forked from processes that have their imports.

Importing Snakemake takes three seconds, more than planning the tiny study, and what the jobs import
(torch, transformers) takes six; tests give hundreds of commands. Two servers, those of the
workflow's own jobs (`lesion.preload`), have imported all but lesion itself:

- one forks Snakemake, and `lesion` too. Only commands that are waited for go through it: a signal
  that ends the client kills the fork at once, and what Python prints on SIGABRT is the client's;
- the other one forks, for such a Snakemake, the study's own server, in place of a new process. That
  is why it ends with the connection of the Snakemake that asked for it.
"""

import atexit
import json
import os
import runpy
import socket
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from lesion.preload import client
from lesion.preload.client import ACCEPTED, COUNTS
from lesion.preload.start import SERVER

_FORKED = Path(__file__)
"""This file is also what a fork runs."""
_COMMANDS = (
    *("snakemake.cli", "smart_open", "numpy", "polars", "psutil", "pydantic", "yaml"),
    *("typer", "typer.core", "scipy.sparse"),
)
"""What the two commands import, but for lesion."""
_NAMES = ("snakemake", "lesion")
_JOBS = (
    *("snakemake.script", "torch", "transformers", "transformers.models.auto.modeling_auto"),
    *("transformers.modeling_utils", "transformers.generation.utils", "transformers.cache_utils"),
    *("transformers.models.llama.modeling_llama", "accelerate", "safetensors.torch", "polars"),
    *("pyarrow.parquet", "sklearn.linear_model", "sklearn.feature_extraction.text", "scipy.stats"),
    *("pydantic", "yaml", "jinja2", "torch.utils.checkpoint"),
)
"""What the study's server imports, but for lesion."""
_ADDRESS = "LESION_TEST_JOBS"
"""The environment variable with the address of the server that forks studies' servers."""
_ONE_THREAD = dict.fromkeys(COUNTS, "1")


def warm(command: list[str]) -> list[str]:
    """The command that has one of `snakemake` or `lesion` run in a fork; any other one as it is."""
    name = Path(command[0]).name
    if name not in _NAMES:
        return command
    os.environ[_ADDRESS] = _server(*_JOBS, **_ONE_THREAD)
    through = [sys.executable, "-I", "-S", client.__file__, _server(*_COMMANDS)]
    return [*through, sys.executable, str(_FORKED), name, *command[1:]]


@cache
def _server(*modules: str, **environment: str) -> str:
    """The address of a server of this process, which ends with it."""
    folder = tempfile.mkdtemp(prefix="lesion-test-")
    address = str(Path(folder, "jobs"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(address)
        listening.listen(512)
        server = subprocess.Popen(
            [sys.executable, "-P", "-m", SERVER, str(listening.fileno()), *modules],
            stdin=subprocess.PIPE,
            pass_fds=[listening.fileno()],
            env={**os.environ, **environment},
        )
    assert server.stdin is not None
    atexit.register(server.wait)
    atexit.register(server.stdin.close)
    return address


class _Popen(subprocess.Popen):  # type: ignore[type-arg]
    """Starts the study's server as a fork, and everything else as ever."""

    def __new__(cls, command: Any, *_: Any, **options: Any) -> Any:
        own = {name: (options.get("env") or {}).get(name) for name in COUNTS} == _ONE_THREAD
        if isinstance(command, list) and SERVER in command and own:
            return _Forked(command, **options)
        return super().__new__(cls)


class _Forked:
    """What `lesion.preload.start` needs of a process: to end it."""

    def __init__(self, command: list[str], **options: Any) -> None:
        number, *modules = command[command.index(SERVER) + 1 :]
        request = {
            "command": [sys.executable, str(_FORKED), SERVER, *modules],
            "folder": str(Path.cwd()),
            "environment": dict(options["env"]),
            "ignored": [],
        }
        text = json.dumps(request).encode()
        self.stdin = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.stdin.connect(os.environ[_ADDRESS])
        # The socket of the study's server arrives as the fork's standard input.
        socket.send_fds(self.stdin, [len(text).to_bytes(8, "big")], [int(number), 1, 2])
        self.stdin.sendall(text)
        assert self.stdin.recv(1) == ACCEPTED

    def wait(self, _: float) -> int:
        """The connection is closed, on which the fork is killed, and its jobs with it."""
        return 0

    def kill(self) -> None:
        """Nothing is left to be killed; see `wait`."""


def _run() -> None:
    """Run a command or a study's server as a new process would: with the paths of its own
    environment, and with the `lesion` that these lead to.
    """
    for name in [*sys.modules]:
        if name.partition(".")[0] == "lesion":
            del sys.modules[name]
    sys.path[:0] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    if sys.argv[1:2] == [SERVER]:
        sys.argv[:] = [SERVER, str(os.dup(0)), *sys.argv[2:]]
        # The study's server ends with its standard input; this pipe ends with the fork.
        reading, _ = os.pipe()
        os.dup2(reading, 0)
        runpy.run_module(SERVER, run_name="__main__", alter_sys=True)
        return
    sys.argv[:] = sys.argv[1:]
    if sys.argv[0] == "lesion":
        from lesion.cli import main
    else:
        subprocess.Popen = _Popen  # type: ignore[misc]
        from snakemake.cli import main
    sys.exit(main())


if __name__ == "__main__":
    _run()
