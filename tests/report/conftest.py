"""The invented study, written once for all tests that only read it."""

from pathlib import Path

import pytest

from lesion_testing.invented import write_study


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole study: one model, five harm types, three benign behaviours."""
    return write_study(tmp_path_factory.mktemp("study") / "tables")
