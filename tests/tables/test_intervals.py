import numpy as np
import pytest
from scipy.stats import binomtest

from lesion.tables.intervals import Bootstrap, Values, equal_draws, is_still, rate, rate_change

BOOT = Bootstrap(2_000, 0.95, 0)


def _hits(hits: int, n: int) -> Values:
    return np.repeat([1.0, 0.0], [hits, n - hits])


def _draws(size: int, seed: int = 0) -> Values:
    return np.random.default_rng(seed).normal(3, 1, size)


@pytest.mark.parametrize(("hits", "n"), [(0, 1), (0, 40), (40, 40), (3, 7), (50, 333)])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_wilson_as_scipy_has_it(hits: int, n: int, confidence: float) -> None:
    wanted = binomtest(hits, n).proportion_ci(confidence, method="wilson")
    found = rate([_hits(hits, n)], confidence)
    assert found == pytest.approx((hits / n, wanted.low, wanted.high, n), abs=1e-12)


def test_a_rate_of_none_is_not_clearly_above_zero() -> None:
    for sizes in ((7, 11, 13), (12, 12, 12, 12, 13), (40,)):
        none = rate([np.zeros(size) for size in sizes], 0.95)
        every = rate([np.ones(size) for size in sizes], 0.95)
        assert (none.low, every.high) == (0, 1)


def test_a_rate_of_groups_of_one_size_is_that_of_all_their_prompts() -> None:
    found = rate([_hits(1, 20), _hits(9, 20), _hits(5, 20)], 0.95)
    assert found == pytest.approx(rate([_hits(15, 60)], 0.95))


def test_each_group_counts_the_same_in_a_rate() -> None:
    small, large = _hits(4, 4), _hits(0, 400)
    found = rate([small, large], 0.95)
    assert found.value == 0.5
    assert found.n == 404
    # No surer than the small group lets it be.
    assert found.low < 0.3
    assert found.high > 0.7


def test_the_bootstrap_is_deterministic_and_goes_by_its_seed() -> None:
    groups = [_draws(20), _draws(9, 1)]
    one = BOOT.mean(groups)
    assert one == Bootstrap(2_000, 0.95, 0).mean(groups)
    other = Bootstrap(2_000, 0.95, 1).mean(groups)
    assert other.value == one.value
    assert (other.low, other.high) != (one.low, one.high)


def test_the_mean_is_over_groups_with_about_the_normal_interval() -> None:
    groups = [_draws(400), _draws(100, 1) + 4]
    found = BOOT.mean(groups)
    assert found.value == pytest.approx((groups[0].mean() + groups[1].mean()) / 2)
    assert found.n == 500
    error = np.sqrt(sum(one.var() / one.size for one in groups)) / 2
    assert found.low == pytest.approx(found.value - 1.96 * error, abs=0.2 * error)
    assert found.high == pytest.approx(found.value + 1.96 * error, abs=0.2 * error)


def test_more_confidence_is_wider() -> None:
    wide, narrow = (Bootstrap(2_000, one, 0).mean([_draws(50)]) for one in (0.99, 0.8))
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high


def test_a_ratio_of_means_resamples_its_sides_apart() -> None:
    above, below = [_draws(60)], [_draws(60, 1) / 2]
    found = BOOT.ratio(above, below)
    assert found.value == pytest.approx(above[0].mean() / below[0].mean())
    assert found.low < found.value < found.high
    assert found.n == 120
    # The same prompts on both sides would make a ratio without any spread.
    same = BOOT.ratio(above, above)
    assert same.value == 1
    assert same.high - same.low > 0.05


def _sides(both: int, lost: int, gained: int, neither: int) -> tuple[Values, Values]:
    counts = (both, lost, gained, neither)
    return np.repeat([1.0, 1, 0, 0], counts), np.repeat([1.0, 0, 1, 0], counts)


def test_a_change_of_rates_is_newcombes_with_mcnemars_p() -> None:
    # Newcombe 1998, Statistics in Medicine 17, 2635-2650, table III: 36 / 12 / 2 / 0 of 50.
    before, after = _sides(36, 2, 12, 0)
    found = rate_change([after], [before], 0.95)
    assert found.value == pytest.approx(-0.2)
    assert (found.low, found.high) == pytest.approx((-0.3404, -0.0569), abs=1e-4)
    assert found.p_value == binomtest(2, 14).pvalue


def test_agreement_makes_a_change_surer_and_none_leaves_a_width() -> None:
    loose, close, same = (
        rate_change([before], [after], 0.95)
        for before, after in (
            _sides(100, 50, 50, 100),
            _sides(145, 5, 5, 145),
            _sides(150, 0, 0, 150),
        )
    )
    assert loose.high > 2 * close.high > 2 * same.high > 0
    # About the exact error of a paired difference: sqrt(b + c) / n.
    assert close.high == pytest.approx(1.96 * np.sqrt(10) / 300, rel=0.1)


