"""Judges of harm that a study may not rely on."""

from typing import Any

import pytest

from lesion.study import StudyError, load_study

PRANKS = "file:pranks.jsonl"


def _study(source: str, role: str = "harm", primary: str = "learns") -> dict[str, Any]:
    prompts = {"source": "file:prompts.jsonl"}
    return {
        "study": "judged",
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


@pytest.mark.parametrize("source", ["pranks", PRANKS])
def test_the_primary_judge_may_not_be_trained_on_the_labels_that_it_tests(source: str) -> None:
    with pytest.raises(StudyError, match=r"`judgements\.primary`: the judge `learns` .* `alpha`"):
        load_study(_study(source))


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
