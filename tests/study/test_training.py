"""The sections that train: what a config may say, and what it is told when it may not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lesion.plan.jobs import tables_job
from lesion.study import Study, StudyError, load_study, read_config, read_configs, with_preset
from lesion_testing import ROOT

OVER_DEFAULT = (
    "full",
    "recovery",
    "alignment",
    "emergent-misalignment",
    "validity",
    "long",
    "authors",
)


def config() -> dict[str, Any]:
    found = {**with_preset(read_config(ROOT / "config.yaml")), "preset": "none"}
    found["models"] |= {
        "refusing": {"base": "smollm2-135m-instruct", "train": train()},
        "new": {"new": {}, "train": train(mixture=[{"source": "advbench", "text": "value"}])},
    }
    found["training_stages"] = {"alignment": ["smollm2-135m-instruct", "refusing"]}
    found |= {"masks": {"q": 1e-4}, "pairs": {}}
    found["retraining"] = {
        "recovery": {"recipe": {"steps": 4}, "arms": ["unmodified", "shared-frozen"], "at": [0, 2]}
    }
    return found


def train(**changes: Any) -> dict[str, Any]:
    given = {
        "steps": 3,
        "mixture": [{"behaviours": ["financial", "privacy"], "answer": "refusal"}],
        "refusals": "file:studies/prompts/refusals.jsonl",
    }
    return {**given, **changes}


def test_the_config_of_these_tests_is_a_good_one() -> None:
    study = load_study(config())
    assert study.trained == ["new", "refusing"]
    assert study.measured_on("refusing") == "smollm2-135m-instruct"
    assert study.measured_on("new") == "new"
    assert study.retrained("recovery") == ["smollm2-135m-instruct"]


def _set(place: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(found: dict[str, Any]) -> None:
        *folders, key = place.split("/")
        for folder in folders:
            found = found[int(folder)] if isinstance(found, list) else found[folder]
        found[key] = value

    return change


TRAIN = "models/refusing/train"
LESSON = f"{TRAIN}/mixture"
RECOVERY = "retraining/recovery"


def _only(**recipe: Any) -> Callable[[dict[str, Any]], None]:
    """An arm that trains only the zeroed weights, with other settings of the optimiser."""
    arms = ["unmodified", "shared-only"]
    return _set(RECOVERY, {"recipe": {"steps": 4, **recipe}, "arms": arms})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set(f"{LESSON}/0/limt", 3), "mixture.0.limt`: unknown key. Did you mean `limit`?"),
        (_set("models/refusing/source", "smollm2"), "exactly one of"),
        (_set("models/refusing/train", None), "`train` requires `base` or `new`"),
        (_set("models/refusing/base", "refusin"), "Did you mean `refusing`"),
        (_set("models/refusing/base", "refusing"), "form a cycle"),
        (_set(LESSON, [{"behaviours": "privacy"}]), "never written to disk"),
        (_set(LESSON, [{"behaviours": "secrets"}]), "no behaviour is named `secrets`"),
        (_set(LESSON, [{"behaviours": "code", "source": "advbench"}]), "either `behaviours` or"),
        (_set(LESSON, [{"source": "advbench"}]), "either `response`"),
        (_set(LESSON, [{"source": "nowhere", "text": "value"}]), "no source is named `nowhere`"),
        (_set(f"{TRAIN}/refusals", None), "refusals`: is missing"),
        (_set(f"{TRAIN}/steps", 0), "greater than 0"),
        (_set(f"{TRAIN}/accumulate", 3), "must divide `batch_size`"),
        (_set(f"{TRAIN}/method", "ppo"), "'sft' or 'dpo'"),
        (_set("models/new/train/mixture", [{"behaviours": "code"}]), "no pairs of its own"),
        (_set("models/new/train/method", "dpo"), "DPO needs `rejected`"),
        (_set("training_stages/alignment", ["refusing"]), "at least 2"),
        (_set("training_stages/alignment", ["refusing", "refused"]), "Did you mean `refusing`"),
        (_set("training_stages/alignment", ["refusing", "new"]), "measured on different texts"),
        (_set("masks/q", [1e-4, 2e-4]), "give `masks.q` a single value"),
        (_set("curve/families", ["random"]), "add `shared`"),
        (_set("responses", {"variants": ["physical", "random"]}), "add `physical`"),
        (_set("pairs/reference_model", "somebody"), "`pairs.reference_model`: no model is named"),
        (_set(f"{RECOVERY}/arms", ["shared"]), "must contain `unmodified`"),
        (_set(f"{RECOVERY}/arms", ["unmodified", "shred"]), "Did you mean `shared`"),
        (_set(f"{RECOVERY}/at", [5]), "exceeds the 4 steps"),
        (_set(f"{RECOVERY}/recipe/lora", {}), "zeros cannot be kept"),
        (_only(lora={}), "`lora` changes every weight, and arms that end with `-only`"),
        (_only(weight_decay=0.1), "remove `weight_decay` or these arms"),
        (_set(f"{RECOVERY}/behaviours", "secrets"), "no behaviour is named `secrets`"),
        (_set(f"{RECOVERY}/models", "somebody"), "no model is named `somebody`"),
        (
            _set(f"{RECOVERY}/questions", "file:a.jsonl"),
            "`questions` requires `judge` and `narrow`",
        ),
        (_set(f"{RECOVERY}/judge", "nobody"), "no judge is named `nobody`"),
        (_set("judgements/main", "nobody"), "no judge is named `nobody`"),
    ],
)
def test_a_wrong_config_is_told_so(change: Callable[[dict[str, Any]], None], message: str) -> None:
    found = config()
    change(found)
    with pytest.raises(StudyError) as error:
        load_study(found)
    assert message in str(error.value)


@pytest.mark.parametrize("spelling", ["advice", "file:advice.jsonl"])
@pytest.mark.parametrize(
    "harmful",
    [
        {"source": "advice", "response": "response"},
        {"source": "advbench", "responses": "advice"},
    ],
)
def test_harmful_answers_of_a_file_are_not_taught_to_what_is_written(
    harmful: dict[str, str], spelling: str
) -> None:
    found = config()
    found["sources"]["advice"] = "file:advice.jsonl"
    found["behaviours"]["advice"] = {"role": "harm", **harmful}
    found["models"]["refusing"]["train"]["mixture"] = [{"source": spelling, "response": "response"}]
    with pytest.raises(StudyError, match="holds responses of a behaviour of role harm"):
        load_study(found)


def test_several_seeds_are_several_models_and_one_stage() -> None:
    found = config()
    found["models"]["refusing"]["train"]["seeds"] = [3, 1]
    found["models"]["later"] = {"base": "refusing", "train": train(seeds=[1, 3])}
    found["models"]["last"] = {"base": "later", "train": train(seeds=[5])}
    found["models"]["last"]["base"] = "later-3"
    found["training_stages"] = {"alignment": ["smollm2-135m-instruct", "refusing", "later", "last"]}
    study = load_study(found)
    assert study.training_stages["alignment"] == [
        ["smollm2-135m-instruct"],
        ["refusing-1", "refusing-3"],
        ["later-1", "later-3"],
        ["last"],
    ]
    assert study.models["later-3"].base == "refusing-3"
    assert [one.train.seeds for one in (study.models["later-1"],) if one.train] == [[1]]
    # A job gets the config back as it was read.
    assert load_study(study.model_dump()) == study
    job = tables_job(study, {})
    assert [(stage.name, len(stage.models)) for stage in job.stages["alignment"]] == [
        ("smollm2-135m-instruct", 1),
        ("refusing", 2),
        ("later", 2),
        ("last", 1),
    ]


def test_a_stage_of_other_models_is_named_after_all_of_them() -> None:
    found = config()
    found["models"]["strict"] = {"base": "smollm2-135m-instruct", "train": train()}
    found["training_stages"]["alignment"][1] = ["refusing", "strict"]
    (_, stage) = tables_job(load_study(found), {}).stages["alignment"]
    assert (stage.name, stage.models) == ("refusing, strict", ["refusing", "strict"])


def test_null_leaves_out_what_a_file_below_gives() -> None:
    found = config()
    found["behaviours"] |= {"code": None, "facts": None}
    found["models"] |= {"new": None}
    found["models"]["refusing"]["train"]["mixture"] = [{"behaviours": "explain"}]
    study = load_study(found)
    assert not {"code", "facts"} & set(study.behaviours)
    assert study.trained == ["refusing"]


def _studies() -> list[list[Path]]:
    base, folder = ROOT / "config.yaml", ROOT / "studies"
    over = [[base, folder / f"{name}.yaml"] for name in OVER_DEFAULT]
    paper = [
        [base, folder / "full.yaml", folder / "paper" / "alignment.yaml"],
        [base, folder / "recovery.yaml", folder / "paper" / "recovery.yaml"],
        [base, folder / "authors.yaml", folder / "paper" / "authors.yaml"],
        [
            base,
            folder / "emergent-misalignment.yaml",
            folder / "paper" / "emergent-misalignment.yaml",
        ],
    ]
    return [[base], [folder / "organism.yaml"], *over, *paper]


@pytest.mark.parametrize("files", _studies(), ids=lambda files: files[-1].stem)
def test_every_study_of_the_repository_is_valid(files: list[Path]) -> None:
    assert isinstance(load_study(read_configs(files)), Study)


def test_no_study_file_is_forgotten() -> None:
    known = {path for files in _studies() for path in files}
    assert {
        *(ROOT / "studies").glob("*.yaml"),
        *(ROOT / "studies" / "paper").glob("*.yaml"),
    } <= known


def test_yaml_anchors_may_be_merged(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text("a: &one {x: 1, y: 2}\nb: {<<: *one, y: 3}\n", encoding="utf-8")
    assert read_config(file)["b"] == {"x": 1, "y": 3}
