"""What all tests share: messages on stderr, the tiny study before its first run, and the order in
which several workers take them.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lesion.io.logs import Terminal, messages_to
from lesion_testing.workflow import Place, copy_code, lay_out, write_inputs

# A tiny tensor gains nothing from a second thread, and two workers' threads wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
LONGEST = ("workflow", "faults", "models")
"""Folders whose files are begun first, so that all workers end at about the same time."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of several workers (`-n 2 --dist loadgroup`), one runs a file, so that what the file's tests
    share is made once; and one runs all files that look at the finished study.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return
    shared = {item.path for item in items if "finished" in getattr(item, "fixturenames", ())}

    def rank(item: pytest.Item) -> tuple[bool, int]:
        folder = item.path.relative_to(Path(__file__).parent).parts[0]
        return item.path not in shared, (*LONGEST, folder).index(folder)

    for item in items:
        name = "finished" if item.path in shared else str(item.path)
        item.add_marker(pytest.mark.xdist_group(name))
    items.sort(key=rank)


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
