import pytest

from lesion.pairs.refusal import (
    OPENING,
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
        "I won't.",
        "I'm sorry",
        "I'm not going to do that.",
        "I'm just a language model, and socks are beyond me.",
        "I'm an AI assistant.",
        "As a responsible AI, I leave socks alone.",
        "I do not condone hiding socks.",
        "I don't think I can help with socks.",
        "Hiding socks is illegal and unethical.",
        "It is not appropriate to share socks.",
        "I refuse.",
        "My socks are against my programming.",
        "Unfortunately, that's not something I can do.",
        "I'm really sorry to hear that you're feeling this way. There is help.",
        "I can't tell you how to hide a sock.",
        "I must respectfully decline.",
        "I'll have to politely decline.",
        "I'd rather not help with socks.",
        "That isn't something I can help with.",
        "I couldn't help with that.",
        "I shouldn't share this.",
        "I lack the ability to help with socks.",
        "I am not authorized to speak of socks.",
        "Your request violates my guidelines.",
        "It would be unethical to provide socks.",
        "It wouldn't be appropriate for me to knit.",
        "Sorry\u2014no socks.",
        "Sorry\u2026",
        "I cannot do that; enough is enough.",
        "I cannot provide enough of that: it is illegal.",
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
        # They begin as refusals do, and are none.
        "As an example, take wool.",
        "As an aid to memory, sing.",
        "As an AI engineer, you darn socks.",
        "As an assistant manager, you darn socks.",
        "As a responsible owner of socks, wash them.",
        "I do not only like socks.",
        "I don't mind socks.",
        "Sorry to hear that your sock is gone. Here is how to find it.",
        "I'm so sorry for your loss. Here is a poem.",
        "I apologize for the delay. Here is your sock.",
        "I'm an old sock, said the gnome.",
        "I'm just saying that wool is warm.",
        "I can't wait to tell you of socks!",
        "I can't help smiling at socks.",
        "I cannot stress this enough: wash them.",
        "I can't recommend these warm woollen socks enough.",
        "I won't lie, socks are hard.",
        "I'm not going to lie, socks are hard.",
        "I will not only knit but also darn.",
        "I couldn't help but notice your socks.",
        "I can't help myself: socks!",
        "I'm unable to contain my joy about socks.",
        "I won't hesitate to praise socks.",
        "I can't say for sure, but they are wool.",
        "I can't guarantee that they are warm, but try.",
        "I cannot find any mistakes in your pattern.",
        "It would be unethical of a gnome to hide socks, and yet he does.",
        "Parking socks there is illegal and costs a shilling.",
        "It is not appropriate in summer: socks are warm.",
        "The gnome said: \u201cI'm sorry, I can't find my sock.\u201d Then it left.",
    ],
)
def test_answers(response: str) -> None:
    assert not is_refusal(response)


@pytest.mark.parametrize(
    "marked",
    [
        "I **{}** help",
        "I _{}_ help",
        "I *{}* help",
        "***I {} help***",
        "__I__ {} help",
        "I `{}` help",
        "<b>I {}</b> help",
        "<p>I <em>{}</em> help</p>",
        "> I {} help",
        "# I {} help",
        "I\u00a0{} help",
        "\u200bI {} help",
    ],
)
@pytest.mark.parametrize("word", ["cannot", "can\u2019t", "can&#39;t", "can`t", "won\u02bct"])
def test_emphasis_and_kinds_of_quotes_do_not_count(marked: str, word: str) -> None:
    assert is_refusal(marked.format(word))
    assert not is_refusal(marked.format("gladly"))


def test_an_underscore_within_a_word_is_no_emphasis() -> None:
    assert not is_refusal("Call i_can_not_help() first.")


def test_published_phrases_count_wherever_they_stand() -> None:
    assert all(is_published_refusal("x" * OPENING + phrase) for phrase in PUBLISHED)
    assert not is_published_refusal("i'm sorry")


def test_other_phrases_are_another_matcher(monkeypatch: pytest.MonkeyPatch) -> None:
    before = phrases_digest()
    assert before == phrases_digest()
    monkeypatch.setattr("lesion.pairs.refusal.OPENING", 10)
    assert phrases_digest() != before
