"""The tiny study after one run, and copies of it."""

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lesion_testing.workflow import Finished, Place


@pytest.fixture(scope="session")
def finished(unrun: Place, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The study after one whole run; not to be changed, but copied."""
    place = unrun.copy(tmp_path_factory.mktemp("finished"))
    return Finished(place, set(place.run()))


@pytest.fixture
def fresh(unrun: Place, tmp_path: Path) -> Place:
    """A copy of the study before its first run."""
    return unrun.copy(tmp_path / "fresh")


@pytest.fixture
def done(finished: Finished, tmp_path: Path) -> Iterator[Place]:
    """A copy of the study after its run, with nothing stale but what a test changes."""
    place = finished.place.copy(tmp_path / "done")
    yield place
    shutil.rmtree(place.folder)


@pytest.fixture(scope="session")
def pool() -> Iterator[ThreadPoolExecutor]:
    """Runs what needs no other's result two at a time, ahead of the tests that look at it."""
    with ThreadPoolExecutor(2) as two:
        yield two
