"""The verdicts: each answer, and above all when there is none."""

import math

import pytest

from lesion.report.estimate import Estimate, change
from lesion.report.words import (
    Answer,
    BeforeAfter,
    Shared,
    Transfer,
    Verdict,
    across_types,
    alignment_note,
    apart,
    compact,
    control,
    direction,
    probability,
    sharing,
    visible,
)

CLEAR = Estimate(0.30, 0.25, 0.35, 60)
UNSURE = Estimate(0.03, -0.02, 0.08, 60)
NEGATIVE = Estimate(-0.10, -0.15, -0.05, 60)
NO_INTERVAL = Estimate(0.30)


@pytest.mark.parametrize(
    ("weights", "added", "answer"),
    [
        (4139, CLEAR, Answer.YES),
        (5_000_000, CLEAR, Answer.NO),
        (4139, UNSURE, Answer.UNCLEAR),
        (4139, NEGATIVE, Answer.NO),
        (4139, NO_INTERVAL, Answer.UNCLEAR),
        (4139, None, Answer.UNCLEAR),
        (0, CLEAR, Answer.UNCLEAR),
    ],
)
def test_compact(weights: int, added: Estimate | None, answer: Answer) -> None:
    assert compact(weights, 106_168_320, added).answer is answer


def test_compact_gives_number_interval_and_n() -> None:
    sentence = compact(4139, 106_168_320, CLEAR).sentence
    assert "4,139 of 106,168,320 weights (0.0039%)" in sentence
    assert "+0.30 nats per token [0.25, 0.35], n = 60" in sentence


def _across(*added: Estimate) -> Verdict:
    return across_types([Transfer(f"type{i}", "other", one) for i, one in enumerate(added)])


def test_across_types() -> None:
    assert _across(CLEAR, CLEAR).answer is Answer.YES
    assert _across(*[CLEAR] * 19, UNSURE).answer is Answer.YES
    assert _across(CLEAR, UNSURE).answer is Answer.PARTLY
    assert _across(*[CLEAR] * 19, NEGATIVE).answer is Answer.PARTLY
    assert _across(UNSURE, UNSURE).answer is Answer.UNCLEAR
    assert _across(UNSURE, NEGATIVE).answer is Answer.NO
    assert _across().answer is Answer.UNCLEAR


def test_across_types_names_the_weakest() -> None:
    sentence = _across(CLEAR, UNSURE).sentence
    assert "In 1 of 2 cases" in sentence
    weakest = "The weakest, type1 on other, adds 0.030 nats per token [−0.020, 0.080], n = 60."
    assert weakest in sentence


@pytest.mark.parametrize(
    ("benign", "ratio", "answer"),
    [
        (Estimate(0.07, 0.05, 0.09, 30), Estimate(4.3, 2.9, 6.1, 90), Answer.YES),
        (Estimate(0.25, 0.20, 0.30, 30), Estimate(1.2, 0.9, 1.6, 90), Answer.UNCLEAR),
        (Estimate(0.60, 0.50, 0.70, 30), Estimate(0.5, 0.4, 0.7, 90), Answer.NO),
        # Nothing to divide by: the wild ratio must not decide.
        (Estimate(0.01, -0.01, 0.03, 30), Estimate(30.0, -80.0, 200.0, 90), Answer.YES),
        (Estimate(0.01, -0.01, 0.03, 30), None, Answer.YES),
        (Estimate(0.20, -0.10, 0.50, 30), None, Answer.UNCLEAR),
        (None, Estimate(4.3, 2.9, 6.1, 90), Answer.UNCLEAR),
    ],
)
def test_apart(benign: Estimate | None, ratio: Estimate | None, answer: Answer) -> None:
    assert apart(CLEAR, benign, ratio).answer is answer


def _pairs(weights: int, *times: float, half: float = 1.0) -> list[Shared]:
    return [Shared(weights, Estimate(one, one - half, one + half)) for one in times]


