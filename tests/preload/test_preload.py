"""Jobs that are forked from a process with its imports done end as if they had been started."""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from snakemake.shell import shell

from lesion_testing import ROOT

THREADS = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR")}
ENVIRONMENT = {**os.environ, **THREADS, "PYTHONPATH": str(ROOT / "src"), "OWN": "kept"}
STARTER = """
import signal, sys
from lesion.preload import preload
prefix = preload([*sys.argv[1:], "colorsys"], 1)
signal.signal(signal.SIGINT, signal.SIG_IGN)  # Snakemake waits for its jobs
print(prefix, flush=True)
sys.stdin.read()
"""
SCRIPT = """
import atexit, os, signal, sys, time
sys.stdout.reconfigure(line_buffering=True)
print("preloaded" if "colorsys" in sys.modules else "new", __name__, os.getcwd(), os.environ["OWN"])
atexit.register(print, "at exit")
what = sys.argv[1]
if what == "raise":
    raise ValueError("as it should")
if what == "exit":
    raise SystemExit(7)
if what == "abort":
    os.kill(os.getpid(), signal.SIGUSR1)
if what == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
if what == "hang up":
    os.kill(os.getpid(), signal.SIGHUP)
if what == "thread":
    import threading
    threading.Thread(target=lambda: time.sleep(0.3) or print("thread")).start()
if what == "remembers":
    import tempfile
    print(tempfile.gettempdir())
    import numpy
    print(numpy.random.random())
if what == "sleep":
    try:
        print(os.getpid())
        time.sleep(60)
    except KeyboardInterrupt:
        print("interrupted")
"""

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs a Linux kernel")


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("a job") / "script.py"
    path.write_text(SCRIPT)
    return path


class Starter:
    """A process that has started the server, as the workflow's does."""

    def __init__(self, *modules: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", STARTER, *modules],
            env=ENVIRONMENT | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            process_group=0,
        )
        assert self.process.stdout is not None
        self.prefix = self.process.stdout.readline().rstrip("\n")
        self.folder = Path(shlex.split(self.prefix)[-1]).parent if self.prefix else Path()
        self.server, *_ = [*psutil.Process(self.process.pid).children(), None]

    def command(self, script: Path, what: str, before: str = "") -> list[str]:
        setting, client = self.prefix.split("; ")
        own = shlex.join([sys.executable, str(script), what])
        return ["bash", "-c", f"{before}{setting}; exec {client}{own}"]

    def run(
        self,
        script: Path,
        what: str,
        environment: dict[str, str] = ENVIRONMENT,
        before: str = "",
    ) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            self.command(script, what, before),
            cwd=script.parent,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def sleeping(self, script: Path) -> "tuple[subprocess.Popen[str], psutil.Process]":
        """A client, and the job that it waits for."""
        client = subprocess.Popen(
            self.command(script, "sleep"),
            cwd=script.parent,
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            text=True,
            process_group=self.process.pid,
        )
        assert client.stdout is not None
        assert client.stdout.readline().startswith("preloaded")
        return client, psutil.Process(int(client.stdout.readline()))

    def stop(self) -> None:
        """End it as a workflow ends."""
        self.process.communicate()


@pytest.fixture(scope="module")
def starter() -> Iterator[Starter]:
    started = Starter()
    yield started
    started.stop()


def _gone(process: psutil.Process) -> bool:
    """Whether a process ends within seconds."""
    for _ in range(200):
        if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


def _ignores_interrupts(process: int) -> bool:
    (line,) = re.findall(r"^SigIgn:\s*(\w+)$", Path(f"/proc/{process}/status").read_text(), re.M)
    return bool(int(line, 16) & 1 << signal.SIGINT - 1)


@pytest.mark.parametrize("way", ["preloaded", "new"])
def test_a_fork_ends_as_a_process_of_its_own_does(starter: Starter, script: Path, way: str) -> None:
    # A job with another number of threads is not given to a fork.
    environment = ENVIRONMENT | ({} if way == "preloaded" else {"OMP_NUM_THREADS": "3"})
    first = f"{way} __main__ {script.parent} kept\n"
    for what, code in (("nothing", 0), ("raise", 1), ("exit", 7)):
        ended = starter.run(script, what, environment)
        assert (ended.returncode, ended.stdout) == (code, f"{first}at exit\n"), ended.stderr
        assert ended.stderr.endswith("ValueError: as it should\n" if what == "raise" else "")
        assert bool(ended.stderr) == (what == "raise")
    for what, number in (("abort", signal.SIGUSR1), ("kill", signal.SIGKILL)):
        ended = starter.run(script, what, environment)
        assert (ended.returncode, ended.stdout, ended.stderr) == (-number, first, "")


def test_a_job_ends_when_its_threads_have_ended(starter: Starter, script: Path) -> None:
    assert starter.run(script, "thread").stdout.splitlines()[1:] == ["thread", "at exit"]