def test_a_small_group_that_changes_is_not_surer_for_a_large_one_that_does_not() -> None:
    """Each group's distances count in the mean; pooled, the large one's agreement is everyone's."""
    large, small = _sides(60, 0, 0, 40), _sides(6, 0, 3, 1)
    parts = [rate_change([before], [after], 0.95) for before, after in (large, small)]
    both = rate_change(*zip(large, small, strict=True), 0.95)
    assert both.value == pytest.approx(np.mean([part.value for part in parts]))
    below = [part.value - part.low for part in parts]
    assert both.value - both.low == pytest.approx(np.hypot(*below) / 2)
    lone = rate_change([small[0]], [small[1]], 0.95)
    assert rate_change([small[0]] * 4, [small[1]] * 4, 0.95).low == pytest.approx(
        lone.value - (lone.value - lone.low) / 2
    )


def test_an_interval_of_uneven_groups_contains_the_change_as_often_as_it_says() -> None:
    dice, kept = np.random.default_rng(5), 0
    for _ in range(400):
        # Of the small group, one prompt in five changes; of the large one, none.
        large, small = dice.random(100) < 0.8, np.ones(10)
        after = small - (dice.random(10) < 0.2)
        sides = [[large.astype(float), small], [large.astype(float), after]]
        found = rate_change(*sides, 0.95)
        kept += found.low <= -0.1 <= found.high
    assert kept / 400 > 0.92


def test_the_bootstraps_p_is_small_where_its_interval_leaves_zero_out() -> None:
    there, none = BOOT.change([_draws(30) - 2]), BOOT.change([_draws(30) - _draws(30).mean()])
    assert there.low > 0
    assert there.p_value == pytest.approx(2 / 2001)
    assert none.low < 0 < none.high
    assert none.p_value > 0.5


def test_what_is_detectable_is_detected_four_times_in_five() -> None:
    detectable = BOOT.change([_draws(60) - 3]).detectable
    runs = [Bootstrap(400, 0.95, 0).change([_draws(60, n) - 3 + detectable]) for n in range(300)]
    assert sum(one.low > 0 for one in runs) / 300 == pytest.approx(0.8, abs=0.1)


def test_the_area_resamples_pairs() -> None:
    below = _draws(50)
    found = BOOT.auroc(below + 1, below)
    wanted = (below[:, None] + 1 > below).mean()
    assert found.value == pytest.approx(wanted)
    assert found.low < wanted < found.high
    assert BOOT.auroc(below, below).value == 0.5


def test_scores_that_always_win_have_an_interval() -> None:
    high, low = np.linspace(1, 2, 12), np.linspace(0, 0.9, 12)
    one = BOOT.auroc(high, low)
    assert one == rate([np.ones(12)], BOOT.confidence)
    assert 0.7 < one.low < one.high == 1
    change = BOOT.auroc_change((high, low), (high, low))
    assert change == rate_change([np.ones(12)], [np.ones(12)], BOOT.confidence)
    assert (change.value, change.p_value, change.low < -0.05) == (0.0, 1.0, True)
    assert BOOT.auroc_change((high, low), (low, high)).value == -1


def test_scores_that_are_no_numbers_tell_nothing() -> None:
    scores = np.array([1.0, np.nan, 2.0, 3.0])
    one = BOOT.auroc(scores, np.zeros(4))
    assert np.isnan(one.value)
    assert np.isnan(BOOT.auroc(np.full(4, np.nan), np.zeros(4)).low)
    change = BOOT.auroc_change((np.ones(4), np.zeros(4)), (scores, np.zeros(4)))
    assert (change.p_value, np.isnan(change.value)) == (1.0, True)


@pytest.mark.parametrize("value", [0.0, 0.5, -3.5e-8])
def test_what_does_not_vary_is_told_from_none_by_nothing(value: float) -> None:
    values = np.full(40, value) + 1e-9 * np.arange(40) / 40
    one = BOOT.change([values, values[:1]])
    assert (one.p_value, np.isnan(one.detectable)) == (1.0, True)
    assert is_still(one.low, one.high)
    varied = BOOT.change([values + 0.01 * (np.arange(40) % 2)])
    assert np.isfinite(varied.detectable)
    assert not is_still(varied.low, varied.high)


def test_draws_of_uneven_groups() -> None:
    assert equal_draws([12, 12, 12]) == pytest.approx(36)
    assert equal_draws([1, 99]) == pytest.approx(4 / (1 + 1 / 99))
