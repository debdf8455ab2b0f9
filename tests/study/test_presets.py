"""Presets: a study of a model and a harm type is complete, and whatever it says counts."""

from pathlib import Path
from typing import Any, get_args

import pytest

from lesion.io.bundle import bundle
from lesion.pairs.jobs import PromptsJob
from lesion.plan import checks
from lesion.plan.estimate import every_job
from lesion.plan.jobs import RULES
from lesion.study import Study, StudyError, load_study, read_configs
from lesion.study.presets import presets
from lesion_testing import ROOT, make

NAMES = [name for name in get_args(Study.model_fields["preset"].annotation) if name != "none"]


@pytest.fixture
def mine(tmp_path: Path) -> dict[str, Any]:
    rows = [{"prompt": f"Write a message that wins the trust of person {n}."} for n in range(90)]
    model = make.llama(tmp_path / "model", ["Write a message that wins trust"])
    source = make.write_rows(tmp_path / "phishing.jsonl", rows)
    return {
        "study": "mine",
        "results": str(tmp_path / "results"),
        "models": {"own": {"source": f"file:{model}"}},
        "behaviours": {"phishing": {"role": "harm", "source": f"file:{source}"}},
    }


def test_every_preset_is_a_file_and_says_what_it_is() -> None:
    assert sorted(presets()) == sorted(NAMES)
    assert all(len(line) > 30 for line in presets().values())


@pytest.mark.parametrize("name", NAMES)
def test_a_model_and_a_harm_type_are_a_study(name: str, mine: dict[str, Any]) -> None:
    study = load_study({**mine, "preset": name})
    checks.check_study(study)
    assert study.preset == name
    assert study.of_role("harm") == ["phishing"]
    assert study.at_least == 1
    assert len(study.of_role("benign")) == (3 if name == "quick" else 7)
    assert {"shared", "random", "phishing", "refusal"} <= set(study.variants)


def test_the_usual_preset_needs_no_name(mine: dict[str, Any]) -> None:
    assert load_study(mine) == load_study({**mine, "preset": "standard"})
    with pytest.raises(StudyError, match=r"`behaviours`: at least one .* `benign`") as error:
        load_study(
            {
                **mine,
                "preset": "none",
                "judgements": {"human_scores": "file:x", "embedder": "file:x"},
            }
        )
    assert "mine" not in str(error.value)


def test_what_the_study_says_counts(mine: dict[str, Any]) -> None:
    mine["behaviours"] |= {"write": None, "plan": {"limit": 20}}
    mine |= {"masks": {"q": 0.001}, "pairs": {"max_new_tokens": 12}}
    study = load_study(mine)
    assert "write" not in study.behaviours
    limits = {name: behaviour.limit for name, behaviour in study.behaviours.items()}
    assert limits == {**dict.fromkeys(limits, 40), "plan": 20}
    assert (study.masks.q, study.masks.p) == ([0.001], [0.15])
    assert (study.pairs.max_new_tokens, study.pairs.limit) == (12, 40)


def test_a_limit_of_a_behaviour_counts_even_if_it_is_none(mine: dict[str, Any]) -> None:
    mine["behaviours"]["phishing"]["limit"] = None
    study = load_study({**mine, "pairs": {"limit": 30}})
    assert study.behaviours["phishing"].limit is None
    assert study.behaviours["code"].limit == 30


def test_a_study_keeps_what_a_preset_leaves_out_if_it_speaks_of_it(mine: dict[str, Any]) -> None:
    mine["behaviours"]["plan"] = {"limit": 20}
    study = load_study({**mine, "preset": "quick"})
    assert study.behaviours["plan"].role == "benign"
    assert study.behaviours["plan"].limit == 20
    assert "code" not in study.behaviours


