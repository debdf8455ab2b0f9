"""The release gate on invented claims tables: every exit code, and the JSON's keys."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner, Result

from lesion import cli
from lesion.io.formats import BadFile, LesionError
from lesion.report.gate import gate, number_text
from lesion.tables.claims.outcome import CANNOT_TELL, NOT_SUPPORTED, SUPPORTED, together
from lesion.tables.claims.registry import REGISTRY
from lesion.tables.schemas import CLAIMS, FORMAT
from lesion_testing import ROOT

SIX = (6, "still explains why", "harm_minus_explain_nll_added")


def _row(claim: int, verdict: str, model: str = "smol", **changes: Any) -> dict[str, Any]:
    row = {
        "model": model,
        "scope": "model",
        "experiment": None,
        "claim": claim,
        "name": "few weights carry it",
        "statistic": "nll_added",
        "variant": "shared",
        "value": 0.26,
        "low": 0.21,
        "high": 0.32,
        "n": 49,
        "threshold": 0.05,
        "verdict": verdict,
        "why": None,
    }
    return {**row, **changes}


def _whole(claim: int, verdict: str, model: str = "smol", **changes: Any) -> list[dict[str, Any]]:
    """A row of every number of a claim, of which the first has the verdict, the others support."""
    numbers = [one for one in REGISTRY if one.number == claim]
    verdicts = [verdict, *[SUPPORTED] * (len(numbers) - 1)]
    return [
        _row(claim, own, model, name=one.name, statistic=one.statistic, **changes)
        for one, own in zip(numbers, verdicts, strict=True)
    ]


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Invented":
    return Invented(tmp_path, monkeypatch)


class Invented:
    """A finished study of which there is nothing but its claims."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tables = folder / "tables"
        self.tables.mkdir()
        # The commands take a study's config; what they read of it is where its results are.
        study = type("Study", (), {"folder": folder})
        monkeypatch.setattr("lesion.cli.report.read_study", lambda *_, **__: study)

    def write(
        self,
        rows: Sequence[dict[str, Any]],
        models: Sequence[str] = ("smol",),
        notices: Sequence[str] = (),
    ) -> Path:
        pl.DataFrame(rows, schema=CLAIMS).write_parquet(self.tables / "claims.parquet")
        about = {
            "format": FORMAT,
            "study": "invented",
            "version": "0.1.0",
            "confidence": 0.95,
            "config": {"training_stages": {"family": [["base"], ["tuned-0", "tuned-1"]]}},
            "headline": {},
        }
        digests = {name: {"digest": "9f" * 32, "notices": [*notices]} for name in models}
        (self.tables / "study.json").write_text(json.dumps({**about, "models": digests}))
        return self.tables

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(cli.app, ["verdicts", *arguments], catch_exceptions=False)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([], CANNOT_TELL),
        ([SUPPORTED, SUPPORTED], SUPPORTED),
        ([SUPPORTED, CANNOT_TELL], CANNOT_TELL),
        ([CANNOT_TELL, NOT_SUPPORTED, SUPPORTED], NOT_SUPPORTED),
    ],
)
def test_several_verdicts_come_to_the_worst(found: list[str], expected: str) -> None:
    assert together(found) == expected


@pytest.mark.parametrize(
    ("rows", "require", "code"),
    [
        ([(3, SUPPORTED), (6, SUPPORTED)], "", 0),
        ([(3, SUPPORTED), (6, NOT_SUPPORTED)], "", 1),
        ([(3, SUPPORTED), (6, NOT_SUPPORTED)], "3", 0),
        ([(3, SUPPORTED), (6, CANNOT_TELL)], "3,6", 3),
        ([(3, NOT_SUPPORTED), (6, CANNOT_TELL)], "3, 6", 1),
        ([(3, SUPPORTED), (3, CANNOT_TELL)], "3", 3),
        ([(3, SUPPORTED)], "3,5", 3),
        ([], "", 3),
    ],
)
@pytest.mark.parametrize("form", ["text", "json"])
def test_exit_codes(
    study: Invented, rows: list[tuple[int, str]], require: str, code: int, form: str
) -> None:
    study.write([row for claim, verdict in rows for row in _whole(claim, verdict)])
    done = study.run("--require", require, "--format", form)
    assert done.exit_code == code
    if form == "json":
        assert json.loads(done.stdout)["exit_code"] == code


def test_errors_are_two(study: Invented, monkeypatch: pytest.MonkeyPatch) -> None:
    study.write([_row(3, SUPPORTED)])
    assert study.run("--format", "xml").exit_code == 2
    monkeypatch.setattr("sys.argv", ["lesion", "verdicts", "--require", "9"])
    with pytest.raises(SystemExit) as error:
        cli.main()
    assert error.value.code == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--require", "three"), "'three' must be numbers of claims, such as 3,6"),
        (("--require", "3,9"), "there is no claim 9. The claims are 1 to 8"),
        (("--model", "other"), "the study has no model 'other'. Its models are smol"),
    ],
)
def test_what_is_asked_for_has_to_be_there(
    study: Invented, arguments: tuple[str, str], words: str
) -> None:
    study.write([_row(3, SUPPORTED)])
    with pytest.raises(LesionError, match=words):
        study.run(*arguments)


