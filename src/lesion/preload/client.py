"""Hands a job to the server, and waits for its end: `client.py SOCKET PYTHON SCRIPT [ARGUMENT…]`.

Every other command, and every job that the server refuses, is executed in this process's place.
This file imports only what Python finds without its `site` (`python -I -S`), so it starts in 20 ms.
"""

import json
import os
import select
import signal
import socket
import sys

FORWARDED = (signal.SIGTERM, signal.SIGHUP)
"""Signals that are passed on. A terminal sends an interrupt to the job as well."""
ACCEPTED = b"+"
"""The server's first answer, if it runs the job; its second is the exit status."""


def run(address: str, command: list[str]) -> int | None:
    """The exit status of a script that the server ran, or less a signal that ended it.

    None if the server did not run it.
    """
    received, sender = socket.socketpair()
    sender.setblocking(False)
    signal.set_wakeup_fd(sender.fileno())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in FORWARDED:
        signal.signal(number, lambda *_: None)
    answer = b""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        try:
            server.connect(address)
            folder = os.getcwd()  # noqa: PTH109  importing pathlib takes as long as all of this
            request = {"command": command, "folder": folder, "environment": dict(os.environ)}
            text = json.dumps(request).encode()
            socket.send_fds(server, [len(text).to_bytes(8, "big")], [0, 1, 2])
            server.sendall(text)
            while True:
                ready, _, _ = select.select([server, received], [], [])
                if received in ready:
                    server.sendall(received.recv(64))
                if server in ready:
                    part = server.recv(64)
                    if not part:
                        break
                    answer += part
        except OSError:
            if not answer:
                return None
    if not answer.startswith(ACCEPTED):
        return None
    try:
        return int(answer.removeprefix(ACCEPTED))
    except ValueError:
        print("lesion: the process that ran this job was ended from outside.", file=sys.stderr)
        return 1


def main() -> None:
    """Run the command of the arguments, and exit as it does."""
    address, *command = sys.argv[1:]
    status = run(address, command) if command[0] == sys.executable else None
    if status is None:
        for number in (signal.SIGINT, *FORWARDED):
            signal.signal(number, signal.SIG_DFL)
        os.execvp(command[0], command)  # noqa: S606
    if status < 0:
        # So that the caller hears of the signal as if the job had been its own child.
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)


if __name__ == "__main__":
    main()
