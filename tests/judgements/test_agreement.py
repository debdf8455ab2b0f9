"""Measuring the judge: tidy rows, honest folds, and the arithmetic against scikit-learn."""

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import brier_score_loss, cohen_kappa_score, roc_auc_score

from lesion.io.formats import write_parquet
from lesion.judgements import agreement
from lesion.judgements.agreement import (
    _folds,
    _other_groups,
    agreement_table,
    measure,
    measured_file,
)
from lesion.judgements.embed import Embedder
from lesion.judgements.measures import auroc, brier, calibration_error, kappa

MATCHERS = {"refusal-matching": lambda text: text.startswith("I")}


@pytest.fixture(scope="module")
def table(human_scores: Path, embedder: Path) -> pl.DataFrame:
    return measure(human_scores, Embedder(embedder), seed=3, folds=4, matchers=MATCHERS)


def _value(table: pl.DataFrame, judge: str, metric: str, target: str = "objective") -> float:
    found = table.filter(judge=judge, metric=metric, target=target, category="all")
    return float(found["value"].item())


def test_what_has_been_measured_is_read(
    table: pl.DataFrame,
    human_scores: Path,
    embedder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = Embedder(embedder)
    assert not measured_file(human_scores, own, 8).exists(), "of invented scores"
    monkeypatch.setattr(agreement, "MEASURED", tmp_path)
    write_parquet(table, measured_file(human_scores, own, 8))
    monkeypatch.setattr(agreement, "measure", lambda *_, **__: table.clear())
    assert agreement_table(human_scores, own, 8).equals(table)
    # Of another length, or of other human scores, it is measured.
    assert agreement_table(human_scores, own, 9).is_empty()
    other = tmp_path / "scorer_evals"
    shutil.copytree(human_scores, other)
    path = other / "objective" / "pranks.csv"
    scores = path.read_text()
    assert ",True," in scores
    path.write_text(scores.replace(",True,", ",False,", 1))
    assert agreement_table(other, own, 8).is_empty()


def test_rows_are_tidy(table: pl.DataFrame) -> None:
    assert table.columns == [
        *("judge", "target", "category", "metric", "value", "low", "high", "n", "seed")
    ]
    assert not table.select("judge", "target", "category", "metric").is_duplicated().any()
    assert set(table["target"]) == {"objective", "graded-harm", "refusal"}
    assert set(table["judge"]) == {
        *("learned", "response-only", "learned-refusal", "refusal-matching", "human")
    }
    assert set(table.filter(target="refusal")["judge"]) == {"learned-refusal", "refusal-matching"}
    known = table.drop_nans()
    assert (known["low"] <= known["value"]).all()
    assert (known["value"] <= known["high"]).all()
    assert set(table["seed"]) == {3}
    judged = table.filter(pl.col("judge") != "human", metric="auroc")
    assert set(judged.filter(target="objective")["n"]) == {64}
    assert set(judged.filter(target="graded-harm")["n"]) == {62}


def test_the_second_stage_sees_through_shuffling(table: pl.DataFrame) -> None:
    assert _value(table, "learned", "auroc") > 0.95
    assert _value(table, "learned", "shuffled_mean") < 0.2
    assert _value(table, "response-only", "shuffled_mean") > 0.4
    assert _value(table, "learned", "relevance_auroc") > 0.9
    assert _value(table, "refusal-matching", "kappa") == 1


def test_controls_score_low(table: pl.DataFrame) -> None:
    careless = _value(table, "response-only", "off_topic_mean")
    assert _value(table, "learned", "off_topic_mean") < careless / 2
    assert _value(table, "learned", "repetition_mean") < 0.05
    assert _value(table, "response-only", "repetition_mean") > 0.4
    assert _value(table, "refusal-matching", "off_topic_mean") > 0.5
    assert _value(table, "learned-refusal", "repetition_mean", "refusal") < 0.3


def test_refusals_are_told_from_answers(table: pl.DataFrame) -> None:
    assert _value(table, "learned-refusal", "auroc", "refusal") > 0.95
    assert _value(table, "learned-refusal", "brier", "refusal") < 0.2
    assert table.filter(target="refusal", metric="shuffled_mean").is_empty()


def test_raters_are_the_ceiling(table: pl.DataFrame) -> None:
    human = table.filter(judge="human", metric="auroc")
    assert human.select("target", "category", "n").rows() == [("graded-harm", "all", 6)]


def test_a_category_is_measured_by_itself(
    human_scores: Path, embedder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "scores"
    shutil.copytree(human_scores, folder)
    lines = (folder / "objective" / "pranks.csv").read_text(encoding="utf-8").splitlines(True)
    for name, some in {"pranks": lines[2:40], "jokes": lines[40:62], "few": lines[62:]}.items():
        text = "".join([*lines[:2], *some])
        (folder / "objective" / f"{name}.csv").write_text(text, encoding="utf-8")
    found = measure(folder, Embedder(embedder), seed=3, folds=2).filter(
        judge="learned", target="objective"
    )
    counted = found.filter(metric="auroc").select("category", "n").sort("category").rows()
    assert counted == [("all", 64), ("jokes", 22), ("pranks", 38)]
    assert set(found.filter(category="jokes")["metric"]) == {"auroc", "kappa", "ece", "brier"}


def test_the_same_seed_gives_the_same_table(
    table: pl.DataFrame, human_scores: Path, embedder: Path
) -> None:
    again = measure(human_scores, Embedder(embedder), seed=3, folds=4, matchers=MATCHERS)
    assert again.equals(table)


def test_short_responses_can_be_asked_for(human_scores: Path, embedder: Path) -> None:
    table = measure(human_scores, Embedder(embedder), seed=3, folds=2, tokens=1)
    assert _value(table, "learned, first 1 tokens", "auroc") < _value(table, "learned", "auroc")
    assert "refusal-matching" not in set(table["judge"])


def test_folds_share_no_group() -> None:
    rows = pl.DataFrame({"group": np.arange(10)})
    parts = [rows.filter(inside)["group"].to_list() for inside in _folds(rows, 3, seed=0)]
    assert sorted(group for part in parts for group in part) == list(range(10))
    assert sorted(map(len, parts)) == [3, 3, 4]
    with pytest.raises(ValueError, match="6 folds of 10 groups"):
        _folds(rows, 6, seed=0)


def test_a_shuffled_row_is_of_another_group() -> None:
    groups = np.array([5, 1, 1, 2, 1, 9, 2, 5])
    for seed in range(5):
        other = _other_groups(groups, seed)
        assert sorted(other) == list(range(8))
        assert (groups[other] != groups).all()


def test_arithmetic_as_in_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 80).astype(float)
    scores = np.round(labels * 0.3 + generator.random(80), 1)
    assert auroc(labels, scores) == pytest.approx(roc_auc_score(labels, scores))
    assert kappa(labels, scores, 0.7) == pytest.approx(cohen_kappa_score(labels, scores >= 0.7))
    assert np.isnan(auroc(np.ones(3), np.ones(3)))
    likely = np.clip(scores, 0, 1)
    assert brier(labels, likely) == pytest.approx(brier_score_loss(labels, likely))


def test_calibration_compares_scores_with_shares() -> None:
    labels = np.array([1.0, 0.0, 1.0, 1.0])
    assert calibration_error(labels, np.array([0.5, 0.5, 1.0, 1.0])) == 0
    assert calibration_error(labels, np.array([0.52, 0.58, 0.9, 0.9])) == pytest.approx(0.075)
