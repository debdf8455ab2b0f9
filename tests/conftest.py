"""What all tests share: messages on stderr, and the tiny study before its first run."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lesion.io.logs import Terminal, messages_to
from lesion_testing.workflow import Place, copy_code, lay_out, write_inputs


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
