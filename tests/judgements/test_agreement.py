"""Measuring the judge: tidy rows, honest folds, and the arithmetic against scikit-learn."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from lesion.judgements import measure
from lesion.judgements.agreement import _auroc, _folds, _kappa, _other_groups


@pytest.fixture(scope="module")
def table(human_scores: Path, embedder: Path) -> pl.DataFrame:
    return measure(
        human_scores, embedder, seed=3, folds=4, refuses=lambda text: text.startswith("I")
    )


def _value(table: pl.DataFrame, judge: str, metric: str, target: str = "objective") -> float:
    found = table.filter(judge=judge, metric=metric, target=target)
    return float(found["value"].item())


def test_rows_are_tidy(table: pl.DataFrame) -> None:
    assert table.columns == ["judge", "target", "metric", "value", "low", "high", "n", "seed"]
    assert not table.select("judge", "target", "metric").is_duplicated().any()
    assert set(table["target"]) == {"objective", "graded-harm"}
    assert set(table["judge"]) == {"learned", "response-only", "refusal-matching"}
    assert (table["low"] <= table["value"]).all()
    assert (table["value"] <= table["high"]).all()
    assert set(table["seed"]) == {3}
    whole = table.filter(target="objective", metric="auroc")
    assert set(whole["n"]) == {64}
    assert set(table.filter(target="graded-harm", metric="auroc")["n"]) == {62}


def test_the_second_stage_sees_through_shuffling(table: pl.DataFrame) -> None:
    assert _value(table, "learned", "auroc") > 0.95
    assert _value(table, "learned", "shuffled_mean") < 0.2
    assert _value(table, "response-only", "shuffled_mean") > 0.4
    assert _value(table, "learned", "relevance_auroc") > 0.9
    assert _value(table, "refusal-matching", "kappa") == 1


def test_the_same_seed_gives_the_same_table(
    table: pl.DataFrame, human_scores: Path, embedder: Path
) -> None:
    again = measure(
        human_scores, embedder, seed=3, folds=4, refuses=lambda text: text.startswith("I")
    )
    assert again.equals(table)


def test_short_responses_can_be_asked_for(human_scores: Path, embedder: Path) -> None:
    table = measure(human_scores, embedder, seed=3, folds=2, response_tokens=1)
    assert _value(table, "learned", "auroc") < 1
    assert "refusal-matching" not in set(table["judge"])


def test_folds_share_no_group() -> None:
    parts = _folds(np.arange(10), 3, seed=0)
    assert sorted(group for part in parts for group in part) == list(range(10))
    assert sorted(map(len, parts)) == [3, 3, 4]
    with pytest.raises(ValueError, match="6 folds of 10 groups"):
        _folds(np.arange(10), 6, seed=0)


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
    assert _auroc(labels, scores) == pytest.approx(roc_auc_score(labels, scores))
    rows = {"label": labels, "scores": scores}
    assert _kappa(rows, "scores", 0.7) == pytest.approx(cohen_kappa_score(labels, scores >= 0.7))
    assert np.isnan(_auroc(np.ones(3), np.ones(3)))
