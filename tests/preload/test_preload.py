"""Jobs that are forked from a process with its imports done end as if they had been started."""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from lesion_testing import ROOT

THREADS = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR")}
ENVIRONMENT = {**os.environ, **THREADS, "PYTHONPATH": str(ROOT / "src"), "OWN": "kept"}
STARTER = """
import signal, sys
from lesion.preload import preload
prefix = preload(["colorsys"], 1)
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

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", STARTER],
            env=ENVIRONMENT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            process_group=0,
        )
        assert self.process.stdout is not None
        self.prefix = self.process.stdout.readline().rstrip("\n")
        self.folder = Path(shlex.split(self.prefix)[-1]).parent
        (self.server,) = psutil.Process(self.process.pid).children()

    def command(self, script: Path, what: str) -> list[str]:
        return [
            "bash",
            "-c",
            f"exec {self.prefix}{shlex.join([sys.executable, str(script), what])}",
        ]

    def run(
        self, script: Path, what: str, environment: dict[str, str] = ENVIRONMENT
    ) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            self.command(script, what),
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
        self.process.kill()
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


@pytest.mark.parametrize("way", ["preloaded", "new"])
def test_a_fork_ends_as_a_process_of_its_own_does(starter: Starter, script: Path, way: str) -> None:
    # A job with another number of threads is not given to a fork.
    environment = ENVIRONMENT | ({} if way == "preloaded" else {"OMP_NUM_THREADS": "3"})
    first = f"{way} __main__ {script.parent} kept\n"
    for what, code in (("nothing", 0), ("raise", 1), ("exit", 7)):
        ended = starter.run(script, what, environment)
        assert (ended.returncode, ended.stdout) == (code, f"{first}at exit\n")
        assert ended.stderr.endswith("ValueError: as it should\n" if what == "raise" else "")
        assert bool(ended.stderr) == (what == "raise")
    ended = starter.run(script, "abort", environment)
    assert (ended.returncode, ended.stdout) == (-signal.SIGUSR1, first)


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
    os.killpg(starter.process.pid, signal.SIGINT)
    assert client.stdout is not None
    assert client.stdout.read() == "interrupted\nat exit\n"
    assert client.wait(20) == 0
    starter.stop()


def test_nothing_outlives_the_process_that_started_the_server(script: Path) -> None:
    starter = Starter()
    client, job = starter.sleeping(script)
    starter.stop()
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
