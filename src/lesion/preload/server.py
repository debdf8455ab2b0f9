"""Runs scripts in forks of one process that has imported modules:
`python -m lesion.preload.server FD MODULE…`.

FD is a listening socket. The server ends, and ends its forks, when its standard input does, which
is a pipe from the process that started it.
"""

import atexit
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
import tempfile
import threading
import warnings
from pathlib import Path
from typing import NamedTuple

from lesion.preload.client import ACCEPTED, COUNTS, SIGNALS

PATIENCE = 5.0
"""Seconds that a client has for its request, during which no other is heard."""
PR_SET_PDEATHSIG = 1
"""Of `linux/prctl.h`."""
LIBC = ctypes.CDLL(None)


class Fork(NamedTuple):
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
    ignored: list[int]
    """Signals that the job ignores."""
    files: list[int]
    """File descriptors of standard input, output and error."""


def receive(client: socket.socket) -> Request | None:
    """The request of a client; None if it went away, or if it has to run its job itself."""
    files: list[int] = []
    with contextlib.suppress(OSError, ValueError):
        client.settimeout(PATIENCE)
        head, files, _, _ = socket.recv_fds(client, 8, 3)
        text, size = b"", int.from_bytes(head, "big")
        while len(text) < size:
            part = client.recv(min(1 << 16, size - len(text)))
            if not part:
                break
            text += part
        request = Request(**json.loads(text), files=files)
        client.settimeout(None)
        # Whether a fork would run the script as a new process does.
        alike = all(request.environment.get(name) == os.environ.get(name) for name in COUNTS)
        if alike and not gone(client):
            return request
    close(files)
    return None


def gone(client: socket.socket) -> bool:
    """Whether a client, which sends nothing after its request, has closed its connection."""
    try:
        return not client.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False


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
        self.forks: dict[int, Fork] = {}

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
        """Fork for a request; the request in the fork, and None in the server.

        What the system refuses is the client's to try, so that no other job suffers.
        """
        try:
            client, _ = self.listening.accept()
        except OSError:
            return None
        request = receive(client)
        if request is None:
            client.close()
            return None
        try:
            fork = self.fork(client)
        except OSError:
            fork = None
            client.close()
        else:
            if fork is None:
                return request
        close(request.files)
        if fork:
            self.forks[fork.process] = fork
            with contextlib.suppress(OSError):
                client.sendall(ACCEPTED)
            self.selector.register(client, selectors.EVENT_READ, lambda: self.forward(fork))
            self.selector.register(fork.ended, selectors.EVENT_READ, lambda: self.finish(fork))
        return None

    def fork(self, client: socket.socket) -> Fork | None:
        """A fork for a client; None in the fork itself.

        Raises:
            OSError: there is no fork.
        """
        server = os.getpid()
        # In the fork, signals wait until it has its own way with them (`become`).
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            process = os.fork()
            if process == 0:
                end_with(server)
                client.close()
                self.leave()
                return None
        finally:
            if os.getpid() == server:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        try:
            return Fork(client, process, os.pidfd_open(process))
        except OSError:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            raise

    def leave(self) -> None:
        """Close, in a fork, what belongs to the server."""
        self.selector.close()
        self.listening.close()
        for fork in self.forks.values():
            fork.client.close()
            os.close(fork.ended)

    def forward(self, fork: Fork) -> None:
        """Pass on the signals that the client got, or end the job of a client that is gone."""
        try:
            numbers = [*fork.client.recv(64)]
        except OSError:
            numbers = []
        if not numbers:
            self.selector.unregister(fork.client)
        for number in numbers or [signal.SIGKILL]:
            kill(fork, number)

    def finish(self, fork: Fork) -> None:
        """Tell the client how its job ended."""
        _, status = os.waitpid(fork.process, 0)
        with contextlib.suppress(OSError):
            fork.client.sendall(str(os.waitstatus_to_exitcode(status)).encode())
        with contextlib.suppress(KeyError):
            self.selector.unregister(fork.client)
        self.selector.unregister(fork.ended)
        fork.client.close()
        os.close(fork.ended)
        del self.forks[fork.process]

    def stop(self) -> None:
        """End all jobs and the server, because the process that started it has ended."""
        for fork in self.forks.values():
            kill(fork, signal.SIGKILL)
        # Left to the process that started this one, it would stay if that is killed.
        shutil.rmtree(Path(self.listening.getsockname()).parent, ignore_errors=True)
        raise SystemExit


def end_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends, in whatever way."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def kill(fork: Fork, number: int) -> None:
    """Send a signal to a fork, which is of the same process group as its client."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(fork.process, number)


def become(request: Request) -> None:
    """Take on a request's files, folder, environment and signals."""
    for target, descriptor in enumerate(request.files):
        os.dup2(descriptor, target)
        os.close(descriptor)
    os.chdir(request.folder)
    os.environ.clear()
    os.environ.update(request.environment)
    sys.argv[:] = request.command[1:]
    # What modules remember of the server: the folder for temporary files, and random numbers.
    tempfile.tempdir = None
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    if "torch" in sys.modules:
        sys.modules["torch"].seed()
    for number in SIGNALS:
        own = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, signal.SIG_IGN if number in request.ignored else own)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def import_and_serve() -> None:
    """Import the modules, then serve."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    # Python 3.12 warns of forks of a process with threads; those of the imported modules are idle.
    warnings.filterwarnings("ignore", ".*fork.*", DeprecationWarning)
    with socket.socket(fileno=int(sys.argv[1])) as listening:
        gc.disable()
        for name in sys.argv[2:]:
            importlib.import_module(name)
        gc.enable()
        # Collections in a fork would write to every object, and so copy all of the memory.
        gc.freeze()
        # What is still in these buffers would be written by every fork.
        sys.stdout.flush()
        sys.stderr.flush()
        request = Server(listening).serve()
    become(request)
    runpy.run_path(sys.argv[0], run_name="__main__")
    # As multiprocessing ends its forks, since to take all modules apart takes longer than many
    # jobs. A script that raises, if only SystemExit, ends in the usual way.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    import_and_serve()
