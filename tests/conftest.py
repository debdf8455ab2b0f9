"""What all tests share."""

from collections.abc import Iterator

import pytest

from lesion.io.logs import Terminal, messages_to


@pytest.fixture(autouse=True)
def _messages_on_stderr() -> Iterator[None]:
    """Messages arrive on stderr as the command line shows them, where `capsys` reads them."""
    with messages_to(Terminal()):
        yield
