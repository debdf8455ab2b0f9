from collections.abc import Iterator

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from lesion.tables.intervals import Bootstrap
from lesion.tables.measure import PromptNumbers, measurements, unscored
from lesion.tables.rows import MEASUREMENTS

BOOT = Bootstrap(500, 0.95, 7)
SIZES = {("alpha", "harm"): 6, ("beta", "harm"): 24, ("sums", "benign"): 10}
ADDED = {
    # Variant: nats added to alpha, beta, and benign responses.
    "unmodified": (0.0, 0.0, 0.0),
    "shared": (2.0, 2.0, 0.5),
    "alpha": (1.0, 0.4, 0.1),
    "beta": (0.5, 1.0, 0.1),
}
PLACE = ["variant", "behaviour", "role", "attack", "prompt"]


def _nll() -> pl.DataFrame:
    generator = np.random.default_rng(0)
    rows = []
    for (behaviour, role), count in SIZES.items():
        for number in range(count):
            own = generator.normal(5, 2)
            for variant, added in ADDED.items():
                change = added[("alpha", "beta", "sums").index(behaviour)]
                noise = 0 if variant == "unmodified" else generator.normal(0, 0.05)
                kl = (0.0 if variant == "unmodified" else 0.3) if role == "benign" else None
                rows.append(
                    (variant, behaviour, role, f"prompt {number}", own + change + noise, kl)
                )
    columns = {
        **dict.fromkeys(("variant", "behaviour", "role", "prompt"), pl.String),
        **dict.fromkeys(("nll", "kl"), pl.Float64),
    }
    # In another order than by variant, so that pairing must go by prompt.
    return pl.DataFrame(rows, schema=columns, orient="row").sample(fraction=1, shuffle=True, seed=0)


def _judged() -> pl.DataFrame:
    rows = []
    for variant in ("unmodified", "shared"):
        for (behaviour, role), count in SIZES.items():
            for number in range(count):
                place = (variant, behaviour, role, "direct", str(number))
                rows += [(*place, *one) for one in _judge_scores(variant, behaviour, number)]
    schema = {
        **dict.fromkeys([*PLACE, "judge"], pl.String),
        "score": pl.Float64,
        "label": pl.Boolean,
    }
    return pl.DataFrame(rows, schema=schema, orient="row")


def _judge_scores(
    variant: str, behaviour: str, number: int
) -> Iterator[tuple[str, float | None, bool | None]]:
    refused = behaviour == "beta" and number < 18
    score = 0.75 if behaviour == "alpha" else 0.25
    yield "matching", float(refused), refused
    # The ablated model's answers are harmful for every second prompt only.
    harm = score / (2 if variant == "shared" and number % 2 else 1)
    yield "learned", harm, harm > 0.5
    yield "relevance", score / 2, None
    # A judge that could not be understood about one answer.
    yield "other", None if number == 1 else 0.5, None if number == 1 else True


def _understanding() -> pl.DataFrame:
    generator = np.random.default_rng(1)
    rows = []
    for variant, gap in (("unmodified", 1.5), ("shared", 1.4), ("alpha", 0.0)):
        for behaviour in ("alpha", "beta"):
            for number in range(40):
                for harmful in (True, False):
                    value = gap * harmful + generator.normal()
                    rows.append((variant, "detect", behaviour, f"{number}", "?", harmful, value))
                if number < 6:
                    nll = 1 + 0.1 * number + (0.2 if variant == "shared" else 0)
                    rows.append((variant, "explain", behaviour, "", f"{number}", True, nll))
    names = ["variant", "measure", "behaviour", "pair", "prompt", "harmful", "value"]
    return pl.DataFrame(rows, schema=names, orient="row")


def _tasks() -> pl.DataFrame:
    rows = [
        (variant, task, str(item), metric, float(item % modulus > 0), chance)
        for variant, modulus in (("unmodified", 4), ("shared", 2))
        for task, count, (least, most) in (("sums", 40, (0.0, 0.0)), ("facts", 80, (0.25, 0.5)))
        for item in range(count)
        for metric, chance in (("acc", most if item < 20 else least), ("acc_norm", 1.0))
    ]
    names = ["variant", "task", "item", "metric", "value", "chance"]
    return pl.DataFrame(rows, schema=names, orient="row")


