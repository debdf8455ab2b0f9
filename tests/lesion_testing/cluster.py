"""Runs of the tiny study on a SLURM, which tests interrupt, watch and compare."""

import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from lesion.io.formats import sha256_file
from lesion_testing.slurm import Slurm
from lesion_testing.workflow import BIN, Done, Place

PROFILE = "tree/workflow/profiles/slurm"
PATIENCE = 900.0
"""Seconds for a run, which other tests may slow down."""
HASTE = (
    *("--seconds-between-status-checks", "1", "--max-status-checks-per-second", "2"),
    *("--slurm-init-seconds-before-status-checks", "1", "--latency-wait", "10"),
)


def results(place: Place, *stages: str) -> dict[str, str]:
    """The digest of every mask, table, checkpoint and figure, or of the given stages' files.

    Not of the page itself: it says how long this run's stages took.
    """
    return {
        str(path.relative_to(place.made)): sha256_file(path)
        for stage in stages or ("masks", "tables", "checkpoints", "report")
        for path in sorted((place.made / stage).rglob("*"))
        if path.is_file() and path.name != "index.html"
    }


class Run:
    """A `snakemake` under way."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def text(self) -> str:
        """All that it has printed."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def interrupt(self) -> None:
        """Ctrl-C."""
        os.kill(self.process.pid, signal.SIGINT)

    def end(self) -> Done:
        """Wait for it to end; one that hangs is an error."""
        try:
            return Done(self.process.wait(PATIENCE), self.text)
        except subprocess.TimeoutExpired:
            pytest.fail(f"still running after {PATIENCE} s\n{self.text}")


@contextmanager
def running(place: Place, slurm: Slurm, *arguments: str, profile: str = PROFILE) -> Iterator[Run]:
    """Run the study on the cluster with this project's profile and the site's."""
    files = ["--snakefile", "tree/Snakefile", "--configfile", "study.yaml"]
    profiles = ["--workflow-profile", profile, "--profile", "site"]
    log = place.folder / "run.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [str(BIN / "snakemake"), *profiles, *arguments, *files],
            cwd=place.folder,
            env={**os.environ, **slurm.environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield Run(process, log)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


class Watch(threading.Thread):
    """Looks at the queue all the time, and keeps the most jobs that ran at once."""

    def __init__(self, slurm: Slurm) -> None:
        super().__init__(daemon=True)
        self.most = 0
        self._slurm, self._over = slurm, threading.Event()

    def run(self) -> None:
        while not self._over.wait(0.5):
            self.most = max(self.most, len(self._slurm.jobs("RUNNING")))

    def stop(self) -> int:
        """The most jobs there were."""
        self._over.set()
        self.join()
        return self.most


def run(place: Place, slurm: Slurm, *arguments: str) -> Done:
    """Run the study to its end."""
    with running(place, slurm, *HASTE, *arguments) as one:
        return one.end()


def script(place: Place, name: str, lines: Sequence[str]) -> None:
    """Let a rule's script do something else before its work."""
    place.edit(
        f"tree/workflow/scripts/{name}.py",
        lambda text: text.replace(
            "with logged(snakemake.log[0]), staged(snakemake):\n",
            "with logged(snakemake.log[0]), staged(snakemake):\n"
            + "".join(f"    {line}\n" for line in lines),
        ),
    )
