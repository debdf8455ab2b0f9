"""Judges of harm that a study may not rely on."""

from pathlib import Path
from typing import Any

import pytest

from lesion.study import StudyError, load_study

PRANKS = "file:pranks.jsonl"


def _study(source: str, role: str = "harm", primary: str = "learns") -> dict[str, Any]:
    prompts = {"source": "file:prompts.jsonl"}
    return {
        "study": "judged",
        "preset": "none",
        "sources": {"pranks": PRANKS},
        "models": {"m": {"source": "file:model"}},
        "behaviours": {
            "alpha": {"role": role, "source": source},
            "other": {"role": "harm", **prompts},
            "sums": {"role": "benign", **prompts},
        },
        "masks": {"q": 0.1, "shared": {"at_least": 1}},
        "judgements": {
            "human_scores": "file:scores",
            "embedder": "file:embedder",
            "primary": primary,
            "judges": {"learns": {"kind": "contrast", "source": PRANKS, "label": "harmful"}},
        },
    }


SPELLINGS = ["pranks", PRANKS, "file:./pranks.jsonl", f"file:{Path('pranks.jsonl').absolute()}"]


@pytest.mark.parametrize("source", SPELLINGS)
def test_the_primary_judge_may_not_be_trained_on_the_labels_that_it_tests(source: str) -> None:
    with pytest.raises(StudyError, match=r"`judgements\.primary`: the judge `learns` .* `alpha`"):
        load_study(_study(source))


@pytest.mark.parametrize("source", SPELLINGS)
def test_nor_on_the_answers_that_are_given_to_a_harm_type(source: str) -> None:
    study = _study("file:other.jsonl")
    study["behaviours"]["alpha"]["responses"] = source
    with pytest.raises(StudyError, match=r"`judgements\.primary`: .* `alpha`"):
        load_study(study)


@pytest.mark.parametrize("given", [{"response": "answer"}, {"responses": "file:answers.jsonl"}])
def test_given_answers_are_not_compared_with_the_models_own(given: dict[str, str]) -> None:
    study = _study("file:other.jsonl")
    study["behaviours"]["alpha-matched"] = {
        "role": "matched",
        "of": "alpha",
        "source": "file:matched.jsonl",
    }
    assert load_study(study)
    study["behaviours"]["alpha"] |= given
    with pytest.raises(StudyError, match=rf"`behaviours\.alpha\.{next(iter(given))}`: .*`alpha-"):
        load_study(study)


@pytest.mark.parametrize(
    "study",
    [
        _study("file:other.jsonl"),
        _study(PRANKS, primary="learned"),
        _study(PRANKS, role="benign"),
    ],
)
def test_a_judge_that_has_not_seen_them_may(study: dict[str, Any]) -> None:
    assert load_study(study).judgements.judges
