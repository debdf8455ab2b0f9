"""The verdicts: they are the table's, with the number, and say why when there is none."""

from pathlib import Path

import polars as pl
import pytest

from lesion.report.verdicts import Finding, findings_of, tally
from lesion.tables.claims.claim import Conclusion
from lesion.tables.claims.table import retraining_claims
from lesion.tables.read import StudyTables, read_study_tables
from lesion_testing.invented import Shape, write_study
from lesion_testing.retrained import retrainings

ANSWERS = {
    "supported": {Conclusion.YES, Conclusion.LOWERS},
    "not supported": {Conclusion.NO, Conclusion.RAISES},
    "can't tell": {Conclusion.UNCLEAR},
}


@pytest.fixture(scope="module")
def found(tables: Path) -> StudyTables:
    return read_study_tables(tables)


def _of(found: StudyTables, statistic: str, variant: str | None = "shared") -> Finding:
    (one,) = (
        one
        for one in findings_of(found, "smol")
        if (one.statistic, one.variant) == (statistic, variant)
    )
    return one


def _held(found: StudyTables, statistic: str, **new: object) -> StudyTables:
    """The tables with other values in the row of a claim."""
    there = pl.col("statistic") == statistic
    columns = [
        pl.when(there).then(pl.lit(value)).otherwise(name).alias(name)
        for name, value in new.items()
    ]
    return found._replace(claims=found.claims.with_columns(columns))


def test_every_row_of_the_claims_is_answered_as_it_is(found: StudyTables) -> None:
    verdicts = {(one.claim, one.statistic, one.variant): one for one in findings_of(found, "smol")}
    rows = found.claims.rows(named=True)
    assert len(rows) == len(verdicts) == 14
    for row in rows:
        one = verdicts[row["claim"], row["statistic"], row["variant"]]
        assert one.answer in ANSWERS[row["verdict"]]
        assert one.number == tuple(row[name] for name in ("value", "low", "high", "n"))
        assert f"n = {row['n']}" in one.sentence


@pytest.mark.parametrize(
    ("statistic", "words"),
    [
        (
            "halving_share",
            "9,187 weights, 0.063% of the candidate weights [0.055%, 0.072%], n = 60",
        ),
        ("nll_added", "Zeroing 684 of 14,598,144 candidate weights (0.0047%) adds 0.33 nats per"),
        ("harmfulness_change", "goes from 0.62 [0.57, 0.67] to 0.19 [0.14, 0.24], a change of −0"),
        (
            "harm_minus_benign_nll_added",
            "is 0.26 nats per token [0.23, 0.29], n = 120 (0.33 [0.31, ",
        ),
        ("coherence_change", "goes from 0.93 [0.88, 0.98] to 0.93 [0.88, 0.98], a change of −0.01"),
        (
            "accuracy_change",
            "0.3 points [−1.7, 2.3], n = 500. A loss of less than 5.0 points counts",
        ),
        ("harm_minus_explain_nll_added", "is 0.23 nats per token [0.19, 0.27], n = 70 ("),
    ],
)
def test_a_sentence_has_the_numbers(found: StudyTables, statistic: str, words: str) -> None:
    assert words in _of(found, statistic).sentence


def test_transfer_counts_the_clear_cases(found: StudyTables) -> None:
    assert "In 20 of 20 cases" in _of(found, "transfer_share", None).sentence
    flat = found.measurements.with_columns(
        p_adjusted=pl.when(variant="privacy", metric="nll_added").then(0.06).otherwise("p_adjusted")
    )
    sentence = _of(found._replace(measurements=flat), "transfer_share", None).sentence
    assert "In 16 of 20 cases" in sentence


def test_unclear_says_what_could_have_been_seen(found: StudyTables) -> None:
    one = _of(found, "detect_auroc_change")
    assert one.answer is Conclusion.UNCLEAR
    assert (
        "The interval includes −0.046; the minimum detectable effect is 0.086 (80%" in one.sentence
    )


def test_unclear_says_that_there_was_nothing_to_lose(found: StudyTables) -> None:
    one = _of(found, "refusal_rate_change")
    assert one.answer is Conclusion.UNCLEAR
    assert one.sentence.endswith(
        "The unmodified model refuses too few requests to show that refusal is kept."
    )


def test_unclear_of_an_open_interval(found: StudyTables) -> None:
    open_above = {"high": None, "verdict": "can't tell", "why": None}
    one = _of(_held(found, "halving_share", **open_above), "halving_share")
    assert one.sentence.endswith("The interval is unbounded on one side.")


def test_no_size_that_halves_harm_is_an_answer(found: StudyTables) -> None:
    row = pl.col("family") == "shared"
    none = found.halving.with_columns(
        beyond=row | pl.col("beyond"), halving=pl.when(~row).then("halving")
    )
    held = _held(found, "halving_share", value=None, high=None, verdict="not supported")
    one = _of(held._replace(halving=none), "halving_share")
    assert one.answer is Conclusion.NO
    assert (
        "Zeroing the largest measured mask, 38,461 weights (0.3% of the candidates), never halve"
        in (one.sentence)
    )


