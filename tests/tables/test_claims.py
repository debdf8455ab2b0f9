from typing import Any

import polars as pl
import pytest

from lesion.tables.claims import CANNOT_TELL, CLAIMS, NOT_SUPPORTED, SUPPORTED, claims
from lesion.tables.curve import HALVINGS, LIKELIHOOD
from lesion.tables.rows import MEASUREMENTS, is_main

SMALLEST, LARGEST = 100, 20_000
CANDIDATES = 1_000_000
Row = dict[str, Any]


def _row(variant: str, metric: str, value: float, half: float, **more: str) -> Row:
    role = more.pop("role", "harm")
    return {
        "model": "toy",
        "variant": variant,
        "behaviour": f"all-{role}",
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


def _table(*rows: Row) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=MEASUREMENTS).with_columns(is_main("learned"))


def _halving(*values: float | None, largest: int = LARGEST) -> pl.DataFrame:
    about = {
        "family": "shared",
        "measure": LIKELIHOOD,
        "smallest": SMALLEST,
        "largest": largest,
        "n": 40,
    }
    named = dict(zip(("halving", "low", "high"), values, strict=False))
    rows = [{**about, **named, "beyond": values[0] is None}] if values else []
    return pl.DataFrame(rows, schema=HALVINGS)


def _verdicts(table: pl.DataFrame, halving: pl.DataFrame | None = None) -> dict[str, str]:
    found = claims("toy", table, _halving() if halving is None else halving, CANDIDATES)
    assert dict(found.schema) == CLAIMS
    return {f"{row['variant']} {row['statistic']}": row["verdict"] for row in found.to_dicts()}


@pytest.mark.parametrize(
    ("value", "half", "verdict"),
    [(0.9, 0.2, SUPPORTED), (0.3, 0.1, NOT_SUPPORTED), (0.6, 0.2, CANNOT_TELL)],
)
def test_the_whole_interval_must_lie_on_one_side(value: float, half: float, verdict: str) -> None:
    share, own = _row("own-masks", "transfer_share", value, half), "own-masks transfer_share"
    table = _table(share, _row("own-masks", "nll_added", 0.5, 0.1))
    assert _verdicts(table) == {own: verdict}
    # Of no effect there is no share.
    table = _table(share, _row("own-masks", "nll_added", 0.05, 0.1))
    assert _verdicts(table) == {own: CANNOT_TELL}


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
    row = claims("toy", _table(), _halving(None, None, None), CANDIDATES).row(0, named=True)
    assert (row["value"], row["low"], row["high"]) == (None, LARGEST / CANDIDATES, None)


def test_lowering_harmful_output_is_a_change_below_zero() -> None:
    place = {"attack": "prefill", "judge": "learned"}
    for value, verdict in ((-0.2, SUPPORTED), (0.2, NOT_SUPPORTED), (0.01, CANNOT_TELL)):
        table = _table(_row("shared", "harmfulness_change", value, 0.05, **place))
        assert _verdicts(table) == {"shared harmfulness_change": verdict}


def test_a_model_with_nothing_to_lose_keeps_nothing() -> None:
    place = {"attack": "direct", "judge": "matching"}
    kept = _row("shared", "refusal_rate_change", 0.0, 0.03, **place)
    key = "shared refusal_rate_change"
    for rate, verdict in ((0.9, SUPPORTED), (0.03, CANNOT_TELL)):
        table = _table(kept, _row("intact", "refusal_rate", rate, 0.02, **place))
        assert _verdicts(table)[key] == verdict
    blind = _row("intact", "detect_auroc", 0.52, 0.05)
    told = _row("shared", "detect_auroc_change", 0.0, 0.02)
    assert _verdicts(_table(told, blind)) == {"shared detect_auroc_change": CANNOT_TELL}
    below = _row("intact", "detect_auroc", 0.4, 0.05)
    row = claims("toy", _table(told, below), _halving(), CANDIDATES).row(0, named=True)
    assert (row["verdict"], row["threshold"]) == (CANNOT_TELL, -0.05)
    sees = _row("intact", "detect_auroc", 0.8, 0.05)
    assert _verdicts(_table(told, sees)) == {"shared detect_auroc_change": SUPPORTED}
    # Clearly above chance, but by so little that the margin is two thirds of it.
    barely = _row("intact", "detect_auroc", 0.56, 0.03)
    lost = _row("shared", "detect_auroc_change", -0.03, 0.015)
    assert _verdicts(_table(lost, barely)) == {"shared detect_auroc_change": CANNOT_TELL}
    assert _verdicts(_table(lost, sees)) == {"shared detect_auroc_change": SUPPORTED}


def test_apart_is_a_difference_where_benign_responses_lose_nothing() -> None:
    key = "shared harm_minus_benign_nll_added"
    for value, half, verdict in (
        (-0.001, 0.002, SUPPORTED),
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


def test_a_double_dissociation_needs_both_sides() -> None:
    table = _table(
        _row("shared", "nll_added", 1.0, 0.1),
        _row("shared", "nll_added", 0.1, 0.1, role="refusal"),
        _row("refusal", "nll_added", 0.5, 0.1),
        _row("refusal", "nll_added", 0.55, 0.1, role="refusal"),
    )
    found = _verdicts(table)
    assert found["shared harm_minus_refusal_nll_added"] == SUPPORTED
    assert found["refusal refusal_minus_harm_nll_added"] == CANNOT_TELL


def test_the_random_control_is_held_against_the_masks_effect() -> None:
    own = _row("shared", "nll_added", 1.0, 0.1)
    key = "random share_of_effect"
    assert _verdicts(_table(own, _row("random", "share_of_effect", 0.01, 0.02)))[key] == SUPPORTED
    assert _verdicts(_table(own, _row("random", "share_of_effect", 0.5, 0.1)))[key] == NOT_SUPPORTED
    # Of no effect there is no share.
    none = _row("shared", "nll_added", 0.0, 0.1)
    part = _row("random", "share_of_effect", 0.01, 0.02)
    assert _verdicts(_table(none, part))[key] == CANNOT_TELL