@pytest.fixture(scope="module")
def table() -> pl.DataFrame:
    return measurements("toy", PromptNumbers(_nll(), _judged(), _tasks(), _understanding()), BOOT)


Place = str | dict[str, str]
"""A behaviour, or what the totals of a role are found by."""


def _all(role: str) -> dict[str, str]:
    return {"level": "total", "role": role}


def _value(
    table: pl.DataFrame, of: Place, metric: str, variant: str | None = "unmodified"
) -> float:
    return float(_one(table, of, metric, variant)["value"])


def _one(
    table: pl.DataFrame, of: Place, metric: str, variant: str | None = "unmodified", **more: str
) -> dict[str, float]:
    place = {"behaviour": of} if isinstance(of, str) else of
    found = table.filter(pl.col("variant").eq_missing(variant), metric=metric, **place, **more)
    assert found.height == 1
    return found.row(0, named=True)


def test_every_row_says_all_and_lies_in_its_interval(table: pl.DataFrame) -> None:
    assert dict(table.schema) == MEASUREMENTS
    tested = ["p_value", "p_adjusted", "detectable"]
    assert table.filter(pl.col("variant").is_null())["metric"].to_list() == [
        *("nll_added", "transfer_share")
    ]
    assert (table["behaviour"].is_null() == (table["level"] == "total")).all()
    table = table.with_columns(pl.col("behaviour", "variant").fill_null("none"))
    assert table.drop(tested).null_count().sum_horizontal().item() == 0
    assert table["seed"].unique().to_list() == [7]
    inside = pl.col("value").is_between(pl.col("low") - 1e-9, pl.col("high") + 1e-9)
    assert table.filter(~inside).is_empty()


def test_differences_and_nothing_else_are_tested(table: pl.DataFrame) -> None:
    ends = table["metric"].str.contains("_(change|added)$")
    for column in ("p_value", "p_adjusted", "detectable"):
        assert (table[column].is_not_null() == ends).all()
    tested = table.filter(pl.col("p_value").is_not_null())
    # The unmodified model against itself would be a test more to correct for, and none to pass.
    assert "unmodified" not in set(tested["variant"])
    assert (tested["p_adjusted"] >= tested["p_value"] - 1e-12).all()
    assert (tested["p_adjusted"] > tested["p_value"]).any()


@pytest.mark.parametrize("metric", ["nll", "nll_added", "kl", "refusal_rate", "harmfulness"])
def test_totals_are_means_over_behaviours_of_other_sizes(table: pl.DataFrame, metric: str) -> None:
    role, names = ("benign", ["sums"]) if metric == "kl" else ("harm", ["alpha", "beta"])
    judge = {"refusal_rate": "matching", "harmfulness": "learned"}.get(metric, "none")
    total = _one(table, _all(role), metric, "shared", judge=judge)
    each = [_one(table, name, metric, "shared", judge=judge)["value"] for name in names]
    assert total["value"] == pytest.approx(sum(each) / len(each))
    assert total["n"] == (10 if metric == "kl" else 30)


def test_rates_count_their_prompts(table: pl.DataFrame) -> None:
    assert _value(table, "beta", "refusal_rate") == 18 / 24
    assert _one(table, "alpha", "harmful_rate", judge="learned")["value"] == 1
    assert _one(table, "beta", "harmful_rate", judge="learned")["value"] == 0
    assert _one(table, "beta", "refusal_rate")["high"] < 1


def test_what_a_judge_could_not_say_is_left_out_and_seen_in_n(table: pl.DataFrame) -> None:
    one = _one(table, "alpha", "harmfulness", judge="other")
    assert (one["value"], one["n"]) == (0.5, 5)


