"""Prompts that resemble each other."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.feature_extraction.text import CountVectorizer

from lesion.pairs.similarity import near_pairs, similarity_of_each
from lesion_testing import make

NEAR = 0.6
PLAIN = [row["prompt"] for row in make.prompts("alpha", 41)]
PROMPTS = [*PLAIN, *(f"{prompt} please" for prompt in PLAIN[:20])]


def test_similarity_is_the_cosine_of_sets_of_ngrams() -> None:
    prompts = ["Ab cab", "cab  AB", "ab", "Erkläre das Schloß", "erkläre das Schloss", "", "x"]
    vectors = CountVectorizer(analyzer="char_wb", ngram_range=(3, 5), binary=True)
    counts = vectors.fit_transform(prompts).toarray()
    lengths = np.sqrt(np.maximum(counts.sum(axis=1), 1))
    expected = counts @ counts.T / np.outer(lengths, lengths)
    assert _similarity(prompts) == pytest.approx(expected)
    assert similarity_of_each(prompts[1:], prompts[:-1]) == pytest.approx(
        np.diagonal(expected, offset=1)
    )
    # " ab ", " ab", "ab " are all of `ab`; of `cab`: " cab ", and its parts.
    assert expected[0, 2] == pytest.approx(3 / np.sqrt(3 * 8))
    assert [part.size for part in near_pairs([], 0.5)] == [0, 0, 0]


def _similarity(prompts: list[str]) -> NDArray[np.float64]:
    pairs = near_pairs(prompts, 1e-9)
    alike = np.zeros((len(prompts), len(prompts)))
    alike[pairs.rows, pairs.others] = pairs.similarities
    return alike


def test_prompts_are_compared_in_blocks_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = PROMPTS
    whole = near_pairs(prompts, NEAR)
    assert np.unique(whole.rows).size == len(prompts)
    even, odd = np.arange(0, len(prompts), 2), np.arange(1, len(prompts), 2)
    for block in (1, 7 * len(prompts)):
        monkeypatch.setattr("lesion.pairs.similarity._BLOCK", block)
        for part, expected in zip(near_pairs(prompts, NEAR), whole, strict=True):
            np.testing.assert_array_equal(part, expected)
        some = near_pairs(prompts, NEAR, even, odd)
        chosen = (whole.rows % 2 == 0) & (whole.others % 2 == 1)
        assert chosen.any()
        for part, expected in zip(some, whole, strict=True):
            np.testing.assert_array_equal(part, expected[chosen])
