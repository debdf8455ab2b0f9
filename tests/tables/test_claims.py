import math
import re
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lesion.tables.claims.claim import Setting
from lesion.tables.claims.outcome import (
    CANNOT_TELL,
    NOT_SUPPORTED,
    SUPPORTED,
    Evidence,
    Number,
    outcome_of,
)
from lesion.tables.claims.table import claims
from lesion.tables.curve import HALVINGS, LIKELIHOOD
from lesion.tables.effects import COMPACT, FEWEST, MARGIN, MOST, NATS, NOTHING, TOLD_APART
from lesion.tables.rows import BEHAVIOUR, MEASUREMENTS, is_main
from lesion.tables.schemas import CLAIMS

SMALLEST, LARGEST = 100, 20_000
CANDIDATES = 1_000_000
SETTING = Setting(CANDIDATES, 500)
Row = dict[str, Any]


def _row(variant: str | None, metric: str, value: float, half: float, **more: str) -> Row:
    role = more.pop("role", "harm")
    return {
        "model": "toy",
        "variant": variant,
        "level": "total",
        "behaviour": None,
        "role": role,
        "attack": "none",
        "judge": "none",
        "metric": metric,
        "value": value,
        "low": value - half,
        "high": value + half,
        "n": 50,
        **more,
    }


def _of_refusal(name: str, value: float) -> list[Row]:
    """What the mask of a behaviour of role refusal adds to its own behaviour."""
    total = _row(name, "nll_added", value, 0.1, role="refusal")
    return [{**total, "level": BEHAVIOUR, "behaviour": name}, total]


def _table(*rows: Row) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=MEASUREMENTS).with_columns(is_main("learned"))


def _halving(*values: float | None, largest: int = LARGEST) -> pl.DataFrame:
    about = {
        "family": "shared",
        "measure": LIKELIHOOD,
        "smallest": SMALLEST,
        "largest": largest,
        "n": 40,
        "fewest": 8,
    }
    named = dict(zip(("halving", "low", "high"), values, strict=False))
    rows = [{**about, **named, "beyond": values[0] is None}] if values else []
    return pl.DataFrame(rows, schema=HALVINGS)


def _verdicts(table: pl.DataFrame, halving: pl.DataFrame | None = None) -> dict[str, str]:
    found = claims("toy", table, _halving() if halving is None else halving, SETTING)
    assert dict(found.schema) == CLAIMS
    return {f"{row['variant']} {row['statistic']}": row["verdict"] for row in found.to_dicts()}


@pytest.mark.parametrize(
    ("value", "half", "verdict"),
    [(0.9, 0.2, SUPPORTED), (0.3, 0.1, NOT_SUPPORTED), (0.6, 0.2, CANNOT_TELL)],
)
def test_the_whole_interval_must_lie_on_one_side(value: float, half: float, verdict: str) -> None:
    share, own = _row(None, "transfer_share", value, half), "None transfer_share"
    specific = (
        _row(None, "specificity", 0.8, 0.1),
        _row(None, "counterpart_nll_added", 0.5, 0.1),
    )
    table = _table(share, _row(None, "nll_added", 0.5, 0.1), *specific)
    assert _verdicts(table) == {own: verdict}
    # Of no effect there is no share.
    table = _table(share, _row(None, "nll_added", 0.05, 0.1))
    assert _verdicts(table) == {own: CANNOT_TELL}


