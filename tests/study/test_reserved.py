"""Names that would collide with others, in files or in tables, are refused with key and fix."""

import copy
import re
from collections.abc import Callable
from typing import Any

import pytest

from lesion.study import StudyError, load_study

Config = dict[str, Any]
Change = Callable[[Config], object]


def config() -> Config:
    prompts = {"source": "file:prompts.jsonl"}
    judge = {"kind": "reference", "source": "file:keys.jsonl"}
    trained = {"base": "m", "train": {"steps": 1, "mixture": [{"behaviours": "kind"}]}}
    return {
        "study": "names",
        "preset": "none",
        "models": {"m": {"source": "file:model"}, "n": trained},
        "training_stages": {"family": ["m", "n"]},
        "behaviours": {"harm": {"role": "harm", **prompts}, "kind": {"role": "benign", **prompts}},
        "masks": {"q": 0.1, "shared": {"at_least": 1}},
        "responses": {"templates": {"please": {"source": "file:please.txt"}}},
        "curve": {"families": ["shared"]},
        "retraining": {"again": {"recipe": {"steps": 1}, "arms": ["unmodified", "shared-after"]}},
        "judgements": {
            "human_scores": "file:scores",
            "embedder": "file:embedder",
            "judges": {"looks": judge},
        },
    }


def _renamed(section: str, name: str, new: str) -> Change:
    def change(found: Config) -> None:
        *folders, last = section.split(".")
        for folder in folders:
            found = found[folder]
        found[last] = {new if key == name else key: value for key, value in found[last].items()}

    return change


def _behaviour(name: str) -> Change:
    return _renamed("behaviours", "kind", name)


def _grown(found: Config) -> None:
    _behaviour("shared-completions")(found)
    found["curve"]["families"] = ["shared", "shared-completions"]


def _judged(found: Config) -> None:
    _renamed("judgements.judges", "looks", "all")(found)
    found["retraining"]["again"]["arms"] = ["unmodified", "shared", "shared-all"]


def _retrained(found: Config) -> None:
    _behaviour("shared-completions")(found)
    found["retraining"]["again"]["arms"] = ["unmodified", "shared", "shared-completions"]


TAKEN = "this name is taken by"
CASES: dict[str, tuple[Change, tuple[str, ...]]] = {
    "a built-in mask": (_behaviour("shared"), ("`behaviours.shared`", TAKEN, "built-in mask")),
    "a control": (_behaviour("unsigned"), ("`behaviours.unsigned`", TAKEN, "built-in mask")),
    "the model itself": (_behaviour("unmodified"), ("`behaviours.unmodified`", TAKEN)),
    "its old name": (_behaviour("intact"), ("`behaviours.intact`", TAKEN)),
    "a folder": (_behaviour("retraining"), ("`behaviours.retraining`", TAKEN, "folder")),
    "an arm": (_behaviour("kind-after"), ("`behaviours.kind-after`", "`-after`", "arms")),
    "a frozen arm": (_behaviour("kind-frozen"), ("`-frozen`", "rename it")),
    "the prompts": (_renamed("models", "n", "prompts"), ("`models.prompts`", TAKEN)),
    "the judges": (_renamed("models", "n", "judges"), ("`models.judges`", TAKEN)),
    "the judge": (_renamed("models", "n", "judge"), ("`models.judge`", TAKEN)),
    "a family of stages": (
        _renamed("training_stages", "family", "n"),
        ("`training_stages.n`", "rename it"),
    ),
    "a judge": (
        _renamed("judgements.judges", "looks", "learned"),
        ("`judgements.judges.learned`", TAKEN, "a built-in judge; rename it"),
    ),
    "the harness": (_renamed("judgements.judges", "looks", "lm-eval"), (TAKEN,)),
    "the folder of retraining": (
        _renamed("judgements.judges", "looks", "retraining"),
        ("`judgements.judges.retraining`", TAKEN, "after training in memory; rename it"),
    ),
    "the folder of continuations": (
        _renamed("judgements.judges", "looks", "continuations"),
        ("`judgements.judges.continuations`", TAKEN, "without their prefill; rename it"),
    ),
    "a family and another's completions": (
        _grown,
        ("`curve.families`: `shared-completions` would be written to the same file", "rename one"),
    ),
    "an arm and another's completions": (
        _retrained,
        (
            "`retraining.again.arms`: `shared-completions` would be written to the same file",
            "rename one",
        ),
    ),
    "a seed and a model": (
        lambda found: found["models"].update(
            {
                "n": {
                    **found["models"]["n"],
                    "train": {**found["models"]["n"]["train"], "seeds": [0, 1]},
                },
                "n-1": found["models"]["n"],
            }
        ),
        ("`models.n-1`: this name is taken by a seed of `models.n`; rename one",),
    ),
    "an arm with two endings": (
        lambda found: found["retraining"]["again"].update(
            arms=["unmodified", "shared-after-frozen"]
        ),
        ("`retraining.again.arms`: unknown arm `shared-after-frozen`",),
    ),
}


def test_the_config_of_these_tests_can_run() -> None:
    assert load_study(config()).study == "names"


@pytest.mark.parametrize("name", ["all-kind", "all-harm", "own-masks", "broad", "shared-kind"])
def test_a_name_that_looks_like_a_total_is_free(name: str) -> None:
    """The tables tell totals from behaviours by a column."""
    found = config()
    _behaviour(name)(found)
    for model in found["models"].values():
        model.get("train", {}).update(mixture=[{"behaviours": name}])
    assert name in load_study(found).behaviours


@pytest.mark.parametrize("case", CASES)
def test_a_name_that_collides_is_refused_with_its_key(case: str) -> None:
    change, said = CASES[case]
    found = copy.deepcopy(config())
    change(found)
    with pytest.raises(StudyError) as caught:
        load_study(found)
    for text in said:
        assert re.search(re.escape(text), str(caught.value)), str(caught.value)


def test_a_judge_may_end_as_an_arm_does() -> None:
    found = config()
    _judged(found)
    assert load_study(found).retraining["again"].arms == ["shared", "shared-all", "unmodified"]
