"""A run in a folder of an odd name, a second one beside it, and a worker that is killed."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from lesion.io.formats import sha256_file
from lesion_testing.workflow import Place

pytestmark = pytest.mark.slow

SCORES = "results/tiny/scores/llama/beta/snip.safetensors.index.json"
WAIT_SECONDS = 300.0


@pytest.fixture(scope="module")
def place(unrun: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A study of one harm type and one capability, in a folder with spaces, quotes and letters."""
    folder = tmp_path_factory.mktemp("runs") / "Größe & 'mæß' 测试 $HOME"
    place = unrun.copy(folder)
    place.configure(_smaller)
    yield place
    shutil.rmtree(folder)


def _smaller(config: dict[str, Any]) -> None:
    config["behaviours"] = {name: config["behaviours"][name] for name in ("beta", "sums")}
    config["masks"]["shared"]["at_least"] = 1
    config["responses"]["variants"] = ["shared"]


def _wait(found: Callable[[], Any], process: subprocess.Popen[bytes]) -> Any:
    start = time.monotonic()
    while not (one := found()):
        assert process.poll() is None, "the run ended before it could be disturbed"
        assert time.monotonic() - start < WAIT_SECONDS
        time.sleep(0.01)
    return one


def _worker(process: subprocess.Popen[bytes]) -> psutil.Process | None:
    """The job that scores, once it runs our script."""
    for one in psutil.Process(process.pid).children(recursive=True):
        try:
            call = one.cmdline()
        except psutil.Error:
            continue
        if call and "python" in call[0] and call[-1].endswith("scores.py"):
            return one
    return None


def _digests(place: Place, folder: str) -> dict[str, str]:
    found = sorted(path for path in (place.made / folder).rglob("*") if path.is_file())
    return {str(path.relative_to(place.made)): sha256_file(path) for path in found}


def test_a_killed_worker_and_a_second_run(place: Place, tmp_path: Path) -> None:
    log = place.folder / "run.log"
    with log.open("w") as lines:
        process = subprocess.Popen(
            place.command(SCORES), cwd=place.folder, stdout=lines, stderr=lines
        )
    try:
        worker = _wait(lambda: _worker(process), process)
        worker.suspend()  # so that the first run goes on for as long as the second one looks
        second = place.snakemake(SCORES)
        worker.send_signal(signal.SIGKILL)
        assert process.wait(WAIT_SECONDS) != 0
    finally:
        process.kill()
        process.wait()
    assert second.code != 0
    assert "LockException" in second.text
    assert "Directory cannot be locked" in second.text
    said = log.read_text(encoding="utf-8")
    assert "SIGKILL" in said, said
    assert "logs/scores/llama/beta.log" in said
    kept = _digests(place, "pairs")
    assert kept
    assert not [path for path in place.made.glob("scores/llama/beta/*") if path.is_file()]
    undisturbed = place.copy(tmp_path / "undisturbed")
    for one in (place, undisturbed):
        done = one.snakemake(SCORES)
        assert done.code == 0, done.text
    assert _digests(place, "pairs") == kept
    assert _digests(place, "scores") == _digests(undisturbed, "scores")
    assert not list(place.made.rglob("*.part-*"))


def test_a_clock_set_back_and_touched_files_make_no_work(place: Place) -> None:
    assert place.snakemake(SCORES).code == 0
    for days in (-400, 400):
        then = time.time() + days * 86_400
        # All alike, as a copy without dates, or a clock that jumped between two runs, leaves them.
        for path in place.folder.rglob("*"):
            if ".snakemake" not in path.parts and not path.is_symlink():
                os.utime(path, (then, then))
        assert "Nothing to be done" in place.snakemake("-n", SCORES).text


def test_results_that_cannot_be_written_are_named(place: Place, tmp_path: Path) -> None:
    results = place.folder / "results"
    kept = results.rename(place.folder / "kept")
    results.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(results)],
        capture_output=True,
        check=False,
    )
    try:
        if mounted.returncode != 0:
            pytest.skip("a read-only folder needs root and mount")
        done = place.snakemake(SCORES)
        assert done.code != 0
        assert "Read-only file system" in done.text
        assert "results/tiny" in done.text
    finally:
        subprocess.run(["umount", str(results)], check=False)
        results.rmdir()
        kept.rename(results)