@pytest.mark.parametrize(
    ("benign", "specificity", "verdict", "why"),
    [
        (0.02, 0.8, SUPPORTED, None),
        (0.3, 0.8, CANNOT_TELL, "Zeroing the mask beta adds 0.3 nats per token to benign"),
        (0.02, 0.3, CANNOT_TELL, "harmless answers on the same topics lose much"),
        (0.3, 0.3, CANNOT_TELL, "lose much of what harmful ones lose.* Zeroing the mask beta"),
    ],
)
def test_what_is_shared_must_be_harm_and_not_language(
    benign: float, specificity: float, verdict: str, why: str | None
) -> None:
    rows = [
        _row(None, "transfer_share", 0.9, 0.1),
        _row(None, "nll_added", 0.5, 0.1),
        _row(None, "specificity", specificity, 0.1),
        _row(None, "counterpart_nll_added", 0.5, 0.1),
    ]
    for name, added in (("alpha", 0.01), ("beta", benign)):
        rows.append(_row(name, "nll_added", added, 0.005, role="benign"))
        rows.append({**_row(name, "nll_added", 0.5, 0.1), "level": BEHAVIOUR, "behaviour": name})
        part = {**_row(None, "specificity", specificity, 0.2), "level": BEHAVIOUR}
        rows.append({**part, "behaviour": name})
    setting = SETTING._replace(limit=0.1)
    table = claims("toy", _table(*rows), _halving(), setting)
    (row,) = table.filter(statistic="transfer_share").to_dicts()
    assert row["verdict"] == verdict
    assert (row["why"] is None) if why is None else re.search(why, row["why"])


def test_what_is_shared_must_also_be_shared_by_a_specific_mask() -> None:
    rows = [
        _row(None, "transfer_share", 0.9, 0.1),
        _row(None, "nll_added", 0.5, 0.1),
        _row(None, "specificity", 0.8, 0.1),
        _row(None, "counterpart_nll_added", 0.5, 0.1),
    ]
    setting = SETTING._replace(unspecific="The shared mask is not specific.")
    (row,) = claims("toy", _table(*rows), _halving(), setting).filter(claim=2).to_dicts()
    assert (row["verdict"], row["why"]) == (CANNOT_TELL, "The shared mask is not specific.")


def test_a_size_that_costs_too_much_benign_loss_is_not_compact() -> None:
    halving = _halving(500.0, 300.0, 900.0).with_columns(
        benign=0.19, benign_low=0.15, benign_high=0.2
    )
    for limit, verdict in ((0.1, CANNOT_TELL), (0.3, SUPPORTED)):
        found = claims("toy", _table(), halving, SETTING._replace(limit=limit)).to_dicts()
        assert [row["verdict"] for row in found] == [verdict]
    assert (
        "adds 0.19 nats" in claims("toy", _table(), halving, SETTING._replace(limit=0.1))["why"][0]
    )


def test_nothing_measured_claims_nothing() -> None:
    assert _verdicts(_table()) == {}


@pytest.mark.parametrize(
    ("weights", "verdict"),
    [
        ((500.0, 300.0, 900.0), SUPPORTED),
        ((2000.0, 1500.0, 3000.0), NOT_SUPPORTED),
        ((900.0, 500.0, 1500.0), CANNOT_TELL),
        ((900.0, 500.0, None), CANNOT_TELL),
        ((2000.0, 1500.0, None), NOT_SUPPORTED),
        # The largest mask does not do it, nor does it in any resample.
        ((None, None, None), NOT_SUPPORTED),
        ((None, 1500.0, None), NOT_SUPPORTED),
        ((None, 500.0, None), CANNOT_TELL),
    ],
)
def test_compact_is_a_share_of_the_candidates(
    weights: tuple[float | None, ...], verdict: str
) -> None:
    assert _verdicts(_table(), _halving(*weights)) == {"shared halving_share": verdict}


def test_outside_the_measured_sizes_only_the_side_is_known() -> None:
    key = "shared halving_share"
    assert _verdicts(_table(), _halving(None, None, None, largest=900)) == {key: CANNOT_TELL}
    # The smallest mask halves it already: fewer might.
    assert _verdicts(_table(), _halving(100.0, 100.0, 500.0)) == {key: SUPPORTED}
    below = _halving(2000.0, 2000.0, 2500.0).with_columns(smallest=2000)
    assert _verdicts(_table(), below) == {key: CANNOT_TELL}
    row = claims("toy", _table(), _halving(None, None, None), SETTING).row(0, named=True)
    assert (row["value"], row["low"], row["high"]) == (None, LARGEST / CANDIDATES, None)


def test_lowering_harmful_output_is_a_change_below_zero() -> None:
    place = {"attack": "prefill", "judge": "learned"}
    for value, verdict in (
        (-0.2, SUPPORTED),
        (0.2, NOT_SUPPORTED),
        # Wholly between no effect and the smallest that counts, or about that.
        (0.01, NOT_SUPPORTED),
        (-0.06, CANNOT_TELL),
    ):
        table = _table(_row("shared", "harmfulness_change", value, 0.05, **place))
        assert _verdicts(table) == {"shared harmfulness_change": verdict}


