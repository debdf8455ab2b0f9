"""`scores.tail: auto`: scores are truncated where that is exact for the study's own masks."""

from typing import Any

import pytest

from lesion.plan.outputs import score_tail
from lesion.study import load_study
from lesion.study.sections import Tail
from lesion_testing import workflow

PLAIN = {
    **workflow.STUDY,
    "masks": {
        "p": [0.05, 0.1],
        "q": [0.001, 0.002],
        "own_q": None,
        "preservation_pooling": "max",
        "shared": {"at_least": 2},
    },
    "curve": {"families": []},
    "equal_cost": {"masks": []},
}


def _tail(**sections: Any) -> Tail | None:
    merged = {
        name: {**PLAIN.get(name, {}), **section} if isinstance(section, dict) else section
        for name, section in sections.items()
    }
    return score_tail(load_study({**PLAIN, **merged}))


def test_the_tail_is_what_the_masks_need() -> None:
    assert _tail() == Tail(p=0.1, q=0.002)
    assert _tail(masks={"own_q": 0.004}) == Tail(p=0.1, q=0.004)
    curve = {"families": ["shared"], "sizes": [0.5, 1, 4]}
    assert _tail(curve=curve) == Tail(p=0.1, q=0.008)
    equal = {"masks": ["shared", "random"], "largest": 0.03}
    assert _tail(equal_cost=equal) == Tail(p=0.1, q=0.03)


def test_a_tail_that_is_given_is_used_and_null_stores_all() -> None:
    assert _tail(scores={"tail": {"p": 0.2, "q": 0.01}}) == Tail(p=0.2, q=0.01)
    assert _tail(scores={"tail": None}) is None


@pytest.mark.parametrize(
    "sections",
    [
        {"masks": {"preservation_pooling": "mean"}},
        {"masks": {"controls": ["random", "second-q"]}},
        {"equal_cost": {"masks": ["shared", "unsigned"]}},
        {"masks": {"p": [0.6]}},
    ],
    ids=["a mean of capabilities", "a control", "a control of equal cost", "more than all"],
)
def test_all_scores_are_stored_where_a_tail_would_not_do(sections: dict[str, Any]) -> None:
    assert _tail(**sections) is None


def test_it_serves_the_attacks_without_refusal() -> None:
    attacks = {"attacks": ["direct", "refusal-ablation"]}
    own = {"p": 0.2, "q": 0.03, "signed": True, "scope": "global"}
    assert _tail(responses={**attacks, "refusal_ablation": own}) == Tail(p=0.2, q=0.03)
    elsewhere = {**own, "scope": "matrix"}
    assert _tail(responses={**attacks, "refusal_ablation": elsewhere}) is None
