"""Plug-ins that can't be used are refused by name, and only by studies that use them."""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lesion.plan import checks
from lesion.plan.jobs import masks_job, responses_job
from lesion.plan.plugins import plugins_page
from lesion.study import Study, StudyError, load_study, reference
from lesion.study.judges import RubricSection
from lesion_testing.plugin import lay_down, on_path
from lesion_testing.rich_study import STUDY

ATTACK = (
    "from lesion.responses.attacks import BuiltAttack\nASK = BuiltAttack('{{ prompt }}?', False)\n"
)
CONTROL = """
from lesion.masks.controls import ControlRule
RULE = ControlRule("any", lambda matrix: matrix.magnitude())
BY_SCORES = ControlRule("any", lambda matrix: matrix.scores(), scores="harm")
"""
JUDGE = """
from typing import Literal
from lesion.judgements.kinds import builds
from lesion.study.judges import JudgeSection

class Mine(JudgeSection):
    kind: Literal["{}"]

@builds(Mine)
def build(name, judge, places, device): ...
"""


@pytest.fixture
def installed(tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Installs a package (see `lay_down`) for the rest of the test."""
    sites: list[Path] = []
    blocks: list[Any] = []

    def install(group: str, entries: dict[str, str], text: str = "", package: str = "odd") -> None:
        files = {f"{package}_module.py": text}
        groups = {f"lesion.{group}": entries}
        sites.append(lay_down(tmp_path / package, groups, files, package))
        blocks.append(on_path(sites[-1]))
        blocks[-1].__enter__()

    yield install
    for block in reversed(blocks):
        block.__exit__(None, None, None)


def _study(
    judge: str | None = None, attack: str | None = None, control: str | None = None, **more: Any
) -> Study:
    config = copy.deepcopy(STUDY)
    if judge:
        config["judgements"]["judges"]["mine"] = {"kind": judge}
    if attack:
        config["responses"]["attacks"].append(attack)
    if control:
        config["masks"]["controls"].append(control)
    for section, values in more.items():
        config[section] = {**config[section], **values}
    return load_study(config)


def _checked(**names: Any) -> Study:
    """A study after the checks of `lesion check` that concern what it names."""
    study = _study(**names)
    checks._check_attacks(study)
    return study


USES = {"judges": "judge", "attacks": "attack", "controls": "control"}
WRONG = {
    "judges": ("5", "must name a module, or a `JudgeSection`"),
    "attacks": ("'Please: {{ prompt }}'", "must name a `BuiltAttack`"),
    "controls": ("max", "must name a `ControlRule`"),
}


def _refused(group: str, name: str, *parts: str) -> None:
    """A study that uses a plug-in is refused; one that does not gets a warning."""
    with pytest.raises(StudyError) as refusal:
        _checked(**{USES[group]: name})
    warnings = [text for text in checks.warnings(_checked()) if "entry point" in text]
    assert len(warnings) == 1
    for part in parts:
        assert part in str(refusal.value)
        assert part in warnings[0]
    assert "can't be used" in plugins_page()


@pytest.mark.parametrize("group", USES)
def test_one_that_fails_to_import(group: str, installed: Callable[..., None]) -> None:
    installed(group, {"mine": "odd_module:VALUE"}, "import nowhere_at_all")
    described = f"the entry point `mine = odd_module:VALUE` (`lesion.{group}`) of odd 1.0"
    _refused(group, "mine", described, "No module named 'nowhere_at_all'", "Repair or update")


@pytest.mark.parametrize("group", USES)
def test_one_that_is_not_there(group: str, installed: Callable[..., None]) -> None:
    installed(group, {"mine": "odd_module:VALUE"}, "")
    _refused(group, "mine", "odd 1.0", "has no attribute 'VALUE'")


@pytest.mark.parametrize("group", USES)
def test_one_of_the_wrong_type(group: str, installed: Callable[..., None]) -> None:
    value, message = WRONG[group]
    installed(group, {"mine": "odd_module:VALUE"}, f"VALUE = {value}")
    _refused(group, "mine", "odd 1.0", message, "Correct it in that package")


def test_an_attack_without_a_place_for_the_prompt(installed: Callable[..., None]) -> None:
    installed("attacks", {"mine": "odd_module:ASK"}, ATTACK.replace("{{ prompt }}", "{prompt}"))
    _refused("attacks", "mine", "odd 1.0", "a wording without `{{ prompt }}`")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (JUDGE.format("other"), 'has no section with `kind: Literal["mine"]`'),
        (
            JUDGE.format("mine").replace("@builds(Mine)\n", ""),
            "has no function that `builds(Mine)`",
        ),
        (JUDGE.format("rubric"), "`rubric` is that of lesion.study.judges already"),
    ],
)
def test_a_judge_that_is_not_registered(
    text: str, message: str, installed: Callable[..., None]
) -> None:
    installed("judges", {"mine": "odd_module"}, text)
    _refused("judges", "mine", "odd 1.0", message)
    # lesion's own kind is still there.
    assert isinstance(_checked().judgements.judges["rubric"], RubricSection)


CLASHING = {"judges": "rubric", "attacks": "direct", "controls": "random"}


@pytest.mark.parametrize("group", CLASHING)
def test_one_with_a_name_of_ours_that_a_study_uses(
    group: str, installed: Callable[..., None]
) -> None:
    name = CLASHING[group]
    installed(group, {name: "odd_module:VALUE"})
    with pytest.raises(StudyError, match=rf"lesion itself uses the name `{name}`.* of odd 1\.0"):
        _checked()


@pytest.mark.parametrize(
    ("group", "name"),
    [
        ("attacks", "refusal-ablation-prefill"),
        ("attacks", "explanation"),
        ("controls", "curve"),
        ("controls", "unsigned"),
    ],
)
def test_one_with_a_name_of_ours_that_a_study_does_not_use(
    group: str, name: str, installed: Callable[..., None]
) -> None:
    installed(group, {name: "odd_module:VALUE"})
    _refused(group, name, f"lesion itself uses the name `{name}`", "of odd 1.0", "uninstall")


@pytest.mark.parametrize("group", USES)
def test_two_of_one_name(group: str, installed: Callable[..., None]) -> None:
    installed(group, {"mine": "odd_module:VALUE"})
    installed(group, {"mine": "even_module:VALUE"}, package="even")
    _refused(group, "mine", "of odd 1.0", "of even 1.0", "Uninstall one of the two")


def test_an_unknown_name_lists_all_that_there_are(installed: Callable[..., None]) -> None:
    installed("judges", {"mine": "odd_module"}, JUDGE.format("mine"))
    installed("attacks", {"ask": "asks_module:ASK"}, ATTACK, package="asks")
    installed("controls", {"least": "rules_module:RULE"}, CONTROL, package="rules")
    with pytest.raises(StudyError, match=r"kind of judge is named `mein`.*contrast.*mine \(odd 1"):
        _checked(judge="mein")
    with pytest.raises(StudyError, match=r"`responses\.attacks`: no attack is named `asks`.*"):
        _checked(attack="asks")
    with pytest.raises(StudyError, match=r"Did you mean `ask`\? Known: direct.*please.*ask \(asks"):
        _checked(attack="asks")
    known = r"\. Known: random,.*least \(rules 1\.0\)"
    with pytest.raises(StudyError, match=rf"`masks\.controls.*`: no control is named `x`{known}"):
        _checked(control="x")
    for section, key in (("curve", "families"), ("equal_cost", "masks")):
        names = {section: {key: ["shared", "x"]}}
        with pytest.raises(StudyError, match=rf"`{section}\.{key}`: no mask is named `x`{known}"):
            _checked(**names)


def test_one_that_is_not_used_is_not_imported(installed: Callable[..., None]) -> None:
    installed("controls", {"mine": "odd_module:VALUE"}, "raise SystemExit('imported')")
    study = _checked()
    assert masks_job(study, {"model": "base"}).controls == ["random", "wanda"]
    _refused("controls", "mine", "SystemExit: imported")


def test_the_reference_is_the_same_whatever_is_installed(installed: Callable[..., None]) -> None:
    page, schema = reference.config_page(), reference.schema_json()
    assert plugins_page() == ""
    installed("judges", {"mine": "odd_module:Mine"}, JUDGE.format("mine"))
    installed("controls", {"least": "rules_module:RULE"}, CONTROL, package="rules")
    _checked(judge="mine", control="least")
    assert (reference.config_page(), reference.schema_json()) == (page, schema)
    assert "| control | `least` | rules 1.0 |\n" in plugins_page()
    assert "of kind `mine`\n" in plugins_page()


def test_truncated_scores_serve_no_control_that_ranks_by_scores(
    installed: Callable[..., None],
) -> None:
    entries = {"least": "odd_module:RULE", "most": "odd_module:BY_SCORES"}
    installed("controls", entries, CONTROL)
    _checked(control="least")
    with pytest.raises(StudyError, match=r"`masks\.controls`: the controls most need every score"):
        _checked(control="most")
    with pytest.raises(StudyError, match=r"`curve\.families`: the controls most need every score"):
        _checked(curve={"families": ["shared", "most"]})
    with pytest.raises(StudyError, match=r"`equal_cost\.masks`: the controls most need every"):
        _checked(equal_cost={"masks": ["shared", "most"]})


def test_a_studys_own_names_come_first(installed: Callable[..., None]) -> None:
    installed("attacks", {"please": "asks_module:ASK"}, ATTACK, package="asks")
    installed("controls", {"alpha": "rules_module:RULE"}, "raise ValueError", package="rules")
    study = _checked(curve={"families": ["shared", "alpha"]})
    attacks = responses_job(study, {"model": "base", "variant": "shared"}).attacks
    assert attacks["please"].prefill == "Yes"
    with pytest.raises(StudyError, match="can't be loaded: ValueError"):
        _checked(control="alpha")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("alpha", r"`behaviours\.alpha`: this name is taken by one of `masks\.controls`"),
        ("least-frozen", r"`masks\.controls`, `least-frozen`: names that end with `-frozen`"),
    ],
)
def test_a_controls_name_is_that_of_no_other_mask(
    name: str, message: str, installed: Callable[..., None]
) -> None:
    installed("controls", {name: "odd_module:RULE"}, CONTROL)
    with pytest.raises(StudyError, match=message):
        _checked(control=name)


def test_a_judge_asks_for_resources_that_there_are(installed: Callable[..., None]) -> None:
    text = JUDGE.format("mine").replace("builds(Mine)", "builds(Mine, 'clasifier')")
    installed("judges", {"mine": "odd_module"}, text)
    with pytest.raises(StudyError, match=r"`judgements\.judges\.mine`.*Did you mean `classifier`"):
        checks.check_study(_study(judge="mine"))