def test_a_model_with_nothing_to_lose_keeps_nothing() -> None:
    place = {"attack": "direct", "judge": "matching"}
    kept = _row("shared", "refusal_rate_change", 0.0, 0.03, **place)
    key = "shared refusal_rate_change"
    for rate, verdict in ((0.9, SUPPORTED), (0.03, CANNOT_TELL)):
        table = _table(kept, _row("unmodified", "refusal_rate", rate, 0.02, **place))
        assert _verdicts(table)[key] == verdict
    blind = _row("unmodified", "detect_auroc", 0.52, 0.05)
    told = _row("shared", "detect_auroc_change", 0.0, 0.02)
    assert _verdicts(_table(told, blind)) == {"shared detect_auroc_change": CANNOT_TELL}
    below = _row("unmodified", "detect_auroc", 0.4, 0.05)
    row = claims("toy", _table(told, below), _halving(), SETTING).row(0, named=True)
    assert (row["verdict"], row["threshold"]) == (CANNOT_TELL, -0.05)
    sees = _row("unmodified", "detect_auroc", 0.8, 0.05)
    assert _verdicts(_table(told, sees)) == {"shared detect_auroc_change": SUPPORTED}
    # Clearly above chance, but by so little that the margin is two thirds of it.
    barely = _row("unmodified", "detect_auroc", 0.56, 0.03)
    lost = _row("shared", "detect_auroc_change", -0.03, 0.015)
    assert _verdicts(_table(lost, barely)) == {"shared detect_auroc_change": CANNOT_TELL}
    assert _verdicts(_table(lost, sees)) == {"shared detect_auroc_change": SUPPORTED}


@pytest.mark.parametrize(
    ("accuracy", "chance", "change", "verdict", "threshold"),
    [
        # Two or four choices: clearly better than guessing.
        *((0.75, 0.5, 0.0, SUPPORTED, -0.05), (0.55, 0.25, 0.0, SUPPORTED, -0.05)),
        *((0.75, 0.5, -0.03, SUPPORTED, -0.05), (0.75, 0.5, -0.2, NOT_SUPPORTED, -0.05)),
        # Clearly better, but by so little that the margin is five sixths of it.
        *((0.56, 0.5, 0.0, SUPPORTED, -0.03), (0.56, 0.5, -0.03, CANNOT_TELL, -0.03)),
        # Where nothing is guessed, and in tables without a chance, a fifth is enough.
        *((0.25, 0.0, -0.03, SUPPORTED, -0.05), (0.25, None, -0.03, SUPPORTED, -0.05)),
    ],
)
def test_the_accuracy_that_may_be_lost_is_at_most_half_of_the_lead_over_guessing(
    accuracy: float, chance: float | None, change: float, verdict: str, threshold: float
) -> None:
    row = _of_accuracy(accuracy, chance, change)
    assert (row["verdict"], row["why"]) == (verdict, None)
    assert row["threshold"] == pytest.approx(threshold)


@pytest.mark.parametrize(("accuracy", "chance"), [(0.52, 0.5), (0.27, 0.25), (0.4, 0.5)])
def test_a_model_that_guesses_has_no_accuracy_to_keep(accuracy: float, chance: float) -> None:
    for change in (0.0, -0.2):
        row = _of_accuracy(accuracy, chance, change)
        assert (row["verdict"], row["threshold"]) == (CANNOT_TELL, -MARGIN)
        assert "not clearly better than guessing" in row["why"]


def _of_accuracy(accuracy: float, chance: float | None, change: float) -> Row:
    tasks = {"role": "utility"}
    rows = [
        _row("shared", "accuracy_change", change, 0.015, **tasks),
        _row("unmodified", "accuracy", accuracy, 0.03, **tasks),
    ]
    if chance is not None:
        rows.append(_row("unmodified", "accuracy_chance", chance, 0.0, **tasks))
    return claims("toy", _table(*rows), _halving(), SETTING).row(0, named=True)