def test_a_study_without_its_tables(study: Invented) -> None:
    with pytest.raises(BadFile, match=r"study\.json: is missing. Run `snakemake` again"):
        study.run()
    study.write([_row(3, SUPPORTED)])
    path = study.tables / "study.json"
    path.write_text(json.dumps({"format": FORMAT, "study": "invented", "models": {}}))
    with pytest.raises(BadFile, match="lacks `confidence`"):
        study.run()


def test_tables_of_another_version_are_refused(study: Invented) -> None:
    """The claims of one have the same columns, but a family's are not found in them."""
    path = study.write([_row(3, SUPPORTED)]) / "study.json"
    about = json.loads(path.read_text())
    for other in ({}, {"format": FORMAT - 1}):
        path.write_text(json.dumps({**about, "format": None, **other}))
        with pytest.raises(BadFile, match="is of another version of lesion"):
            study.run()


def test_every_model_has_to_stand_the_claim(study: Invented) -> None:
    rows = [
        _whole(3, SUPPORTED, "one"),
        _whole(3, NOT_SUPPORTED, "two"),
        _whole(6, SUPPORTED, "one"),
    ]
    tables = study.write([row for own in rows for row in own], models=["one", "two"])
    assert gate(tables).exit_code == 1
    assert gate(tables, model="one").exit_code == 0
    # Measured of one model alone: for the other nobody can tell.
    assert gate(tables, [6]).exit_code == 3
    assert [one.verdict for one in gate(tables, [6]).models] == [SUPPORTED, CANNOT_TELL]


def test_a_family_s_claim_counts_for_its_last_stage(study: Invented) -> None:
    models = ["base", "tuned-0", "tuned-1"]
    (family,) = _whole(4, NOT_SUPPORTED, "family", scope="family")
    gated = gate(study.write([family], models=models), [4])
    verdicts = {model.model: model.verdict for model in gated.models}
    assert verdicts == {"base": CANNOT_TELL, "tuned-0": NOT_SUPPORTED, "tuned-1": NOT_SUPPORTED}
    # A model of this name has its own claims: the scope tells the two apart.
    (own,) = _whole(4, SUPPORTED, "family")
    gated = gate(study.write([family, own], models=[*models, "family"]), [4], "family")
    assert [model.verdict for model in gated.models] == [SUPPORTED]


def test_the_json(study: Invented) -> None:
    number, name, statistic = SIX
    worse = _row(number, CANNOT_TELL, name=name, statistic=statistic, low=-math.inf, high=math.nan)
    study.write([*_whole(3, SUPPORTED), worse])
    text = study.run("--format", "json", "--require", "3").stdout
    found = json.loads(text)
    assert "NaN" not in text
    assert "Infinity" not in text
    model = found.pop("models")[0]
    assert found == {
        "format": 2,
        "study": "invented",
        "lesion": "0.1.0",
        "confidence": 0.95,
        "required": [3],
        "notices": [],
        "verdict": "supported",
        "exit_code": 0,
    }
    assert model["digest"] == "9f" * 32
    three, six = model["claims"]
    assert (three["claim"], three["required"], three["verdict"]) == (3, True, "supported")
    assert (six["claim"], six["required"], six["verdict"]) == (6, False, "can't tell")
    assert three["unmeasured"] == []
    assert six["unmeasured"] == [
        "still tells harmful requests",
        "still explains why",
        "still refuses",
    ]
    assert six["statistics"] == [
        {
            "experiment": None,
            "name": name,
            "statistic": statistic,
            "variant": "shared",
            "value": 0.26,
            "low": None,
            "high": None,
            "n": 49,
            "threshold": 0.05,
            "verdict": "can't tell",
            "why": None,
        }
    ]


def test_the_text_is_plain_and_narrow(study: Invented) -> None:
    number, name, statistic = SIX
    few = _row(1, SUPPORTED, statistic="halving_share", value=8.7e-5, low=8e-5, high=9e-5)
    rows = [
        {**few, "threshold": 1e-3},
        _row(number, NOT_SUPPORTED, name=name, statistic=statistic, value=-0.1, low=-0.2),
    ]
    study.write(rows)
    text = study.run("--require", "1,5").stdout
    assert "\x1b" not in text
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= 80
    assert "halving_share, shared" in text
    assert "0.0087% [0.008%, 0.009%]" in text
    assert "n = 49, threshold 0.1%" in text
    assert "not measured by this study" in text
    assert "6*" in text
    assert "-0.100 [-0.200, 0.320]" in text
    assert text.splitlines()[-1] == "invented, claims 1, 5: can't tell"


NOTICE = "The limit on benign loss was lifted: `masks.max_benign_increase` is 1000."