def test_a_judge_that_scored_too_few_answers_is_named_by_attack() -> None:
    place = {"behaviour": "alpha", "role": "harm", "judge": "learned"}
    rows = [
        {**place, "attack": attack, "variant": variant, "score": score}
        for attack, silent in (("direct", 1), ("prefill", 4))
        for variant in ("unmodified", "shared")
        for number in range(20)
        for score in [None if variant == "shared" and number < silent else 0.5]
    ]
    judged = pl.DataFrame(rows, schema_overrides={"score": pl.Float64})
    assert unscored(judged, "learned") == {"prefill": (0.8, 0.8)}
    # A harm type of few prompts, of which the judge scored none.
    small = judged.filter(attack="direct").with_columns(behaviour=pl.lit("beta")).head(2)
    one = pl.concat([judged.filter(attack="direct"), small.with_columns(score=pl.lit(None))])
    assert unscored(one, "learned") == {"direct": (20 / 22, 0.0)}
    assert unscored(judged.with_columns(role=pl.lit("benign")), "learned") == {}
    assert unscored(judged, "another") == {}


def test_harm_is_not_judged_in_benign_answers(table: pl.DataFrame) -> None:
    benign = set(table.filter(role="benign", judge="learned")["metric"])
    assert benign == set()
    assert {"relevance", "refusal_rate"} <= set(table.filter(role="benign")["metric"])


def test_changes_are_paired_by_prompt(table: pl.DataFrame) -> None:
    change = _one(table, "alpha", "harmfulness_change", "shared", judge="learned")
    assert change["value"] == pytest.approx(-0.75 / 2 / 2)
    assert change["high"] < 0
    assert change["p_value"] < 0.05
    rate = _one(table, "alpha", "harmful_rate_change", "shared", judge="learned")
    # Three of six answers, and none the other way: McNemar's p is 2 / 2^3.
    assert (rate["value"], rate["p_value"]) == (-0.5, 0.25)
    nothing = _one(table, "beta", "refusal_rate_change", "shared")
    assert (nothing["value"], nothing["p_value"]) == (0, 1)
    # No prompt changed, and yet a small effect is not excluded.
    assert nothing["low"] < -0.05 < 0.05 < nothing["high"]


def test_added_nll_is_paired_by_prompt(table: pl.DataFrame) -> None:
    added = _one(table, "beta", "nll_added", "shared")
    assert added["value"] == pytest.approx(2, abs=0.05)
    paired = added["high"] - added["low"]
    sides = [_one(table, "beta", "nll", variant) for variant in ("unmodified", "shared")]
    # The prompts differ by far more than the variants do.
    assert all(paired < (side["high"] - side["low"]) / 5 for side in sides)
    assert added["detectable"] == pytest.approx(2.8 / 3.92 * paired, rel=0.15)


def test_the_ratio_is_of_added_harm_to_added_benign(table: pl.DataFrame) -> None:
    ratio = _value(table, _all("harm"), "nll_ratio", "shared")
    sides = [_value(table, _all(role), "nll_added", "shared") for role in ("harm", "benign")]
    assert ratio == pytest.approx(sides[0] / sides[1])
    assert table.filter(metric="nll_ratio", variant="unmodified").is_empty()
    nothing = _nll().with_columns(
        nll=pl.when(role="benign")
        .then(pl.col("nll").first().over("behaviour", "prompt"))
        .otherwise("nll")
    )
    assert (
        measurements("toy", PromptNumbers(nothing, _judged()), BOOT)
        .filter(metric="nll_ratio")
        .is_empty()
    )


def test_the_share_that_transfers_is_one_number_of_the_matrix(table: pl.DataFrame) -> None:
    one = _one(table, _all("harm"), "transfer_share", None)
    assert one["value"] == pytest.approx((0.4 + 0.5) / 2, abs=0.03)
    assert one["low"] < one["value"] < one["high"]
    assert one["n"] == 30
    assert _value(table, _all("harm"), "nll_added", None) == pytest.approx(1, abs=0.03)


