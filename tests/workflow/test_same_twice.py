"""Same inputs, same outputs, though the second run is killed twice on its way, and two behaviours
are scored without preloading.

A killed job must leave nothing that a later one could take for whole.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from safetensors import safe_open

from lesion.io.formats import read_json, read_parquet, sha256_file
from lesion.preload.start import SERVER
from lesion.scores.shards import index_name
from lesion_testing.workflow import Finished, Place

pytestmark = pytest.mark.slow

WAIT_SECONDS = 240.0
UNFORKED = ("sums", "denials")
"""The behaviours that are scored without preloading."""


@pytest.fixture(scope="module")
def resumed(unrun: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    """A second run of the study in another folder, killed while it writes pairs and scores.

    A job takes seconds more without preloading; in tests/cluster no job is preloaded.
    """
    place = unrun.copy(tmp_path_factory.mktemp("resumed"))
    for written in ("pairs/llama/*.parquet", "scores/llama/*/snip-00001-*.safetensors"):
        _kill_when_there_is(place, written)
        _check_whole(place.made)
        assert not list(place.made.glob("tables/*")), "the kill came too late to tell anything"
        assert place.snakemake("--unlock").code == 0
    place.configure(lambda study: study.update(preload=False))
    scored = [f"results/tiny/scores/llama/{name}/{index_name('snip')}" for name in UNFORKED]
    cold = place.jobs(*scored)
    place.configure(lambda study: study.update(preload=True))
    rest = place.run()
    assert {f"signed_scores {name}" for name in UNFORKED} <= cold.keys()
    assert not cold.keys() & rest.keys()
    return Finished(place, {*cold, *rest})


def _kill_when_there_is(place: Place, pattern: str) -> None:
    with (place.folder / "killed.log").open("w") as log:
        process = subprocess.Popen(
            place.command(), cwd=place.folder, stdout=log, stderr=log, start_new_session=True
        )
    try:
        start = time.monotonic()
        forks = 0
        while not list(place.made.glob(pattern)):
            assert process.poll() is None, (place.folder / "killed.log").read_text()
            assert time.monotonic() - start < WAIT_SECONDS
            forks += _forks(psutil.Process(process.pid))
            time.sleep(0.01)
        assert forks, "no job was forked from the process with the imports"
    finally:
        # Snakemake and all its jobs, which had no time to put anything in order.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    while _group_lives(process.pid):
        time.sleep(0.05)


def _forks(snakemake: psutil.Process) -> int:
    """How many jobs are forks at this moment."""
    with suppress(psutil.Error):
        servers = [child for child in snakemake.children() if SERVER in child.cmdline()]
        return sum(len(server.children()) for server in servers)
    return 0


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def _check_whole(made: Path) -> None:
    """Every file that bears an output's name can be read to its end."""
    files = [path for path in made.rglob("*") if path.is_file() and not _unfinished(path, made)]
    kinds = {path.suffix for path in files}
    assert {".parquet", ".json", ".safetensors"} <= kinds
    for path in files:
        if path.suffix == ".parquet":
            read_parquet(path)
        elif path.suffix == ".json":
            read_json(path)
        elif path.suffix == ".safetensors":
            with safe_open(path, "np") as file:  # which refuses a file of the wrong length
                for name in file.keys():  # noqa: SIM118 - no mapping
                    file.get_tensor(name)


def _unfinished(path: Path, made: Path) -> bool:
    """Whether it lies under a name that no job reads, such as `.alpha.parquet.part-17`."""
    return any(part.startswith(".") for part in path.relative_to(made).parts)


def _digests(place: Place, stage: str) -> dict[str, str]:
    folder = place.made / stage
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): sha256_file(path) for path in found}


def test_the_same_command_ends_a_killed_run(finished: Finished, resumed: Finished) -> None:
    assert resumed.jobs < finished.jobs, "nothing of the killed runs was kept"
    assert not resumed.place.plan()


@pytest.mark.parametrize(("stage", "least"), [("masks", 11), ("tables", 8)])
def test_two_runs_give_the_same_bytes(
    finished: Finished, resumed: Finished, stage: str, least: int
) -> None:
    first, second = _digests(finished.place, stage), _digests(resumed.place, stage)
    assert len(first) >= least
    assert first == second