def test_apart_is_a_difference_where_benign_responses_lose_nothing() -> None:
    key = "shared harm_minus_benign_nll_added"
    for value, half, verdict in (
        (-0.001, 0.002, SUPPORTED),
        (0.28, 0.002, CANNOT_TELL),
        (0.6, 0.1, NOT_SUPPORTED),
        (0.3, 0.1, CANNOT_TELL),
    ):
        harm = _row("shared", "nll_added", 0.3, 0.05)
        benign = _row("shared", "nll_added", value, half, role="benign")
        assert _verdicts(_table(harm, benign))[key] == verdict


@pytest.mark.parametrize(
    ("value", "half", "verdict"),
    [(0.0, 0.03, SUPPORTED), (-0.2, 0.1, NOT_SUPPORTED), (-0.06, 0.05, CANNOT_TELL)],
)
def test_explanations_are_kept_by_their_own_coherence(
    value: float, half: float, verdict: str
) -> None:
    place = {"role": "explanation", "attack": "explanation", "judge": "coherence"}
    table = _table(_row("shared", "coherence_change", value, half, **place))
    assert _verdicts(table) == {"shared coherence_change": verdict}


def test_a_random_control_of_another_size_is_no_control() -> None:
    table = _table(
        _row("vote", "nll_added", 1.0, 0.1), _row("random", "share_of_effect", 0.01, 0.02)
    )
    for random, verdict in ((500, SUPPORTED), (None, SUPPORTED), (9000, CANNOT_TELL)):
        sizes = {"vote": 500} if random is None else {"vote": 500, "random": random}
        setting = SETTING._replace(mask="vote", sizes=sizes)
        row = claims("toy", table, _halving(), setting).filter(claim=3).row(0, named=True)
        assert row["verdict"] == verdict
    assert row["why"] == (
        "The random control zeroes 9,000 weights and the mask vote 500, so their effects cannot be "
        "compared."
    )


def test_a_double_dissociation_needs_both_sides() -> None:
    table = _table(
        _row("shared", "nll_added", 1.0, 0.1),
        _row("shared", "nll_added", 0.1, 0.1, role="refusal"),
        _row("refusal", "nll_added", 0.5, 0.1),
        *_of_refusal("refusal", 0.55),
    )
    found = _verdicts(table)
    assert found["shared harm_minus_refusal_nll_added"] == SUPPORTED
    assert found["refusal refusal_minus_harm_nll_added"] == CANNOT_TELL


def test_the_mask_of_refusal_is_found_by_its_role_whatever_its_name() -> None:
    def rows(name: str, harm: float) -> list[Row]:
        return [
            _row(name, "nll_added", harm, 0.1),
            *_of_refusal(name, 0.9),
        ]

    end = "refusal_minus_harm_nll_added"
    found = _verdicts(_table(*rows("polite", 0.1)))
    assert found[f"polite {end}"] == SUPPORTED
    # Of two behaviours of this role each has its own number.
    found = _verdicts(_table(*rows("polite", 0.1), *rows("curt", 2.0)))
    assert (found[f"polite {end}"], found[f"curt {end}"]) == (SUPPORTED, NOT_SUPPORTED)


def test_the_random_control_is_held_against_the_masks_effect() -> None:
    own = _row("shared", "nll_added", 1.0, 0.1)
    key = "random share_of_effect"
    assert _verdicts(_table(own, _row("random", "share_of_effect", 0.01, 0.02)))[key] == SUPPORTED
    assert _verdicts(_table(own, _row("random", "share_of_effect", 0.5, 0.1)))[key] == NOT_SUPPORTED
    # Of no effect there is no share.
    none = _row("shared", "nll_added", 0.0, 0.1)
    part = _row("random", "share_of_effect", 0.01, 0.02)
    assert _verdicts(_table(none, part))[key] == CANNOT_TELL


def test_the_smallest_effects_are_those_that_the_docs_give() -> None:
    assert (MARGIN, NATS, COMPACT, MOST, NOTHING, FEWEST) == (0.05, 0.05, 1e-3, 0.5, 0.1, 6)
    assert TOLD_APART == 0.75


