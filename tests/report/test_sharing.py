"""What is said of the masks' overlap, of alignment and of text that hides."""

import polars as pl
import pytest

from lesion.report.figures.overlap import compared, probability
from lesion.report.page import alignment_note
from lesion.report.visible import visible
from lesion.tables.claims.claim import Conclusion
from lesion.tables.intervals import Estimate

OVERLAP = {
    **dict.fromkeys(("role_a", "role_b"), pl.String),
    "shared": pl.Int64,
    **dict.fromkeys(("enrichment_rows_columns", "enrichment_low"), pl.Float64),
    "enrichment_high": pl.Float64,
}


def _pairs(roles: tuple[str, str], weights: int, *times: float | None) -> pl.DataFrame:
    """Pairs of masks with intervals of one to either side; None where nothing was expected."""
    rows = [
        (*roles, weights, one, None if one is None else one - 1, None if one is None else one + 1)
        for one in times
    ]
    return pl.DataFrame(rows, schema=OVERLAP, orient="row")


def _harm(weights: int, *times: float | None) -> pl.DataFrame:
    return _pairs(("harm", "harm"), weights, *times)


def _benign(weights: int, *times: float | None) -> pl.DataFrame:
    return _pairs(("harm", "benign"), weights, *times)


@pytest.mark.parametrize(
    ("harm", "benign", "answer"),
    [
        (_harm(2000, 9, 10, 11), _benign(100, 3, 4, 5), Conclusion.YES),
        # Larger, but only one pair surely.
        (_harm(2000, 4.5, 4.6, 9), _benign(100, 3, 4, 5), Conclusion.PARTLY),
        (_harm(2000, 4.5, 4.6, 4.7), _benign(100, 3, 4, 5), Conclusion.UNCLEAR),
        (_harm(2000, 8, 8, 8), _benign(100, 10, 10), Conclusion.NO),
        # Smaller, but no pair surely.
        (_harm(2000, 9.5, 9.5, 9.5), _benign(100, 10, 10), Conclusion.UNCLEAR),
        (_harm(2000, 9), _benign(100, 9), Conclusion.UNCLEAR),
        # As many surely above as below.
        (_harm(2000, 6, 14), _benign(100, 10), Conclusion.UNCLEAR),
        (_harm(2000, None, 9), _benign(100, 3), Conclusion.YES),
        (_harm(0, None), _benign(100, 3), Conclusion.UNCLEAR),
        (_harm(2000, 9), _benign(100), Conclusion.UNCLEAR),
        (_harm(2000), _benign(100), Conclusion.UNCLEAR),
    ],
)
def test_sharing(harm: pl.DataFrame, benign: pl.DataFrame, answer: Conclusion) -> None:
    assert compared(pl.concat([harm, benign])).answer is answer


def _sentence(harm: pl.DataFrame, benign: pl.DataFrame) -> str:
    return compared(pl.concat([harm, benign])).sentence


def test_sharing_says_plainly_that_harm_is_not_larger() -> None:
    sentence = _sentence(_harm(1987, 8.0), _benign(106, 9.9))
    assert "1,987 weights, 8.0× chance under the strict null (medians of 1)" in sentence
    assert "106 weights, 9.9× chance" in sentence
    assert "0 have an interval that lies entirely above the other median, and 1 have" in sentence
    assert "larger count is explained by the same favoured rows and columns" in sentence
    assert "larger count" not in _sentence(_harm(90, 8.0), _benign(106, 9.9))


def test_sharing_counts_the_sure_pairs() -> None:
    sentence = _sentence(_harm(2000, 4.5, 4.6, 9), _benign(100, 4))
    assert (
        "Of 3 pairs of harm types, 1 have an interval that lies entirely above the other"
        in sentence
    )
    assert "larger count" not in sentence


def test_probability_has_no_digits_in_the_far_tail() -> None:
    found = [probability(p) for p in (0.0, 1e-40, 0.0123, 1.0, None)]
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