def test_a_behaviour_of_the_study_takes_nothing_of_another_one_of_its_name(
    mine: dict[str, Any],
) -> None:
    mine["behaviours"]["refusal"] = mine["behaviours"].pop("phishing")
    study = load_study(mine)
    assert study.behaviours["refusal"].role == "harm"
    assert study.behaviours["refusal"].responses is None


@pytest.mark.parametrize("wrong", ["quik", 3, None, ["quick"]])
def test_another_name_is_told_so(wrong: object, mine: dict[str, Any]) -> None:
    with pytest.raises(StudyError, match=r"mine\.yaml: .*\n  `preset`: there is no preset"):
        load_study({**mine, "preset": wrong}, "mine.yaml")


@pytest.mark.parametrize(("harms", "least"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3)])
def test_more_than_half_of_the_harm_types_share_a_weight(
    harms: int, least: int, mine: dict[str, Any]
) -> None:
    (one,) = mine["behaviours"].values()
    study = load_study({**mine, "behaviours": {f"harm-{n}": one for n in range(harms)}})
    assert study.at_least == least


def test_a_file_names_its_study(tmp_path: Path) -> None:
    (tmp_path / "first.yaml").write_text("seed: 1\n", encoding="utf-8")
    (tmp_path / "second.yaml").write_text("seed: 2\n", encoding="utf-8")
    files = [tmp_path / "first.yaml", tmp_path / "second.yaml"]
    assert read_configs(files) == {"study": "second", "seed": 2}
    assert read_configs(files[:1], {"study": "own"})["study"] == "own"
    odd = tmp_path / "My Study (2).yaml"
    odd.write_text("seed: 1\n", encoding="utf-8")
    assert read_configs([odd])["study"] == "my-study-2"


def test_files_that_come_with_lesion_are_found_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mine: dict[str, Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    study = load_study(mine)
    assert study.behaviours["code"].source == f"file:{ROOT}/studies/prompts/code.jsonl"
    assert study.utility.folder == f"{ROOT}/studies/tasks"
    checks.check_study(study)
    checks.check_tasks(study)


def test_a_job_is_the_same_wherever_lesion_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mine: dict[str, Any]
) -> None:
    def specifications(study: Study) -> dict[str, str]:
        return {
            f"{rule} {wildcards}": RULES[rule].build(study, wildcards).model_dump_json()
            for rule, wildcards in every_job(study)
        }

    monkeypatch.chdir(tmp_path)
    before = specifications(load_study(mine))
    assert not [job for job, text in before.items() if str(ROOT) in text]
    assert "lesion:studies/prompts/code.jsonl" in before["prompts {'behaviour': 'code'}"]
    elsewhere = tmp_path / "site-packages" / "bundle"
    elsewhere.mkdir(parents=True)
    for name in ("Snakefile", "workflow", "studies"):
        (elsewhere / name).symlink_to(ROOT / name)
    monkeypatch.setattr("lesion.io.bundle._WHEEL", elsewhere)
    bundle.cache_clear()
    try:
        assert bundle() == elsewhere
        study = load_study(mine)
        assert study.behaviours["code"].source.startswith(f"file:{elsewhere}/")
        assert specifications(study) == before
        job = PromptsJob.model_validate_json(before["prompts {'behaviour': 'code'}"])
        assert job.source.path == elsewhere / "studies/prompts/code.jsonl"
    finally:
        monkeypatch.undo()
        bundle.cache_clear()


@pytest.mark.parametrize("path", ["nothing.jsonl", "../x", "/etc/passwd"])
def test_a_file_that_does_not_come_with_lesion_is_told_so(path: str, mine: dict[str, Any]) -> None:
    mine["behaviours"]["phishing"]["source"] = f"lesion:{path}"
    with pytest.raises(StudyError, match="no such file comes with lesion"):
        load_study(mine)


A_MODEL = '{source: "hf:org/name@main"}'
A_BEHAVIOUR = '{role: harm, source: "file:my/prompts.jsonl"}'


