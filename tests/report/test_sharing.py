"""What is said of the masks' overlap, of alignment and of text that hides."""

import math

import pytest

from lesion.report.figures.masks import _probability
from lesion.report.figures.sharing import SharedWeights, sharing
from lesion.report.page import alignment_note
from lesion.report.visible import visible
from lesion.tables.claims.claim import Conclusion
from lesion.tables.intervals import Estimate


def _pairs(weights: int, *times: float, half: float = 1.0) -> list[SharedWeights]:
    return [SharedWeights(weights, Estimate(one, one - half, one + half)) for one in times]


@pytest.mark.parametrize(
    ("harm", "benign", "answer"),
    [
        (_pairs(2000, 9, 10, 11), _pairs(100, 3, 4, 5), Conclusion.YES),
        # Larger, but only one pair surely.
        (_pairs(2000, 4.5, 4.6, 9), _pairs(100, 3, 4, 5), Conclusion.PARTLY),
        (_pairs(2000, 4.5, 4.6, 4.7), _pairs(100, 3, 4, 5), Conclusion.UNCLEAR),
        (_pairs(2000, 8, 8, 8), _pairs(100, 10, 10), Conclusion.NO),
        # Smaller, but no pair surely.
        (_pairs(2000, 9.5, 9.5, 9.5), _pairs(100, 10, 10), Conclusion.UNCLEAR),
        (_pairs(2000, 9), _pairs(100, 9), Conclusion.UNCLEAR),
        # As many surely above as below.
        (_pairs(2000, 6, 14), _pairs(100, 10), Conclusion.UNCLEAR),
        (_pairs(2000, math.nan, 9), _pairs(100, 3), Conclusion.YES),
        (_pairs(0, math.nan), _pairs(100, 3), Conclusion.UNCLEAR),
        (_pairs(2000, 9), [], Conclusion.UNCLEAR),
        ([], [], Conclusion.UNCLEAR),
    ],
)
def test_sharing(
    harm: list[SharedWeights], benign: list[SharedWeights], answer: Conclusion
) -> None:
    assert sharing(harm, benign).answer is answer


def test_sharing_says_plainly_that_harm_is_not_larger() -> None:
    sentence = sharing(_pairs(1987, 8.0), _pairs(106, 9.9)).sentence
    assert "1,987 weights, 8.0× chance under the strict null (medians of 1)" in sentence
    assert "106 weights, 9.9× chance" in sentence
    assert "0 have an interval that lies entirely above the other median, and 1 have" in sentence
    assert "larger count is explained by the same favoured rows and columns" in sentence
    assert "larger count" not in sharing(_pairs(90, 8.0), _pairs(106, 9.9)).sentence


def test_sharing_counts_the_sure_pairs() -> None:
    sentence = sharing(_pairs(2000, 4.5, 4.6, 9), _pairs(100, 4)).sentence
    assert (
        "Of 3 pairs of harm types, 1 have an interval that lies entirely above the other"
        in sentence
    )
    assert "larger count" not in sentence


def test_probability_has_no_digits_in_the_far_tail() -> None:
    found = [_probability(p) for p in (0.0, 1e-40, 0.0123, 1.0, None)]
    assert found == ["< 0.001", "< 0.001", "0.012", "1", "–"]


def test_alignment_note() -> None:
    assert "3.0%" in (alignment_note(Estimate(0.03, 0.01, 0.06, 60)) or "")
    assert alignment_note(Estimate(0.9, 0.8, 0.95, 60)) is None
    assert alignment_note(None) is None


def test_visible_shows_what_hides() -> None:
    text = visible("a\u202eb\x1b[31m\x00\u2066\u200b\u2028c\nd é 漢 🙂")
    assert text == "a⟨U+202E⟩b⟨U+001B⟩[31m⟨U+0000⟩⟨U+2066⟩⟨U+200B⟩⟨U+2028⟩c\nd é 漢 🙂"


def test_visible_shortens() -> None:
    assert visible("word " * 100, 240) == ("word " * 48).rstrip() + "…"
    assert visible("short", 240) == "short"
