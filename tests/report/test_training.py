"""Models that a study trained: losses, stages of a family, and what comes back."""

import json
from pathlib import Path

import polars as pl
import pytest

from lesion.io.formats import BadFile
from lesion.report.figures.all import write_figures
from lesion.report.figures.retraining import experiments, misaligned, recovery, recovery_table
from lesion.report.figures.training import stages, training
from lesion.report.page import write_report
from lesion.report.verdicts import Finding, family_findings, findings_of
from lesion.tables.claims.claim import Conclusion, as_many
from lesion.tables.claims.registry import REGISTRY
from lesion.tables.intervals import Estimate
from lesion.tables.read import StudyTables, read_study_tables
from lesion_testing.invented import Shape, write_study


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("trained") / "tables", Shape(trained=True))


@pytest.fixture(scope="module")
def found(trained: Path) -> StudyTables:
    return read_study_tables(trained)


def _data(spec: dict[str, object], field: str) -> list[dict[str, object]]:
    datasets = spec["datasets"]
    assert isinstance(datasets, dict)
    return next(rows for rows in datasets.values() if rows and field in rows[0])


def test_losses_are_means_over_stretches(found: StudyTables) -> None:
    figure = training(found.training)
    assert figure is not None
    points = _data(figure.spec(), "loss")
    assert max(sum(one["model"] == name for one in points) for name in ("base", "light-1")) <= 120
    # The longest has 1,500 steps, so that a point is 13 of them.
    first = points[0]
    own = found.training.filter(model="base").sort("step").head(13)
    assert (first["step"], first["examples"]) == (13, 104)
    assert first["loss"] == pytest.approx(own["loss"].mean(), abs=1e-4)
    last = figure.numbers.rows()[-1]
    assert last[:5] == ("strong-1", "light-1", "dpo", "150", "1,200")
    assert training(found.training.clear()) is None


def test_stages_are_in_order_with_both_masks(found: StudyTables) -> None:
    figure = stages(found.stages, "0.1", 0.95)
    assert figure is not None
    points = _data(figure.spec(), "written")
    assert {(one["stage"], one["variant"]): one["value"] for one in points} == {
        ("1. base", "shared"): 0.31,
        ("2. light", "shared"): 0.39,
        ("3. strong", "shared"): 0.52,
        ("1. base", "random"): 0.09,
        ("2. light", "random"): 0.1,
        ("3. strong", "random"): 0.09,
    }
    assert figure.numbers.row(2)[:5] == (
        *("strong", "shared", "2", "0.52 [0.47, 0.57]", "0.21 [0.15, 0.27]"),
    )
    assert "0.1 nats per token" in figure.caption.means
    assert stages(found.stages.clear(), "0.1", 0.95) is None


def test_recovery_has_every_arm_and_step(found: StudyTables) -> None:
    rows = found.retraining.filter(experiment="recovery")
    figure = recovery(rows, 0.95)
    assert figure is not None
    points = _data(figure.spec(), "examples")
    assert len(points) == 4 * 6
    assert figure.numbers.columns[1:] == ["unmodified", "shared", "shared-frozen", "random"]
    assert figure.numbers.row(0) == (
        *("0", "0.74 [0.70, 0.78]", "1.07 [1.03, 1.11]", "1.07 [1.03, 1.11]", "0.74 [0.70, 0.78]"),
    )
    assert recovery_table(rows).rows()[0] == (
        *("shared", "1.07 [1.03, 1.11]", "0.44 [0.40, 0.48]", "91% [83%, 99%]", "11 [8, 14]"),
        "91 [67, 115]",
    )
    assert recovery_table(rows).rows()[-1][3:] == ("–", "–", "–")
    assert misaligned(rows, 0.95) is None


def test_misaligned_answers_are_those_after_the_training(found: StudyTables) -> None:
    rows = found.retraining.filter(experiment="advice")
    figure = misaligned(rows, 0.95)
    assert figure is not None
    assert figure.numbers.rows()[:3] == [
        ("unmodified, untrained", "4.0% [1.0%, 7.0%]", "6.0% [3.0%, 9.0%]"),
        ("unmodified", "22% [19%, 25%]", "81% [78%, 84%]"),
        ("savings", "9.0% [6.0%, 12%]", "77% [74%, 80%]"),
    ]
    assert figure.numbers.row(-1)[0] == "random"
    assert recovery(rows, 0.95) is None


def test_experiments_without_numbers_are_left_out(found: StudyTables) -> None:
    assert [one.name for one in experiments(found.retraining, 0.95)] == ["recovery", "advice"]
    unknown = found.retraining.with_columns(value=None, low=None, high=None)
    assert experiments(unknown.cast(found.retraining.schema), 0.95) == []


def _of(found: StudyTables, statistic: str, variant: str) -> Finding:
    (one,) = (
        one
        for one in findings_of(found, "smol")
        if (one.statistic, one.variant) == (statistic, variant)
    )
    return one