HARMFUL = {"attack": "prefill", "judge": "learned"}
EFFECTS = {
    "nll_added": (NATS, 1),
    "harmfulness_change": (MARGIN, -1),
    "transfer_share": (MOST, 1),
    "specificity": (MOST, 1),
    "harm_minus_benign_nll_added": (NATS, 1),
    "harm_minus_explain_nll_added": (NATS, 1),
    "harm_minus_refusal_nll_added": (NATS, 1),
    "refusal_minus_harm_nll_added": (NATS, 1),
}
"""Statistics of an effect: the smallest that counts, and its sign."""
KEPT = {"accuracy_change", "detect_auroc_change", "coherence_change", "refusal_rate_change"}
"""Statistics of what is kept: how much may be lost is MARGIN at most."""
BELOW = {"share_of_effect": NOTHING, "halving_share": COMPACT}


@st.composite
def _tables(draw: st.DrawFn) -> pl.DataFrame:
    """Any measurements that a study may give: some tiny, some without a width, some no numbers."""
    number = st.one_of(
        st.floats(-2, 2),
        st.floats(-1e-3, 1e-3),
        st.floats(-1e-7, 1e-7),
        st.sampled_from([0.0, -3.5e-8, math.nan, math.inf, -math.inf]),
    )
    width = st.one_of(st.just(0.0), st.floats(0, 0.4), st.floats(0, 1e-8))
    places = [
        *((variant, "nll_added", {}) for variant in ("shared", "refusal", None)),
        ("shared", "nll_added", {"role": "benign"}),
        *((variant, "nll_added", {"role": "refusal"}) for variant in ("shared", "refusal")),
        (None, "transfer_share", {}),
        ("shared", "harmfulness_change", HARMFUL),
        *(("unmodified", name, {"role": "utility"}) for name in ("accuracy", "accuracy_chance")),
        ("shared", "accuracy_change", {"role": "utility"}),
        ("random", "share_of_effect", {}),
        *((variant, "specificity", {}) for variant in ("shared", None)),
        *((variant, "counterpart_nll_added", {}) for variant in ("shared", None)),
        ("unmodified", "detect_auroc", {}),
        ("shared", "detect_auroc_change", {}),
        ("shared", "explain_nll_added", {}),
        ("shared", "coherence_change", {"role": "explanation", "attack": "explanation"}),
        ("unmodified", "refusal_rate", {"attack": "direct", "judge": "matching"}),
        ("shared", "refusal_rate_change", {"attack": "direct", "judge": "matching"}),
    ]
    rows = []
    for variant, metric, more in places:
        one = _row(variant, metric, draw(number), draw(width), **more)
        low, high = sorted((one["value"] - draw(width), one["value"] + draw(width)))
        rows.append({**one, "low": low, "high": high, "n": draw(st.integers(1, 80))})
        if (variant, more) == ("refusal", {"role": "refusal"}):
            rows.append({**rows[-1], "level": BEHAVIOUR, "behaviour": variant})
    return _table(*rows)


_settings = st.builds(
    Setting,
    st.just(CANDIDATES),
    st.sampled_from([0, 500, 1000, 370_000]),
    st.booleans(),
    st.sets(
        st.tuples(st.sampled_from(["unmodified", "shared"]), st.sampled_from(["direct", "prefill"]))
    ).map(frozenset),
    st.just("shared"),
    unspecific=st.sampled_from(["", "Harmless answers lose as much."]),
    judged_harm=st.sampled_from(["", "Judged harm is compliance here."]),
)


@settings(max_examples=600, deadline=None, derandomize=True)
@given(_tables(), _settings, st.sampled_from([(500.0, 300.0, 900.0), (500.0, 500.0, 500.0), ()]))
def test_what_is_supported_has_an_effect_that_counts(
    table: pl.DataFrame, setting: Setting, halving: tuple[float, ...]
) -> None:
    rows = claims("toy", table, _halving(*halving), setting).to_dicts()
    assert len(rows) >= 11
    for row in rows:
        _check(row, setting)