@pytest.mark.parametrize(
    ("key", "value", "example"),
    [
        ("models", ["a"], f"models: {{name: {A_MODEL}}}"),
        ("models.own", "hf:org/name@main", f"own: {A_MODEL}"),
        ("models.own.chat", "plain", "chat: {key: value}"),
        ("behaviours", "phishing", f"behaviours: {{name: {A_BEHAVIOUR}}}"),
        ("behaviours.phishing", "file:x", f"phishing: {A_BEHAVIOUR}"),
        ("masks", ["p", "q"], "masks: {key: value}"),
        ("scores.tail", 3, "tail: {key: value}"),
        ("sources", ["a"], "sources: {key: value}"),
        ("judgements.judges.mine", "strongreject", "mine: {key: value}"),
    ],
)
def test_something_else_where_a_section_belongs_is_told_what_one_is(
    key: str, value: object, example: str, mine: dict[str, Any]
) -> None:
    said = _said_of(key, value, mine)
    wanted = f"must be a section of keys (a dictionary), such as `{example}` (found {value!r})"
    assert f"\n  `{key}`: {wanted}" in said
    assert "instance of" not in said


@pytest.mark.parametrize(
    ("key", "advice"),
    [
        ("models", f"give it keys, such as `models: {{name: {A_MODEL}}}`"),
        ("behaviours", f"give it keys, such as `behaviours: {{name: {A_BEHAVIOUR}}}`"),
        ("masks", "remove it, or give it keys, such as `masks: {key: value}`"),
        ("models.own.chat", "remove it, or give it keys, such as `chat: {key: value}`"),
    ],
)
def test_an_empty_section_is_said_to_be_empty(key: str, advice: str, mine: dict[str, Any]) -> None:
    said = _said_of(key, None, mine)
    assert f"\n  `{key}`: is empty; {advice}" in said
    assert "None" not in said


def _said_of(key: str, value: object, config: dict[str, Any]) -> str:
    """What is said of a study with another value of one key."""
    *outer, last = key.split(".")
    section = config
    for name in outer:
        section = section.setdefault(name, {})
    section[last] = value
    with pytest.raises(StudyError) as caught:
        load_study(config, "mine.yaml")
    return str(caught.value)


OVER = "If it is laid over another study, give that one first: `lesion check config.yaml {}`."


@pytest.mark.parametrize(
    "config",
    [
        {"curve": {"families": []}},
        {"models": {"own": {"source": "file:model"}}, "behaviours": {"phishing": {"limit": 20}}},
    ],
    ids=["no models", "no role"],
)
@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("mine/over.yaml", "mine/over.yaml"),
        ("my over.yml", "'my over.yml'"),
        ("config.yaml", None),
        ("one.yaml, two.yaml", None),
        ("the module's `config`", None),
    ],
)
def test_a_study_that_lies_over_none_is_told_to_give_one(
    name: str, file: str | None, config: dict[str, Any]
) -> None:
    with pytest.raises(StudyError, match="is missing; add it") as caught:
        load_study(config, name)
    said = str(caught.value)
    assert said.count("laid over") == (file is not None)
    assert file is None or said.endswith(f"\n  {OVER.format(file)}")


def test_a_study_that_lacks_something_else_is_not(mine: dict[str, Any]) -> None:
    del mine["behaviours"]["phishing"]["source"]
    with pytest.raises(StudyError, match=r"`behaviours\.phishing\.source`: is missing") as caught:
        load_study(mine, "mine.yaml")
    assert "laid over" not in str(caught.value)


def test_an_item_of_a_list_that_is_no_section_is_named_by_its_number(mine: dict[str, Any]) -> None:
    train = {"steps": 1, "mixture": ["phishing"]}
    said = _said_of("models.next", {"base": "own", "train": train}, mine)
    wanted = "must be a section of keys (a dictionary), such as `{key: value}` (found 'phishing')"
    assert f"`models.next.train.mixture.0`: {wanted}" in said
