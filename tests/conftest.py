"""What all tests share: messages on stderr, the tiny study before its first run, and the order in
which several workers take them.
"""

import gc
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from lesion.io.logs import Terminal, messages_to

# A failed assertion of these modules shows its values too, as those of the tests do.
pytest.register_assert_rewrite("lesion_testing")

from lesion_testing.workflow import Place, copy_code, lay_out, write_inputs  # noqa: E402

# A tiny tensor gains nothing from a second thread, and two workers' threads wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Hundreds of commands would each compile all of lesion again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
LONGEST = ("workflow", "faults", "training", "judgements", "browser", "masks", "models")
"""Folders whose files are begun first, so that all workers end at about the same time."""


_HERE = Path(__file__).parent


@cache
def shares_the_finished_study(path: Path) -> bool:
    """Whether tests of a file look at the finished study, by its fixture's name in the file."""
    return path.parent.name == "workflow" and bool(re.search(r"\bfinished\b", path.read_text()))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Of several workers, one runs a file, so that what the file's tests share is made once; and
    one runs all files that look at the finished study.

    xdist's own `loadgroup` tells workers apart by a suffix of a test's name that pytest 9.2 no
    longer shows.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::", 1)[0]
            return "finished" if shares_the_finished_study(config.rootpath / file) else file

    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Workers begin with the longest files, so that all end at about the same time."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return

    def rank(item: pytest.Item) -> tuple[bool, int]:
        folder = item.path.relative_to(_HERE).parts[0]
        return not shares_the_finished_study(item.path), (*LONGEST, folder).index(folder)

    items.sort(key=rank)


def pytest_collection_finish() -> None:
    """What is imported by now stays: a full garbage collection need not look at it.

    It takes 0.7 s to do so, and accelerate collects before each training.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _messages_on_stderr() -> Iterator[None]:
    """Messages arrive on stderr as the command line shows them, where `capsys` reads them."""
    with messages_to(Terminal()):
        yield


@pytest.fixture(scope="session")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the code, so that neither tests nor edits of the checkout disturb the other."""
    return copy_code(tmp_path_factory.mktemp("code"))


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny study's inputs: a model, an embedder, human scores, prompts."""
    return write_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="session")
def unrun(code: Path, inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The study before its first run; not to be changed, but copied."""
    return lay_out(tmp_path_factory.mktemp("unrun"), code, inputs)