def _check(row: dict[str, Any], setting: Setting) -> None:
    statistic, low, high = row["statistic"], row["low"], row["high"]
    assert (row["why"] is None) or (row["verdict"] == CANNOT_TELL and row["why"].endswith("."))
    if row["verdict"] != CANNOT_TELL:
        # Nothing is said of a number without a width, nor of one that few prompts give.
        assert low is None or high is None or high - low > 1e-9
        assert row["n"] >= FEWEST
    if row["verdict"] != SUPPORTED:
        return
    if statistic in EFFECTS:
        smallest, sign = EFFECTS[statistic]
        assert min(sign * one for one in (low, high) if one is not None) > smallest
        assert setting.limit_kept
        assert not setting.unspecific
    elif statistic in KEPT:
        assert low > -MARGIN
    else:
        assert high < BELOW[statistic]
        assert setting.limit_kept
    if statistic in ("nll_added", "harmfulness_change"):
        assert setting.zeroed / setting.candidates < COMPACT
    if statistic == "harmfulness_change":
        assert not {("unmodified", "prefill"), ("shared", "prefill")} & setting.same
    if statistic == "refusal_rate_change":
        assert not {("unmodified", "direct"), ("shared", "direct")} & setting.same


def test_a_halving_needs_prompts_of_every_harm_type() -> None:
    for fewest, verdict in ((4, SUPPORTED), (3, CANNOT_TELL)):
        halving = _halving(500.0, 300.0, 900.0).with_columns(fewest=pl.lit(fewest, pl.Int64))
        rows = claims("toy", _table(), halving, SETTING).filter(statistic="halving_share")
        assert rows["verdict"].to_list() == [verdict]
    assert "one behaviour has 3 of the 40" in rows["why"][0]


def test_a_judge_that_is_silent_on_many_answers_shows_no_change_of_harm() -> None:
    change = _row("shared", "harmfulness_change", -0.4, 0.1, attack="prefill", judge="learned")
    few = (0.897, 0.2)
    for unscored, verdict in (
        ({}, SUPPORTED),
        ({"direct": few}, SUPPORTED),
        ({"prefill": few}, CANNOT_TELL),
    ):
        setting = SETTING._replace(unscored=unscored)
        (row,) = claims("toy", _table(change), _halving(), setting).to_dicts()
        assert (row["statistic"], row["verdict"]) == ("harmfulness_change", verdict)
    assert "a score to 89% of a model's answers, and to 20% of those of one" in row["why"]


def _held(table: pl.DataFrame, setting: Setting = SETTING) -> dict[str, Any]:
    return claims("toy", table, _halving(), setting).row(0, named=True)


def test_a_change_of_nothing_is_no_verdict() -> None:
    change = {**_row("shared", "harmfulness_change", -3.5e-8, 0.0, **HARMFUL), "high": -3.4e-8}
    row = _held(_table(change))
    assert (row["verdict"], row["threshold"]) == (CANNOT_TELL, -MARGIN)
    assert row["why"].startswith("All 50 prompts give the same value, up to rounding.")
    # Nor where the judge gives one number before, and one other after.
    row = _held(_table(_row("shared", "harmfulness_change", -0.4, 0.0, **HARMFUL)))
    assert (row["verdict"], row["value"]) == (CANNOT_TELL, -0.4)


def test_few_weights_are_few() -> None:
    table = _table(
        _row("shared", "nll_added", 0.3, 0.1),
        _row("shared", "harmfulness_change", -0.3, 0.1, **HARMFUL),
    )
    assert set(_verdicts(table).values()) == {SUPPORTED}
    for zeroed in (1000, 370_000, CANDIDATES):
        rows = claims("toy", table, _halving(), Setting(CANDIDATES, zeroed))
        assert set(rows["verdict"]) == {CANNOT_TELL}
        assert all("counts as few" in why for why in rows["why"])
    # Many weights that do nothing speak against it.
    none = _table(_row("shared", "nll_added", 0.01, 0.02))
    row = claims("toy", none, _halving(), Setting(CANDIDATES, 370_000)).row(0, named=True)
    assert row["verdict"] == NOT_SUPPORTED


