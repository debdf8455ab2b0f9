"""Runs scripts in forks of one process that has imported modules:
`python -m lesion.preload.server FD MODULE…`.

FD is a listening socket. The server ends, and ends its forks, when its standard input does, which
is a pipe from the process that started it.
"""

import contextlib
import ctypes
import gc
import importlib
import json
import os
import runpy
import selectors
import shutil
import signal
import socket
import sys
from pathlib import Path
from typing import NamedTuple

from lesion.preload.client import ACCEPTED, FORWARDED

COUNTS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
"""Variables that libraries read once, when they are imported; a job with others is refused."""

PR_SET_PDEATHSIG = 1
"""Of `linux/prctl.h`."""


class Job(NamedTuple):
    """A fork, and the connection of the client that waits for it."""

    client: socket.socket
    process: int
    ended: int
    """A file descriptor that becomes readable when the process ends."""


class Request(NamedTuple):
    """What a fork runs."""

    command: list[str]
    folder: str
    environment: dict[str, str]
    files: list[int]
    """File descriptors of standard input, output and error."""


def receive(client: socket.socket) -> Request | None:
    """The request of a client; None if it went away, or if it has to run its job itself."""
    files: list[int] = []
    with contextlib.suppress(OSError, ValueError):
        head, files, _, _ = socket.recv_fds(client, 8, 3)
        text = b""
        while len(text) < int.from_bytes(head, "big"):
            part = client.recv(1 << 16)
            if not part:
                break
            text += part
        request = Request(**json.loads(text), files=files)
        # Whether a fork would run the script as a new process does.
        if all(request.environment.get(name) == os.environ.get(name) for name in COUNTS):
            return request
    close(files)
    return None


def close(files: list[int]) -> None:
    """Close file descriptors, so that those who read their other ends see them end."""
    for descriptor in files:
        os.close(descriptor)


class Server:
    """The loop that waits for requests and for the ends of forks."""

    def __init__(self, listening: socket.socket) -> None:
        self.listening = listening
        self.selector = selectors.DefaultSelector()
        self.selector.register(listening, selectors.EVENT_READ, self.accept)
        self.selector.register(0, selectors.EVENT_READ, self.stop)
        self.jobs: dict[int, Job] = {}

    def serve(self) -> Request:
        """Serve until the end; it returns only in a fork, with what that has to run."""
        while True:
            for key, _ in self.selector.select():
                # A handler may have closed what another one of this round waited for.
                if self.selector.get_map().get(key.fd) is key:
                    request: Request | None = key.data()
                    if request is not None:
                        return request

    def accept(self) -> Request | None:
        """Fork for a request; the request in the fork, and None in the server."""
        client, _ = self.listening.accept()
        request = receive(client)
        if request is None:
            client.close()
            return None
        server = os.getpid()
        process = os.fork()
        if process == 0:
            end_with(server)
            client.close()
            self.leave()
            return request
        close(request.files)
        job = Job(client, process, os.pidfd_open(process))
        self.jobs[process] = job
        with contextlib.suppress(OSError):
            client.sendall(ACCEPTED)
        self.selector.register(client, selectors.EVENT_READ, lambda: self.forward(job))
        self.selector.register(job.ended, selectors.EVENT_READ, lambda: self.finish(job))
        return None

    def leave(self) -> None:
        """Close, in a fork, what belongs to the server."""
        self.selector.close()
        self.listening.close()
        for job in self.jobs.values():
            job.client.close()
            os.close(job.ended)

    def forward(self, job: Job) -> None:
        """Pass on the signals that the client got, or end the job of a client that is gone."""
        try:
            numbers = [*job.client.recv(64)]
        except OSError:
            numbers = []
        if not numbers:
            self.selector.unregister(job.client)
        for number in numbers or [signal.SIGKILL]:
            kill(job, number)

    def finish(self, job: Job) -> None:
        """Tell the client how its job ended."""
        _, status = os.waitpid(job.process, 0)
        with contextlib.suppress(OSError):
            job.client.sendall(str(os.waitstatus_to_exitcode(status)).encode())
        with contextlib.suppress(KeyError):
            self.selector.unregister(job.client)
        self.selector.unregister(job.ended)
        job.client.close()
        os.close(job.ended)
        del self.jobs[job.process]

    def stop(self) -> None:
        """End all jobs and the server, because the process that started it has ended."""
        for job in self.jobs.values():
            kill(job, signal.SIGKILL)
        # Left to the process that started this one, it would stay if that is killed.
        shutil.rmtree(Path(self.listening.getsockname()).parent, ignore_errors=True)
        raise SystemExit


def end_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends, in whatever way."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def kill(job: Job, number: int) -> None:
    """Send a signal to a fork, which is of the same process group as its client."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(job.process, number)


def become(request: Request) -> None:
    """Take on a request's files, folder and environment."""
    for number in FORWARDED:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for target, descriptor in enumerate(request.files):
        os.dup2(descriptor, target)
        os.close(descriptor)
    os.chdir(request.folder)
    os.environ.clear()
    os.environ.update(request.environment)
    sys.argv[:] = request.command[1:]


def main() -> None:
    """Import the modules, then serve."""
    for number in (signal.SIGINT, *FORWARDED):
        signal.signal(number, signal.SIG_IGN)
    with socket.socket(fileno=int(sys.argv[1])) as listening:
        gc.disable()
        for name in sys.argv[2:]:
            importlib.import_module(name)
        gc.enable()
        # Collections in a fork would write to every object, and so copy all of the memory.
        gc.freeze()
        request = Server(listening).serve()
    become(request)
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
