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

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that end a job, unless they are ignored, as below `nohup`. They are passed on to the job,
but for an interrupt, which a terminal sends to the job as well."""
COUNTS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
"""Variables that libraries read once, when they are imported; the server refuses a job with
others than its own."""
ACCEPTED = b"+"
"""The server's first answer, if it runs the job; its second is the exit status."""


def run(address: str, command: list[str]) -> int | None:
    """The exit status of a script that the server ran, or less a signal that ended it.

    None if the server did not run it. A signal ends this process as long as no job runs, and the
    server then ends a job that it was about to run.
    """
    ignored = [number for number in SIGNALS if signal.getsignal(number) == signal.SIG_IGN]
    answer = b""
    received, sender = socket.socketpair()
    sender.setblocking(False)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        try:
            server.connect(address)
            request = {
                "command": command,
                "folder": os.getcwd(),  # noqa: PTH109  pathlib takes longer than all of this
                "environment": dict(os.environ),
                "ignored": ignored,
            }
            text = json.dumps(request).encode()
            socket.send_fds(server, [len(text).to_bytes(8, "big")], [0, 1, 2])
            server.sendall(text)
            answer = server.recv(1)
            if answer != ACCEPTED:
                return None
            signal.set_wakeup_fd(sender.fileno())
            for number in {*SIGNALS} - {*ignored}:
                passed_on = number != signal.SIGINT
                signal.signal(number, (lambda *_: None) if passed_on else signal.SIG_IGN)
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
    try:
        return int(answer.removeprefix(ACCEPTED))
    except ValueError:
        print("lesion: the process that ran this job was ended from outside.", file=sys.stderr)
        return 1


def end_by(number: int) -> None:
    """End by a signal, so that the caller hears of it as if the job had been its own child."""
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def hand_over() -> None:
    """Run the command of the arguments, and exit as it does."""
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    address, *command = sys.argv[1:]
    python_script = command[0] == sys.executable and not command[1:2][0].startswith("-")
    status = run(address, command) if python_script else None
    if status is None:
        # What Python ignores by itself.
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        os.execvp(command[0], command)  # noqa: S606
    if status < 0:
        end_by(-status)
    sys.exit(status)


if __name__ == "__main__":
    hand_over()