def test_what_has_to_be_said_comes_before_any_verdict(study: Invented) -> None:
    rows = [_row(1, CANNOT_TELL, "two", why="The limit was lifted."), _row(1, SUPPORTED, "one")]
    study.write(rows, models=["one", "two"], notices=[NOTICE])
    text = study.run().stdout
    assert text.isascii()
    said = " ".join(text.split())
    for model in ("one", "two"):
        assert f"{model}: {NOTICE}" in said
        assert said.index(f"{model}: {NOTICE}") < said.index("supported")
    # In the row itself, why it can't be told.
    assert "The limit was lifted." in said
    done = study.run("--format", "json", "--model", "two")
    found = json.loads(done.stdout)
    assert found["notices"] == [{"model": "two", "notice": NOTICE}]
    assert done.stdout.index('"notices"') < done.stdout.index('"verdict"')
    assert found["models"][0]["claims"][0]["statistics"][0]["why"] == "The limit was lifted."


@pytest.mark.parametrize(
    ("numbers", "shown"),
    [
        ((-3.5e-8, -3.5e-8, -3.4e-8), "0.000 [0.000, 0.000]"),
        ((1e-4, -2e-4, 3e-4), "0.0001 [-0.0002, 0.0003]"),
        ((0.012, 0.0, 0.02), "0.012 [0.000, 0.020]"),
    ],
)
def test_a_number_that_is_something_is_not_shown_as_nothing(
    numbers: tuple[float, float, float], shown: str
) -> None:
    value, low, high = numbers
    row = _row(1, CANNOT_TELL, value=value, low=low, high=high)
    assert number_text(row) == shown


def test_the_docs_show_every_key(study: Invented) -> None:
    study.write([_row(6, CANNOT_TELL)], notices=["The limit was lifted."])
    text = (ROOT / "docs" / "how-to" / "gate.md").read_text(encoding="utf-8")
    shown = json.loads(text.split("```json\n")[1].split("```")[0])
    assert _keys(shown) == _keys(json.loads(study.run("--format", "json").stdout))


def _keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _keys(one) for name, one in value.items()}
    return [_keys(one) for one in value if isinstance(one, dict)] if isinstance(value, list) else ()


@pytest.mark.parametrize("number", [3, 6, 7])
def test_what_was_not_measured_supports_nothing(study: Invented, number: int) -> None:
    whole = _whole(number, SUPPORTED)
    assert gate(study.write(whole), [number]).verdict == SUPPORTED
    for left_out in whole:
        rest = [row for row in whole if row is not left_out]
        found = gate(study.write(rest), [number])
        assert found.verdict == CANNOT_TELL
        (name,) = found.models[0].claims[0].unmeasured
        alike = [row for row in whole if row["name"] == left_out["name"]]
        by = f", by {left_out['statistic'].replace('_', ' ')}" if len(alike) > 1 else ""
        assert name == left_out["name"] + by
    assert "not measured by this study:" in study.run("--require", str(number)).stdout
    # What is not supported is so without the rest.
    refuted = gate(study.write(_whole(number, NOT_SUPPORTED)[:1]), [number])
    assert refuted.verdict == NOT_SUPPORTED


def test_small_masks_need_no_curve(study: Invented) -> None:
    rows = [row for row in _whole(1, SUPPORTED) if row["statistic"] != "halving_share"]
    assert gate(study.write(rows), [1]).verdict == SUPPORTED
    assert gate(study.write(rows[:1]), [1]).verdict == CANNOT_TELL


def test_every_experiment_and_arm_is_compared_with_random_weights(study: Invented) -> None:
    """Claim 5 says that an ablation prevents more than a random one does."""
    by_training, less, more = (one for one in REGISTRY if one.number == 5)

    def rows(experiment: str, *arms: str) -> list[dict[str, Any]]:
        of_arms = [(by_training, "unmodified"), *((less, arm) for arm in arms)]
        about = {"scope": "experiment", "experiment": experiment}
        return [
            _row(5, SUPPORTED, statistic=one.statistic, variant=arm, **about)
            for one, arm in of_arms
        ]

    def beyond(experiment: str, arm: str) -> dict[str, Any]:
        about = {"scope": "experiment", "experiment": experiment}
        return _row(5, SUPPORTED, statistic=more.statistic, variant=arm, **about)

    one = [*rows("one", "shared"), beyond("one", "shared")]
    assert gate(study.write(one), [5]).verdict == SUPPORTED
    assert gate(study.write(rows("one")), [5]).verdict == CANNOT_TELL
    for missing in ([*one, *rows("two", "shared")], [*one, *rows("one", "shared-after")[1:]]):
        found = gate(study.write(missing), [5])
        assert found.verdict == CANNOT_TELL
        (name,) = found.models[0].claims[0].unmeasured
        assert "more than at random" in name


@pytest.mark.parametrize("command", ["verdicts", "compare"])
def test_help_has_an_example(command: str) -> None:
    done = CliRunner().invoke(cli.app, [command, "--help"])
    assert f"Example: lesion {command}" in " ".join(done.stdout.split())