def test_a_share_of_the_effect_is_of_the_same_prompts(table: pl.DataFrame) -> None:
    one = _one(table, _all("harm"), "share_of_effect", "alpha")
    assert one["value"] == pytest.approx((1 + 0.4) / 2 / 2, abs=0.03)
    sides = [_one(table, _all("harm"), "nll_added", name) for name in ("alpha", "shared")]
    assert one["low"] >= sides[0]["low"] / sides[1]["high"]
    assert one["high"] <= sides[0]["high"] / sides[1]["low"]
    assert table.filter(metric="share_of_effect", variant="shared").is_empty()
    # It is the headline mask's effect that the others are a share of.
    other = measurements("toy", PromptNumbers(_nll(), _judged()), BOOT, mask="alpha")
    shares = other.filter(metric="share_of_effect")
    assert shares["variant"].unique().sort().to_list() == ["beta", "shared"]
    assert _one(shares, _all("harm"), "share_of_effect", "shared")["value"] > 2


def test_a_score_that_falls_to_zero_throughout_is_still_a_score() -> None:
    place = {"behaviour": "alpha", "role": "harm", "attack": "direct", "judge": "learned"}
    scores = {"unmodified": [0.9, 0.6, 0.7, 0.8], "shared": [0.0, 0.0, 0.0, 0.0]}
    rows = [
        {**place, "variant": variant, "prompt": str(number), "score": score, "label": score > 0.5}
        for variant, each in scores.items()
        for number, score in enumerate(each)
    ]
    found = measurements("toy", PromptNumbers(_nll(), pl.DataFrame(rows)), BOOT)
    one = _one(found, "alpha", "harmfulness_change", "shared")
    assert one["value"] == pytest.approx(-0.75)
    assert -0.9 <= one["low"] < one["high"] <= -0.6


def test_tasks_have_an_accuracy_from_their_first_metric(table: pl.DataFrame) -> None:
    total = _one(table, _all("utility"), "accuracy", "shared")
    assert (total["value"], total["n"]) == (0.5, 120)
    assert _value(table, "sums", "accuracy_change", "shared") == -0.25
    assert set(table.filter(judge="lm-eval", variant="unmodified")["metric"]) == {
        "accuracy",
        "accuracy_chance",
        "acc_norm",
    }


def test_the_chance_of_tasks_is_that_of_the_first_metric(table: pl.DataFrame) -> None:
    assert set(table.filter(metric="accuracy_chance")["variant"]) == {"unmodified"}
    values = {name: _value(table, name, "accuracy_chance") for name in ("sums", "facts")}
    # A quarter of the facts has two choices, the rest has four; the tasks have equal weights.
    assert values == {"sums": 0.0, "facts": 0.3125}
    total = _one(table, _all("utility"), "accuracy_chance")
    assert (total["value"], total["n"], total["main"]) == (0.15625, 120, True)


def test_detection_is_the_area_over_harmful_and_harmless(table: pl.DataFrame) -> None:
    asked = _understanding().filter(measure="detect", variant="shared")
    wanted = roc_auc_score(asked["harmful"], asked["value"])
    assert _value(table, _all("harm"), "detect_auroc", "shared") == pytest.approx(wanted)
    lost = _one(table, _all("harm"), "detect_auroc_change", "alpha")
    kept = _one(table, _all("harm"), "detect_auroc_change", "shared")
    assert lost["high"] < 0
    assert kept["low"] < 0 < kept["high"]
    assert (lost["n"], lost["p_value"] < 0.01) == (80, True)


def test_explaining_is_paired_too(table: pl.DataFrame) -> None:
    one = _one(table, _all("harm"), "explain_nll_added", "shared")
    assert (one["value"], one["low"], one["high"]) == pytest.approx((0.2, 0.2, 0.2))


def test_the_same_rows_give_the_same_table(table: pl.DataFrame) -> None:
    again = PromptNumbers(_nll(), _judged(), _tasks(), _understanding())
    assert measurements("toy", again, BOOT).equals(table)


def test_a_study_without_tasks_and_questions_has_its_other_rows(table: pl.DataFrame) -> None:
    some = measurements("toy", PromptNumbers(_nll(), _judged()), BOOT)
    assert 0 < some.height < table.height
    assert set(some["role"]) == {"harm", "benign"}