@pytest.mark.parametrize("way", ["preloaded", "new"])
def test_below_nohup_a_job_survives_a_hang_up(starter: Starter, script: Path, way: str) -> None:
    environment = ENVIRONMENT | ({} if way == "preloaded" else {"OMP_NUM_THREADS": "3"})
    assert starter.run(script, "hang up", environment).returncode == -signal.SIGHUP
    ended = starter.run(script, "hang up", environment, before="trap '' HUP; ")
    assert (ended.returncode, ended.stdout.splitlines()[-1]) == (0, "at exit")


def test_a_job_has_its_own_temporary_folder_and_random_numbers(
    script: Path, tmp_path: Path
) -> None:
    (tmp_path / "remembering.py").write_text("import tempfile\ntempfile.gettempdir()\n")
    path = f"{ENVIRONMENT['PYTHONPATH']}{os.pathsep}{tmp_path}"
    starter = Starter("remembering", "numpy", PYTHONPATH=path)
    own = ENVIRONMENT | {"TMPDIR": str(tmp_path)}
    both = [starter.run(script, "remembers", own).stdout.splitlines()[1:3] for _ in range(2)]
    starter.stop()
    assert [folder for folder, _ in both] == [str(tmp_path)] * 2
    assert both[0] != both[1]


def test_other_commands_are_run_as_they_are(starter: Starter) -> None:
    command = f"{starter.prefix}printf '%s|' 'a b' c"
    assert subprocess.check_output(["bash", "-c", command], text=True) == "a b|c|"


def test_jobs_run_at_once(starter: Starter, script: Path) -> None:
    both = [starter.sleeping(script) for _ in range(2)]
    assert starter.run(script, "nothing").returncode == 0
    for client, job in both:
        assert job.is_running()
        client.terminate()
        assert client.wait(20) == -signal.SIGTERM
        assert _gone(job)


def test_a_job_does_not_outlive_its_client(starter: Starter, script: Path) -> None:
    client, job = starter.sleeping(script)
    client.kill()
    client.wait(20)
    assert _gone(job)


def test_an_interrupt_from_the_terminal_reaches_the_job_once(script: Path) -> None:
    starter = Starter()
    client, _ = starter.sleeping(script)
    while not _ignores_interrupts(client.pid):  # which it does once it knows that the job runs
        time.sleep(0.01)
    os.killpg(starter.process.pid, signal.SIGINT)
    assert client.stdout is not None
    assert client.stdout.read() == "interrupted\nat exit\n"
    assert client.wait(20) == 0
    starter.stop()


def test_nothing_outlives_the_process_that_started_the_server(script: Path) -> None:
    starter = Starter()
    client, job = starter.sleeping(script)
    starter.process.kill()
    assert client.wait(20) == 1
    assert _gone(job)
    assert _gone(starter.server)
    assert not starter.folder.exists()
    # A job that comes too late runs by itself.
    ended = starter.run(script, "exit")
    assert (ended.returncode, ended.stdout.split()[0]) == (7, "new")


def test_a_server_that_is_killed_takes_its_jobs_with_an_error(script: Path) -> None:
    starter = Starter()
    client, job = starter.sleeping(script)
    starter.server.kill()
    assert client.wait(20) == 1
    assert _gone(job)
    starter.stop()


def test_an_interrupt_during_the_imports_ends_the_jobs_that_wait(
    script: Path, tmp_path: Path
) -> None:
    (tmp_path / "slow_to_import.py").write_text("import time\ntime.sleep(3)\n")
    path = f"{ENVIRONMENT['PYTHONPATH']}{os.pathsep}{tmp_path}"
    starter = Starter("slow_to_import", PYTHONPATH=path)
    client = subprocess.Popen(
        starter.command(script, "nothing"),
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        process_group=starter.process.pid,
    )
    time.sleep(1)
    os.killpg(starter.process.pid, signal.SIGINT)
    assert client.wait(20) == -signal.SIGINT
    assert client.communicate()[0] == b""
    starter.stop()


def test_a_silent_client_holds_nobody_up_for_long(starter: Starter, script: Path) -> None:
    address = shlex.split(starter.prefix)[-1]
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as silent:
        silent.connect(address)
        assert starter.run(script, "nothing").stdout.startswith("preloaded")


def test_where_no_socket_can_be_jobs_run_by_themselves(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    starter = Starter(TMPDIR=str(long))
    assert starter.prefix == ""
    assert list(long.iterdir()) == []
    starter.stop()


def test_braces_in_a_path_survive_the_prefix_of_snakemake(tmp_path: Path) -> None:
    odd = tmp_path / "a {b} 'c'"
    odd.mkdir()
    starter = Starter(TMPDIR=str(odd))
    shell.prefix(starter.prefix + " ")
    try:
        assert list(shell("echo done", iterable=True)) == ["done"]
    finally:
        shell.prefix("set -euo pipefail; ")
        starter.stop()