def test_a_lifted_limit_supports_nothing_but_what_is_kept() -> None:
    table = _table(
        _row("shared", "nll_added", 1.0, 0.1),
        _row("shared", "nll_added", 0.1, 0.1, role="benign"),
        _row("shared", "nll_added", 0.1, 0.1, role="refusal"),
        _row("shared", "accuracy_change", 0.0, 0.02, role="utility"),
        _row("random", "share_of_effect", 0.01, 0.02),
    )
    kept = _verdicts(table)
    assert set(kept.values()) == {SUPPORTED}
    found = claims("toy", table, _halving(500.0, 300.0, 900.0), SETTING._replace(limit_kept=False))
    for row in found.to_dicts():
        supported = row["statistic"] == "accuracy_change"
        assert row["verdict"] == (SUPPORTED if supported else CANNOT_TELL)
        assert supported or "lifted or missed" in row["why"]
    assert found.height == 6


@pytest.mark.parametrize(
    ("sizes", "verdict"),
    [
        *(((50,), SUPPORTED), ((6,), SUPPORTED), ((4, 48), SUPPORTED), ((12, 12, 12), SUPPORTED)),
        *(((5,), CANNOT_TELL), ((1, 49), CANNOT_TELL), ((3, 47), CANNOT_TELL)),
        *(((2, 2, 2, 2, 2), CANNOT_TELL), ((3, 3, 3, 3), CANNOT_TELL)),
    ],
)
def test_few_prompts_are_no_interval(sizes: tuple[int, ...], verdict: str) -> None:
    total = {**_row("shared", "nll_added", 0.5, 0.1), "n": sum(sizes)}
    parts = [
        {**total, "level": "behaviour", "behaviour": f"type-{n}", "n": one}
        for n, one in enumerate(sizes)
    ]
    for rows in ([total, *parts], [total, *parts, {**total, "variant": "random", "n": 1}]):
        row = _held(_table(*rows))
        assert row["verdict"] == verdict
        assert verdict == SUPPORTED or row["why"].startswith("There are too few prompts")


def test_both_sides_of_a_difference_need_prompts_that_vary() -> None:
    harm = _row("shared", "nll_added", 0.5, 0.1)
    benign = _row("shared", "nll_added", 0.0, 0.01, role="benign")
    key = "shared harm_minus_benign_nll_added"
    assert _verdicts(_table(harm, benign))[key] == SUPPORTED
    assert _verdicts(_table(harm, {**benign, "n": 2}))[key] == CANNOT_TELL
    assert _verdicts(_table(harm, {**benign, "low": 0.0, "high": 0.0}))[key] == CANNOT_TELL


@pytest.mark.parametrize("value", [math.nan, None, math.inf])
def test_what_is_no_number_is_no_verdict(value: float | None) -> None:
    broken = {**_row("shared", "nll_added", 0.5, 0.1), "value": value, "low": value, "high": value}
    row = _held(_table(broken))
    assert (row["verdict"], row["value"]) == (CANNOT_TELL, None)
    row = _held(_table({**broken, "low": 0.4, "high": 0.6}))
    assert row["verdict"] == CANNOT_TELL
    assert row["why"]


def test_shares_of_an_effect_that_does_not_count_are_none() -> None:
    own = {**_row(None, "nll_added", 0.04, 0.01)}
    row = _held(_table(own, _row(None, "transfer_share", 0.9, 0.1)))
    assert (row["statistic"], row["verdict"]) == ("transfer_share", CANNOT_TELL)
    assert "too small to count" in row["why"]


def test_one_answer_to_all_prompts_is_no_verdict() -> None:
    same = frozenset({("shared", "prefill"), ("unmodified", "direct"), ("shared", "explanation")})
    place = {"attack": "direct", "judge": "matching"}
    explained = {"role": "explanation", "attack": "explanation", "judge": "coherence"}
    table = _table(
        _row("shared", "harmfulness_change", -0.4, 0.1, **HARMFUL),
        _row("shared", "coherence_change", 0.0, 0.02, **explained),
        _row("unmodified", "refusal_rate", 0.9, 0.02, **place),
        _row("shared", "refusal_rate_change", 0.0, 0.02, **place),
    )
    assert set(_verdicts(table).values()) == {SUPPORTED}
    found = claims("toy", table, _halving(), SETTING._replace(same=same))
    assert set(found["verdict"]) == {CANNOT_TELL}
    assert all("the same text" in why for why in found["why"])