@pytest.mark.parametrize(
    ("statistic", "variant", "words"),
    [
        ("recovered_share", "shared", "91% [83%, 99%], n = 60, of the NLL that the ablation added"),
        ("recovered_share", "shared", "0.44 [0.40, 0.48] nats per token, against 0.41 [0.37, 0.4"),
        (
            "recovered_share",
            "shared",
            "Half of it was removed after 11 [8, 14] steps (91 examples).",
        ),
        (
            "misaligned_change_by_training",
            "unmodified",
            "goes from 4.0% [1.0%, 7.0%] to 22% [19%, 25%]",
        ),
        ("misaligned_change", "savings", "9.0% [6.0%, 12%], against 22% [19%, 25%] without an a"),
        (
            "misaligned_change",
            "savings",
            "−13.0 points [−19.0, −7.0], n = 72. For narrow questions it is 77",
        ),
    ],
)
def test_a_sentence_has_the_numbers(
    found: StudyTables, statistic: str, variant: str, words: str
) -> None:
    one = _of(found, statistic, variant)
    assert one.answer is Conclusion.YES
    assert words in one.sentence


def test_a_question_says_what_was_done_when(found: StudyTables) -> None:
    asked = [one.question for one in findings_of(found, "smol") if one.claim in (5, 8)]
    assert asked == [
        "Does training reverse the effect of zeroing “shared”?",
        "Does training reverse the effect of zeroing “shared” (and keeping it zero)?",
        "Does the narrow training make answers to broad questions misaligned?",
        "Does zeroing “savings” before training reduce the misalignment?",
        "Does zeroing “savings” after training reduce the misalignment?",
    ]
    assert _of(found, "recovered_share", "shared").topic == "Retraining: recovery"


def test_random_weights_are_counted_where_they_are_not_as_many(found: StudyTables) -> None:
    tables = found.of("smol")
    assert as_many(tables, "shared") == as_many(tables, "savings") == "as many"
    own = tables.where.filter(mask="shared").with_columns(mask=pl.lit("savings"))
    larger = own.with_columns(pl.col("weights") * 2)
    size = int(own["weights"].sum())
    assert as_many(tables._replace(where=pl.concat([tables.where, own])), "savings") == "as many"
    unlike = tables._replace(where=pl.concat([tables.where, larger]))
    assert as_many(unlike, "savings") == f"{size:,}"
    (claim,) = (one for one in REGISTRY if one.statistic == "misaligned_beyond_random")
    sentence = claim.text(Estimate(-0.1, -0.2, -0.05, 72), unlike, "savings-after")
    assert f" with {size:,} random weights zeroed after training, a difference of " in sentence
    before = claim.text(Estimate(-0.1, -0.2, -0.05, 72), unlike, "savings")
    assert f" with {size:,} random weights zeroed before training, a difference of " in before


def test_where_nothing_was_misaligned_there_was_nothing_to_prevent(found: StudyTables) -> None:
    verdict = pl.when(statistic="misaligned_change").then(pl.lit("can't tell")).otherwise("verdict")
    why = (
        pl.when(verdict="can't tell").then(pl.lit("There was nothing to prevent.")).otherwise("why")
    )
    claims = found.claims.with_columns(verdict=verdict).with_columns(why=why)
    unsure = found._replace(claims=claims)
    one = _of(unsure, "misaligned_change", "savings")
    assert one.answer is Conclusion.UNCLEAR
    assert one.sentence.endswith(" There was nothing to prevent.")


def test_the_stages_of_a_family_have_a_verdict(found: StudyTables) -> None:
    (one,) = family_findings(found, "alignment")
    assert one.answer is Conclusion.YES
    assert (
        "harmful ones lose 0.31 [0.26, 0.36] in base and 0.52 [0.47, 0.57] in strong, a change of "
        "0.21 nats per token [0.15, 0.27], n = 60. With as many random weights it is 0.000 [−0.06"
    ) in one.sentence
    unreached = pl.lit("There it was not reached.")
    claims = found.claims.with_columns(verdict=pl.lit("can't tell"), why=unreached)
    turned = found._replace(claims=claims)
    assert "it was not reached" in family_findings(turned, "alignment")[0].sentence


def test_the_page_shows_what_was_trained(trained: Path, tables: Path, tmp_path: Path) -> None:
    words = ("Stages of alignment", "Retraining", "How did the training losses develop?", "undone")
    pages = []
    for folder in (trained, tables):
        out = tmp_path / f"{len(pages)}.html"
        write_report(folder, out, 0)
        pages.append(out.read_text(encoding="utf-8"))
    assert all(word in pages[0] for word in words)
    assert not any(word in pages[1] for word in words)
    assert pages[0].count("<figure") == pages[1].count("<figure") + 4


def test_every_figure_has_its_files(trained: Path, tmp_path: Path) -> None:
    write_figures(trained, tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    for name in (
        *("alignment-stages", "smol-misaligned-advice", "smol-retraining-recovery", "training"),
    ):
        assert {f"{name}.svg", f"{name}.png"} <= names


def test_an_experiment_cannot_leave_the_folder(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "tables", Shape(trained=True))
    path = folder / "retraining.parquet"
    pl.read_parquet(path).with_columns(experiment=pl.lit("../x")).write_parquet(path)
    with pytest.raises(
        BadFile, match=r"retraining\.parquet: '\.\./x' is not a valid experiment name"
    ):
        read_study_tables(folder)


def test_a_trained_model_says_what_it_was_made_from(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "tables", Shape(models=["base", "light"]))
    path = folder / "study.json"
    study = json.loads(path.read_text())
    study["config"]["models"] = {
        "base": {"source": None, "new": {}, "train": {"steps": 1}},
        "light": {"source": None, "base": "base", "train": {"steps": 1}},
    }
    path.write_text(json.dumps(study))
    write_report(folder, tmp_path / "index.html", 0)
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "trained here from random weights" in text
    assert "trained here from base" in text
