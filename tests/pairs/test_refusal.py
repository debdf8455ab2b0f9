import pytest

from lesion.pairs.refusal import OPENING, PHRASES, is_refusal


@pytest.mark.parametrize(
    "response",
    [
        "I'm sorry, but no.",
        "I\u2019m  sorry",
        "I CANNOT do this",
        "Well.\nI can't\nassist with socks.",
        "As an AI, I have no socks.",
        *PHRASES,
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
        "x" * OPENING + " I'm sorry",
    ],
)
def test_answers(response: str) -> None:
    assert not is_refusal(response)