@pytest.mark.parametrize(
    ("harm", "benign", "answer"),
    [
        (_pairs(2000, 9, 10, 11), _pairs(100, 3, 4, 5), Answer.YES),
        # Larger, but only one pair surely.
        (_pairs(2000, 4.5, 4.6, 9), _pairs(100, 3, 4, 5), Answer.PARTLY),
        (_pairs(2000, 4.5, 4.6, 4.7), _pairs(100, 3, 4, 5), Answer.UNCLEAR),
        (_pairs(2000, 9, 9, 9), _pairs(100, 10, 10), Answer.NO),
        (_pairs(2000, 9), _pairs(100, 9), Answer.NO),
        (_pairs(2000, math.nan, 9), _pairs(100, 3), Answer.YES),
        (_pairs(0, math.nan), _pairs(100, 3), Answer.UNCLEAR),
        (_pairs(2000, 9), [], Answer.UNCLEAR),
        ([], [], Answer.UNCLEAR),
    ],
)
def test_sharing(harm: list[Shared], benign: list[Shared], answer: Answer) -> None:
    assert sharing(harm, benign).answer is answer


def test_sharing_says_plainly_that_harm_is_not_larger() -> None:
    sentence = sharing(_pairs(1987, 9.0), _pairs(106, 9.9)).sentence
    assert "1,987 weights, 9.0× chance under the strict null (medians of 1)" in sentence
    assert "106 weights, 9.9× chance" in sentence
    assert "do not share more with each other than with benign behaviours" in sentence
    assert "larger count goes with favouring the same rows and columns" in sentence
    assert "nor do they by count" in sharing(_pairs(90, 9.0), _pairs(106, 9.9)).sentence


def test_sharing_counts_the_sure_pairs() -> None:
    sentence = sharing(_pairs(2000, 4.5, 4.6, 9), _pairs(100, 4)).sentence
    assert "1 of 3 pairs have an interval wholly above the other median" in sentence


def test_probability_has_no_digits_in_the_far_tail() -> None:
    found = [probability(p) for p in (0.0, 1e-40, 0.0123, 1.0, None)]
    assert found == ["< 0.001", "< 0.001", "0.012", "1", "–"]


@pytest.mark.parametrize(
    ("shared", "random", "answer"),
    [
        (CLEAR, Estimate(0.002, -0.01, 0.014, 60), Answer.YES),
        # Includes zero, and so much else that it says nothing.
        (CLEAR, Estimate(0.002, -0.2, 0.2, 60), Answer.UNCLEAR),
        # Surely above zero, and surely negligible.
        (CLEAR, Estimate(0.010, 0.005, 0.015, 60), Answer.YES),
        (CLEAR, Estimate(0.200, 0.150, 0.250, 60), Answer.NO),
        (CLEAR, NEGATIVE, Answer.NO),
        (UNSURE, Estimate(0.0, 0.0, 0.0, 60), Answer.UNCLEAR),
        (CLEAR, None, Answer.UNCLEAR),
    ],
)
def test_control(shared: Estimate, random: Estimate | None, answer: Answer) -> None:
    assert control(shared, random).answer is answer


HIGH, LOW = Estimate(0.62, 0.57, 0.67, 60), Estimate(0.20, 0.15, 0.25, 60)
NEAR = Estimate(0.60, 0.55, 0.65, 60)


def test_direction() -> None:
    assert direction(BeforeAfter(HIGH, LOW), None).answer is Answer.LOWERS
    assert direction(BeforeAfter(LOW, HIGH), None).answer is Answer.RAISES
    assert direction(BeforeAfter(HIGH, NEAR), None).answer is Answer.UNCLEAR
    assert direction(BeforeAfter(HIGH, NEAR), BeforeAfter(HIGH, LOW)).answer is Answer.UNCLEAR
    assert direction(None, BeforeAfter(HIGH, LOW)).answer is Answer.LOWERS
    assert direction(None, None).answer is Answer.UNCLEAR


def test_direction_says_both_attacks() -> None:
    sentence = direction(BeforeAfter(HIGH, LOW), BeforeAfter(NEAR, LOW)).sentence
    assert "from 0.62 to 0.20 (change −0.42 [−0.49, −0.35], n = 60)" in sentence
    assert "asked directly, harmfulness goes from 0.60 to 0.20" in sentence


def test_change_adds_the_distances_in_squares() -> None:
    gap = change(Estimate(0.5, 0.4, 0.7, 10), Estimate(0.9, 0.6, 1.0, 8))
    assert gap == pytest.approx((0.4, 0.4 - math.hypot(0.3, 0.2), 0.4 + math.hypot(0.1, 0.1), 8))


def test_change_without_intervals_is_unclear() -> None:
    gap = change(Estimate(0.5), Estimate(0.1))
    assert not gap.above_zero
    assert not gap.below_zero


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
