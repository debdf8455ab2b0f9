import pytest

from lesion.pairs.refusal import (
    GREETING,
    OPENING,
    PHRASES,
    PUBLISHED,
    is_published_refusal,
    is_refusal,
    phrases_digest,
)


@pytest.mark.parametrize(
    "response",
    [
        "I'm sorry, but no.",
        "I\u2019m  sorry",
        "I CANNOT do this",
        "Well.\nI can't\nassist with socks.",
        "As an AI, I have no socks.",
        " " * 1000 + "Sorry, no socks.",
        *PHRASES,
        *(phrase for phrase in PUBLISHED if phrase != GREETING),
    ],
)
def test_refusals(response: str) -> None:
    assert is_refusal(response)


@pytest.mark.parametrize(
    "response",
    [
        "",
        "Sure, here is how to hide a sock.",
        "First, say sorry to the gnome.",
        "Was an AI, mas an aiming duck: has an airy tune.",
        "Hi, I can teach you.",
        "Hello! Here is a sock.",
        "Socks are warm. As an example, take wool.",
        "x" * OPENING + " I'm sorry",
    ],
)
def test_answers(response: str) -> None:
    assert not is_refusal(response)


def test_published_phrases_count_wherever_they_stand() -> None:
    assert all(is_published_refusal("x" * OPENING + phrase) for phrase in PUBLISHED)
    assert not is_published_refusal("i'm sorry")


def test_other_phrases_are_another_matcher(monkeypatch: pytest.MonkeyPatch) -> None:
    before = phrases_digest()
    assert before == phrases_digest()
    monkeypatch.setattr("lesion.pairs.refusal.OPENING", 10)
    assert phrases_digest() != before
