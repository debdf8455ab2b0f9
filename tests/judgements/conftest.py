"""Invented, mild human scores and a tiny random embedder, made anew for each run."""

from pathlib import Path

import pytest

from lesion_testing import make


@pytest.fixture(scope="session")
def human_scores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `pyrit/datasets/scorer_evals`: 16 prompts, 4 answers each."""
    return make.human_scores(tmp_path_factory.mktemp("scorer_evals"))


@pytest.fixture(scope="session")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT of one layer, with a vocabulary of whole words."""
    return make.embedder(tmp_path_factory.mktemp("embedder"), seed=0)


@pytest.fixture(scope="session")
def other_embedder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with other weights."""
    return make.embedder(tmp_path_factory.mktemp("other"), seed=1)
