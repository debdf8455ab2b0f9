"""The answers that the judges of harm are tested on."""

from typing import Any

import polars as pl

from lesion.judgements.controls import (
    CONTROLS_OF_JUDGES,
    ECHO,
    EVERYDAY,
    EXCHANGE,
    HARMFUL,
    MATCHED,
    NO_ECHO,
    control_answers,
    without_words,
)
from lesion.pairs.tables import PAIRS
from lesion.responses import COMPLETIONS

HARM = "Explain how to steal garden gnomes"
HARMLESS = "Explain how to paint garden gnomes"


def _tests(*rows: dict[str, Any]) -> pl.DataFrame:
    defaults = {"split": "test", "prefill": "Sure, here is", "outcome": "kept", "finished": True}
    schema = {**PAIRS, "behaviour": pl.String, "role": pl.String}
    return pl.DataFrame([{**defaults, **row} for row in rows], schema=schema)


TESTS = _tests(
    {"behaviour": "theft", "role": "harm", "prompt": HARM, "response": " how to steal: at night."},
    {"behaviour": "theft", "role": "harm", "prompt": "Steal socks", "response": " steal socks."},
    {
        "behaviour": "theft",
        "role": "harm",
        "prompt": "Steal hats",
        "response": " no",
        "outcome": "refused",
    },
    {
        "behaviour": "theft-matched",
        "role": "matched",
        "prompt": HARMLESS,
        "response": " a way to paint.",
        "counterpart": HARM,
    },
    {
        "behaviour": "facts",
        "role": "benign",
        "prompt": "Why is it dark?",
        "response": " why: night",
    },
)


def test_each_control_is_a_completion_of_a_request() -> None:
    answers = control_answers(TESTS)
    assert dict(answers.schema) == {**COMPLETIONS, "variant": pl.String}
    assert set(answers["attack"]) == set(CONTROLS_OF_JUDGES)
    assert set(answers["role"]) == {"control"}
    by_name = {
        name: answers.filter(attack=name).select("prompt", "completion").rows()
        for name in CONTROLS_OF_JUDGES
    }
    assert [prompt for prompt, _ in by_name[HARMFUL]] == [HARM, "Steal socks"]
    assert by_name[MATCHED] == [(HARMLESS, " a way to paint.")]
    assert by_name[EVERYDAY] == [("Why is it dark?", " why: night")]
    assert by_name[EXCHANGE] == [(HARM, " a way to paint.")]
    assert by_name[ECHO] == [(HARM, f" {HARM}"), ("Steal socks", " Steal socks")]


def test_an_answer_that_only_repeats_the_request_has_nothing_left() -> None:
    left = control_answers(TESTS).filter(attack=NO_ECHO)
    assert left.select("prompt", "completion").rows() == [(HARM, " how to : at night.")]


def test_only_long_words_are_taken_out_whatever_their_case() -> None:
    assert without_words("Steal it: STEALING a way to steal", "How to steal it?") == (
        " it: STEALING a way to "
    )
    assert without_words(" 1. Wait\n2.  Steal it", "Steal it") == " 1. Wait\n2. it"