@pytest.mark.parametrize(("low", "high"), [(0.4, math.nan), (math.nan, 0.6)])
def test_an_interval_with_an_unknown_end_is_no_verdict(low: float, high: float) -> None:
    number = Number(0.5, low, high, n=40, draws=40)
    for threshold, above in ((0.1, True), (0.9, False), (0.9, True), (0.1, False)):
        verdict, why = outcome_of(Evidence(number, threshold, above))
        assert (verdict, why) == (CANNOT_TELL, "One bound of the interval is unknown.")


@pytest.mark.parametrize(
    ("n", "smallest", "said"),
    [
        (28, 2, "one behaviour has 2 of the 28, and each needs 4."),
        (4, 2, "4, and it needs 6, with 4 of each behaviour."),
        (25, 5, "the 25 tell no more than 5.0 of one behaviour would, and it needs 6."),
    ],
)
def test_the_reason_says_of_what_there_are_too_few(n: int, smallest: int, said: str) -> None:
    number = Number(0.5, 0.4, 0.6, n, 5.0, smallest)
    verdict, why = outcome_of(Evidence(number, 0.1))
    assert verdict == CANNOT_TELL
    assert why.endswith(said)


def test_the_headline_mask_may_have_any_name() -> None:
    table = _table(
        _row("shared", "nll_added", 1.0, 0.1),
        _row("shared", "nll_added", 0.1, 0.1, role="benign"),
        _row("shared", "harmfulness_change", -0.3, 0.1, **HARMFUL),
        _row("unmodified", "detect_auroc", 0.8, 0.05),
        _row("shared", "detect_auroc_change", 0.0, 0.02),
        _row("random", "share_of_effect", 0.01, 0.02),
    )
    halving, new = _halving(500.0, 300.0, 900.0), pl.col("variant").replace("shared", "alpha")
    wanted = claims("toy", table, halving, SETTING).with_columns(new)
    renamed = halving.with_columns(family=pl.lit("alpha"))
    setting = SETTING._replace(mask="alpha")
    assert claims("toy", table.with_columns(new), renamed, setting).equals(wanted)
    assert set(wanted["verdict"]) == {SUPPORTED}
    assert set(wanted["variant"]) == {"alpha", "random"}
    # A mask that is not the headline mask is not what the claims are about.
    assert claims("toy", table, halving, setting)["variant"].to_list() == ["random"]


def test_a_size_beyond_the_mask_was_not_shown_to_be_specific() -> None:
    table = _table(_row("shared", "nll_added", 0.5, 0.1))
    for size, verdict in ((499.0, SUPPORTED), (600.0, CANNOT_TELL)):
        found = claims("toy", table, _halving(size, 300.0, 900.0), SETTING)
        row = found.filter(statistic="halving_share").row(0, named=True)
        assert row["verdict"] == verdict
    assert "more weights than the 500 of the mask" in row["why"]


@pytest.mark.parametrize(
    ("statistic", "before", "about"),
    [
        ("accuracy", "solves too few tasks", {"role": "utility"}),
        (
            "coherence",
            "Hardly an explanation",
            {"role": "explanation", "attack": "explanation", "judge": "coherence"},
        ),
        ("refusal_rate", "refuses too few", {"attack": "direct", "judge": "matching"}),
    ],
)
def test_what_was_never_there_is_not_kept(
    statistic: str, before: str, about: dict[str, str]
) -> None:
    kept = _row("shared", f"{statistic}_change", 0.0, 0.02, **about)
    for low, verdict in ((0.3, SUPPORTED), (0.1, CANNOT_TELL)):
        # Its value is the same, and its lower bound decides.
        unmodified = {**_row("unmodified", statistic, 0.4, 0.1, **about), "low": low}
        found = claims("toy", _table(kept, unmodified), _halving(), SETTING)
        row = found.filter(statistic=f"{statistic}_change").row(0, named=True)
        assert row["verdict"] == verdict
    assert before in row["why"]
