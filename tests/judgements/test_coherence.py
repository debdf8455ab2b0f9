"""Repetition and coherence, on texts whose answer is plain."""

import numpy as np
import pytest

from lesion.judgements.coherence import coherence, repetition

PARAGRAPH = (
    "The harbour lay quiet under a thin fog. Two fishermen mended their nets beside the old crane, "
    "and a boy in a yellow coat counted gulls on the roof of the market. At noon the bell rang, "
    "the ferry turned in from the bay, and everyone put down what they were doing to watch it land."
)


def test_an_ordinary_paragraph_hardly_repeats() -> None:
    assert repetition(PARAGRAPH) < 0.03


@pytest.mark.parametrize(
    "text",
    [
        "the same words " * 20,
        "no " * 30,
        "a" * 60,
        "hahahahahahahahaha",
        "-=" * 30,
        "!\n" * 40,
        "哈哈哈哈哈哈哈哈",
    ],
)
def test_a_stuck_model_repeats(text: str) -> None:
    assert repetition(text) > 0.8


def test_half_stuck_lies_between() -> None:
    assert 0.2 < repetition(PARAGRAPH + " and then" * 20) < 0.8


@pytest.mark.parametrize("text", ["", "   \n", "Yes.", "banana", "It costs 1000 crowns."])
def test_short_answers_do_not_repeat(text: str) -> None:
    assert repetition(text) == 0


def test_case_and_white_space_do_not_count() -> None:
    assert repetition("The cat sat.\n\nTHE  CAT sat. the cat SAT.") == repetition(
        "the cat sat. the cat sat. the cat sat."
    )
    assert repetition("def f():\n" + " " * 40 + "return 1") == 0


def test_coherence_is_relevance_less_what_repeats() -> None:
    relevance, repeated = np.array([1.0, 1.0, 0.5, 0.0]), np.array([0.0, 1.0, 0.5, 0.0])
    assert coherence(relevance, repeated).tolist() == [1.0, 0.0, 0.25, 0.0]
