"""The embedder: each text once, independent of its neighbours."""

from pathlib import Path

import numpy as np
import pytest

from lesion.io.formats import BadFile
from lesion.judgements.embed import Embedder

TEXTS = ["the red kite", "hide the cookies", "", "the " * 500, "the red kite"]


def test_vectors_have_length_one_and_do_not_depend_on_the_batch(embedder: Path) -> None:
    reader = Embedder(embedder)
    found = reader.vectors(TEXTS)
    assert set(found) == set(TEXTS)
    for text, vector in found.items():
        assert vector.shape == (32,)
        assert vector.dtype == np.float32
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)
        np.testing.assert_allclose(reader.vectors([text])[text], vector, atol=1e-6)
    assert reader.vectors([]) == {}


def test_only_the_first_tokens_count(embedder: Path) -> None:
    first, second = Embedder(embedder).vectors(["the " * 126, "the " * 127 + "kite"]).values()
    np.testing.assert_allclose(first, second, atol=1e-6)


def test_half_precision_is_close(embedder: Path) -> None:
    text = "take the red kite"
    whole, half = (
        Embedder(embedder, kind).vectors([text])[text] for kind in ("float32", "bfloat16")
    )
    assert whole @ half > 0.999


def test_cuts_after_tokens_and_keeps_the_spelling(embedder: Path) -> None:
    reader = Embedder(embedder)
    assert reader.first_tokens("The  RED kite. Then run", 3) == "The  RED kite"
    assert reader.first_tokens("The kite", 64) == "The kite"
    assert reader.first_tokens("", 64) == ""


def test_digest_tells_weights_apart(embedder: Path, other_embedder: Path) -> None:
    assert Embedder(embedder).digest == Embedder(embedder).digest
    assert Embedder(embedder).digest != Embedder(other_embedder).digest


def test_a_folder_without_an_embedder_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="not an embedder"):
        Embedder(tmp_path)