def test_direction_is_a_word_of_its_own(found: StudyTables) -> None:
    assert _of(found, "harmfulness_change").answer is Conclusion.LOWERS
    turned = _held(
        found, "harmfulness_change", value=0.2, low=0.1, high=0.3, verdict="not supported"
    )
    assert _of(turned, "harmfulness_change").answer is Conclusion.RAISES
    # Surely less than counts is neither.
    little = _held(
        found, "harmfulness_change", value=0.0, low=-0.01, high=0.01, verdict="not supported"
    )
    assert _of(little, "harmfulness_change").answer is Conclusion.NO
    unsure = _held(found, "harmfulness_change", value=0.0, low=-0.1, high=0.1, verdict="can't tell")
    assert "The interval includes −0.050" in _of(unsure, "harmfulness_change").sentence


def test_of_nothing_there_is_no_multiple(found: StudyTables) -> None:
    apart = "harm_minus_benign_nll_added"
    assert "4.1×" in _of(found, apart).sentence
    none = found.measurements.with_columns(
        low=pl.when(level="total", role="benign", metric="nll_added").then(-0.1).otherwise("low")
    )
    assert "×" not in _of(found._replace(measurements=none), apart).sentence


def test_what_was_not_measured_names_the_key(tmp_path: Path) -> None:
    found = read_study_tables(write_study(tmp_path, Shape(harm=["physical"], whole=False)))
    for statistic, variant, key in (
        ("halving_share", "shared", "`curve.families`"),
        ("transfer_share", None, "two harm types"),
        ("accuracy_change", "shared", "`utility.tasks`"),
        ("detect_auroc_change", "shared", "`understanding.minimal_pairs`"),
    ):
        one = _of(found, statistic, variant)
        assert one.answer is Conclusion.UNMEASURED
        assert one.number is None
        assert key in one.sentence
    assert tally(findings_of(found, "smol"))[-1] == (Conclusion.UNMEASURED, 6)


def test_a_claim_of_an_effect_says_how_small_one_counts(found: StudyTables) -> None:
    for statistic in ("nll_added", "harm_minus_benign_nll_added", "harm_minus_refusal_nll_added"):
        sentence = _of(found, statistic).sentence
        assert "Less than 0.050 nats per token counts as no effect." in sentence
    assert "Less than 0.050 counts as no effect." in _of(found, "harmfulness_change").sentence


def test_unclear_says_what_else_stands_in_the_way(found: StudyTables) -> None:
    told = "All 60 prompts give the same value, up to rounding."
    changed = _held(found, "nll_added", verdict="can't tell", why=told)
    assert _of(changed, "nll_added").sentence.endswith(f" counts as no effect. {told}")


def test_equal_numbers_of_two_experiments_keep_their_experiment() -> None:
    again = pl.lit("again").alias("experiment")
    recovery = retrainings("smol").filter(experiment="recovery")
    own = retraining_claims("smol", pl.concat([recovery, recovery.with_columns(again)]))
    assert own.group_by("experiment", maintain_order=True).len().rows() == [
        ("recovery", 2),
        ("again", 2),
    ]
    assert set(own["scope"]) == {"experiment"}
    numbers = ("value", "low", "high")
    first, second = (own.filter(experiment=name) for name in ("recovery", "again"))
    assert first.select(numbers).equals(second.select(numbers))


def test_the_sentences_of_an_experiment_name_it(tmp_path: Path) -> None:
    found = read_study_tables(write_study(tmp_path / "tables", Shape(trained=True)))
    again = pl.lit("again").alias("experiment")
    shorter = found.retraining.with_columns(again, step=pl.col("step") // 2)
    experiment = found.claims["experiment"]
    both = found._replace(
        retraining=pl.concat([found.retraining, shorter]),
        claims=pl.concat(
            [found.claims, found.claims.filter(experiment.is_not_null()).with_columns(again)]
        ),
    )
    sentences = {
        (finding.topic, finding.variant): finding.sentence
        for finding in findings_of(both, "smol")
        if finding.claim == 8
    }
    assert "After 100 steps" in sentences["Retraining: recovery", "shared"]
    assert "After 50 steps" in sentences["Retraining: again", "shared"]


def test_sentences_are_about_the_headline_mask_whatever_its_name(found: StudyTables) -> None:
    def renamed(table: pl.DataFrame, column: str) -> pl.DataFrame:
        return table.with_columns(pl.col(column).replace("shared", "vote"))

    other = found._replace(
        measurements=renamed(found.measurements, "variant"),
        claims=renamed(found.claims, "variant"),
        halving=renamed(found.halving, "family"),
        where=renamed(found.where, "mask"),
        study={**found.study, "headline": {"mask": "vote", "control": "random"}},
    )
    wanted = {
        one.statistic: one.sentence.replace("the shared mask", "the mask vote")
        for one in findings_of(found, "smol")
    }
    assert {one.statistic: one.sentence for one in findings_of(other, "smol")} == wanted
    assert {one.variant for one in findings_of(other, "smol")} >= {"vote", "random", "refusal"}
    # What was not measured asks for this mask too.
    unmeasured = findings_of(other._replace(claims=other.claims.clear()), "smol")
    needs = [one.sentence for one in unmeasured]
    assert "Needs `vote` in `curve.families`." in needs
    assert not any("`shared`" in text for text in needs)
    assert any("zeroing the mask vote make" in one.question for one in unmeasured)
