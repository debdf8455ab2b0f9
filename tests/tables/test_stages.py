import math

import numpy as np
import polars as pl
import pytest

from lesion.responses import CURVE
from lesion.tables.claims.outcome import CANNOT_TELL, NOT_SUPPORTED, SUPPORTED
from lesion.tables.claims.table import stage_claims
from lesion.tables.effects import NATS
from lesion.tables.intervals import Bootstrap
from lesion.tables.jobs import Stage
from lesion.tables.run import reasons_of_ends
from lesion.tables.schemas import CLAIMS
from lesion.tables.stages import STAGES, stage_table

BOOT = Bootstrap(300, 0.95, 7)
LIMIT = 0.1
SIZES = {0.5: 100, 1.0: 200, 2.0: 800}
BENIGN = (0.02, 0.08, 0.24)
HARM = (0.1, 0.4, 1.2)
FAMILY = [
    Stage(name="base", models=["base"]),
    Stage(name="chat", models=["chat-1", "chat-2"]),
]


def _model(
    harm: tuple[float, ...] = HARM,
    benign: tuple[float, ...] = BENIGN,
    *,
    scatter: float = 0.0,
    sizes: dict[float, int] | None = None,
    seed: int = 0,
) -> pl.DataFrame:
    """A model whose mask adds so much at each size; `scatter` is that of prompts about it."""
    generator = np.random.default_rng(seed)
    rows = []
    for role, added, prompts in (("harm", harm, 9), ("benign", benign, 14)):
        for number in range(prompts):
            own, pull = generator.normal(5, 2), 1 + scatter * generator.normal()
            place = (role[:2], role, f"prompt {number}")
            rows.append(("unmodified", 3, 0.0, 0, *place, own, "key"))
            rows += [
                ("shared", 3, size_ratio, weights, *place, own + pull * one, "key")
                for (size_ratio, weights), one in zip((sizes or SIZES).items(), added, strict=True)
            ]
    # In another order, so that pairing must go by prompt.
    table = pl.DataFrame(rows, schema=CURVE, orient="row")
    return table.sample(fraction=1, shuffle=True, seed=seed)


def _found(*models: pl.DataFrame, boot: Bootstrap = BOOT) -> pl.DataFrame:
    nll = dict(zip([name for stage in FAMILY for name in stage.models], models, strict=True))
    table = stage_table("toy", FAMILY, nll, boot, LIMIT)
    assert dict(table.schema) == STAGES
    return table


def _one(table: pl.DataFrame, stage: int, metric: str) -> dict[str, float]:
    return table.filter(stage=stage, metric=metric).row(0, named=True)


def test_a_row_for_every_stage_and_metric() -> None:
    table = _found(_model(), _model(), _model())
    changes = ["area", "area_change", "separability", "separability_change"]
    wanted = [("base", 1, one) for one in changes[::2]] + [("chat", 2, one) for one in changes]
    assert sorted(table.select("name", "seeds", "metric").rows()) == sorted(wanted)
    assert set(table["n"]) == {9 + 14}
    assert set(table["family"]) == {"toy"}


def test_separability_is_harm_where_benign_reaches_the_limit() -> None:
    table = _found(_model(), _model((0.2, 0.8, 2.4)), _model((0.1, 0.4, 2.0)))
    # Benign is at 0.1 an eighth of the way from the second size to the third.
    truth = {"base": 0.4 + 0.8 / 8, "chat-1": 0.8 + 1.6 / 8, "chat-2": 0.4 + 1.6 / 8}
    base, chat = _one(table, 0, "separability"), _one(table, 1, "separability")
    assert base["value"] == pytest.approx(truth["base"])
    assert chat["value"] == pytest.approx((truth["chat-1"] + truth["chat-2"]) / 2)
    change = _one(table, 1, "separability_change")
    assert change["value"] == pytest.approx(chat["value"] - base["value"])
    # Every prompt adds the same, so only the two seeds scatter: both alike, or one of each.
    assert (base["low"], base["high"]) == pytest.approx((truth["base"], truth["base"]))
    assert (chat["low"], chat["high"]) == pytest.approx((truth["chat-2"], truth["chat-1"]))
    assert (base["beyond"], chat["beyond"], change["beyond"]) == (False, False, False)


def test_area_is_the_mean_gap_over_log_k() -> None:
    table = _found(_model(), _model((0.2, 0.8, 2.4)), _model((0.2, 0.8, 2.4)))
    gaps = [harm - benign for harm, benign in zip(HARM, BENIGN, strict=True)]
    parts = math.log(2) * (gaps[0] + gaps[1]) / 2 + math.log(4) * (gaps[1] + gaps[2]) / 2
    one = _one(table, 0, "area")
    assert one["value"] == pytest.approx(parts / math.log(8))
    assert one["beyond"] is None
    more = math.log(2) * 0.5 / 2 + math.log(4) * 1.6 / 2
    assert _one(table, 1, "area_change")["value"] == pytest.approx(more / math.log(8))


def test_benign_that_never_reaches_the_limit_is_beyond() -> None:
    low = _model(benign=(0.0, 0.01, 0.05))
    table = _found(low, _model(), _model())
    base = _one(table, 0, "separability")
    assert (base["value"], base["beyond"]) == (pytest.approx(HARM[-1]), True)
    assert not _one(table, 1, "separability")["beyond"]
    assert _one(table, 1, "separability_change")["beyond"]
    # One seed is enough.
    assert _one(_found(_model(), low, _model()), 1, "separability")["beyond"]


def test_below_the_smallest_size_the_line_comes_from_nothing() -> None:
    steep = _model(benign=(0.4, 0.5, 0.6))
    one = _one(_found(steep, _model(), _model()), 0, "separability")
    assert (one["value"], one["beyond"]) == (pytest.approx(HARM[0] / 4), False)


def _separability(harm: np.ndarray, benign: np.ndarray) -> float:
    """In plain words, over log K; these curves rise and begin below the limit."""
    logs = np.log(list(SIZES.values()))
    if benign[-1] < LIMIT:
        return float(harm[-1])
    return float(np.interp(np.interp(LIMIT, benign, logs), logs, harm))


def _added(table: pl.DataFrame, role: str) -> np.ndarray:
    """[prompts, sizes]."""
    rows = table.filter(role=role).sort("prompt", "size_ratio")
    nll = rows["nll"].to_numpy().reshape(-1, 1 + len(SIZES))
    return nll[:, 1:] - nll[:, :1]


def test_intervals_are_those_of_prompts_and_seeds_resampled_together() -> None:
    models = [
        _model(scatter=0.2),
        _model((0.2, 0.7, 1.5), scatter=0.3, seed=1),
        _model((0.1, 0.5, 1.9), scatter=0.3, seed=2),
    ]
    table = _found(*models)
    parts = [(_added(one, "harm"), _added(one, "benign")) for one in models]
    draws = [np.random.default_rng(BOOT.seed + more) for more in range(3)]
    sizes = [9, 14, 2]
    harm, benign, seeds = (
        dice.integers(0, size, (BOOT.resamples, size))
        for dice, size in zip(draws, sizes, strict=True)
    )
    changes = []
    for row in range(BOOT.resamples):
        each = [_separability(h[harm[row]].mean(0), b[benign[row]].mean(0)) for h, b in parts]
        changes.append(np.mean([each[1 + seed] for seed in seeds[row]]) - each[0])
    low, high = np.quantile(changes, [0.025, 0.975], method="inverted_cdf")
    one = _one(table, 1, "separability_change")
    assert (one["low"], one["high"]) == pytest.approx((low, high))


def test_stages_are_paired_by_prompt() -> None:
    one = _model(scatter=0.5)
    # All harm adds a tenth more, whatever the prompt.
    more = one.with_columns(
        pl.when(pl.col("role") == "harm", pl.col("family") == "shared")
        .then(pl.col("nll") + 0.1)
        .otherwise("nll")
        .alias("nll")
    )
    table = _found(one, more, more)
    separability, change = (_one(table, 1, f"separability{end}") for end in ("", "_change"))
    assert separability["high"] - separability["low"] > 0.1
    assert (change["low"], change["high"]) == pytest.approx((0.1, 0.1))


def test_stages_of_as_many_seeds_are_paired_by_seed() -> None:
    # The names of the models say nothing about the name of the stage.
    stages = [
        Stage(name="first", models=["base-1", "base-2"]),
        Stage(name="second", models=["chat", "other"]),
    ]
    base = [_model(), _model((0.2, 0.8, 2.4))]
    chat = [_model((0.2, 0.5, 1.3)), _model((0.3, 0.9, 2.5))]
    names = [name for stage in stages for name in stage.models]
    table = stage_table("toy", stages, dict(zip(names, base + chat, strict=True)), BOOT, LIMIT)
    assert table["name"].unique(maintain_order=True).to_list() == ["first", "second"]
    change = _one(table, 1, "separability_change")
    # The seeds differ by a half, but each gained a tenth.
    assert (change["low"], change["value"], change["high"]) == pytest.approx((0.1, 0.1, 0.1))


def test_only_sizes_and_prompts_that_all_models_have_count() -> None:
    whole = [_model(scatter=0.3, seed=seed) for seed in range(3)]
    short = whole[1].filter(pl.col("size_ratio") < 2, pl.col("prompt") != "prompt 3")
    table = _found(whole[0], short, whole[2])
    both = [one.filter(pl.col("size_ratio") < 2, pl.col("prompt") != "prompt 3") for one in whole]
    assert table.equals(_found(*both))
    assert set(table["n"]) == {8 + 13}


def test_one_size_has_a_gap_and_no_width() -> None:
    one = _model((0.5,), (0.2,), sizes={1.0: 200})
    table = _found(one, one, one)
    assert _one(table, 0, "area")["value"] == pytest.approx(0.3)
    assert _one(table, 0, "separability")["value"] == pytest.approx(0.25)


def test_nothing_measured_gives_no_rows() -> None:
    nothing = pl.DataFrame(schema=CURVE)
    table = _found(*[nothing] * 3)
    assert table.is_empty()
    assert _found(_model(), nothing, _model()).is_empty()
    assert dict(stage_claims(table, LIMIT).schema) == CLAIMS


@pytest.mark.parametrize(
    ("harm", "benign", "verdict"),
    [
        ((0.2, 0.8, 2.4), BENIGN, SUPPORTED),
        ((0.1, 0.2, 0.6), BENIGN, NOT_SUPPORTED),
        (HARM, BENIGN, NOT_SUPPORTED),
        ((0.115, 0.46, 1.38), BENIGN, CANNOT_TELL),
        # No separability at the limit was measured.
        ((0.2, 0.8, 2.4), (0.0, 0.01, 0.05), CANNOT_TELL),
    ],
)
def test_alignment_compresses_if_separability_grew(
    harm: tuple[float, ...], benign: tuple[float, ...], verdict: str
) -> None:
    last = _model(harm, benign, scatter=0.1)
    stages = [
        *(Stage(name=name, models=[name]) for name in ("base", "chat")),
        Stage(name="best", models=["best-1", "best-2"]),
    ]
    nll = {"base": _model(), "chat": _model(), "best-1": last, "best-2": last}
    table = stage_table("toy", stages, nll, BOOT, LIMIT)
    assert set(table["smaller_side"]) == {9}
    found = stage_claims(table, LIMIT)
    assert dict(found.schema) == CLAIMS
    row = found.row(0, named=True)
    assert (found.height, row["claim"], row["model"], row["variant"]) == (1, 4, "toy", "best")
    assert (row["value"], row["threshold"], row["verdict"]) == (
        _one(table, 2, "separability_change")["value"],
        NATS,
        verdict,
    )
    assert (row["why"] is not None) == bool(_one(table, 2, "separability_change")["beyond"])
    assert "no measured size" in (row["why"] or "no measured size")


def test_a_limit_that_resamples_may_never_reach_leaves_a_bound_open() -> None:
    barely = _model(benign=(0.02, 0.05, 0.09), scatter=0.5)
    grown = _model((0.2, 0.8, 2.4), scatter=0.5)
    table = _found(barely, grown, grown)
    first, change = _one(table, 0, "separability"), _one(table, 1, "separability_change")
    assert not first["beyond"]
    assert [first["low"], first["high"], change["low"], change["high"]] == [None] * 4
    assert _claim(table)["verdict"] == CANNOT_TELL


def _claim(table: pl.DataFrame, limit: float = LIMIT) -> dict[str, str]:
    return stage_claims(table, limit).row(0, named=True)


def test_a_change_of_stages_needs_an_effect_that_varies() -> None:
    base = _model(scatter=0.1)
    grown = _model((0.2, 0.8, 2.4), scatter=0.1)
    table = _found(base, grown, grown)
    assert _claim(table)["verdict"] == SUPPORTED
    # Every prompt gives the same: an interval without a width.
    still = _claim(_found(_model(), *[_model((0.2, 0.8, 2.4))] * 2))
    assert (still["verdict"], still["low"]) == (CANNOT_TELL, pytest.approx(still["high"]))
    assert "the variance of the number is unknown" in still["why"]
    # A change that is sure, and too small to count.
    little = _model((0.101, 0.404, 1.212), scatter=0.1)
    row = _claim(_found(base, little, little))
    assert (row["verdict"], 0 < row["value"] < NATS) == (NOT_SUPPORTED, True)


def test_stages_at_a_lifted_limit_support_nothing() -> None:
    base, grown = _model(scatter=0.1), _model((0.2, 0.8, 2.4), scatter=0.1)
    table = stage_table(
        "toy", FAMILY, {"base": base, "chat-1": grown, "chat-2": grown}, BOOT, LIMIT
    )
    row = _claim(table, limit=3.0)
    assert (row["verdict"], "lifted or missed" in row["why"]) == (CANNOT_TELL, True)


def test_a_claim_about_stages_heeds_what_is_wrong_at_either_end() -> None:
    good = {"unspecific": "", "limit_kept": True}
    models = {"base": good, "chat-1": good, "chat-2": good}
    assert reasons_of_ends(FAMILY, models) == ""
    for model in models:
        lost = {**models, model: {**good, "limit_kept": False}}
        assert "lifted or missed" in reasons_of_ends(FAMILY, lost)
        topic = {**models, model: {**good, "unspecific": "It is one of topic."}}
        assert reasons_of_ends(FAMILY, topic) == "It is one of topic."
    middle = [FAMILY[0], Stage(name="light", models=["light"]), FAMILY[1]]
    assert reasons_of_ends(middle, {**models, "light": {**good, "limit_kept": False}}) == ""


def test_few_prompts_of_one_behaviour_are_few() -> None:
    def few(table: pl.DataFrame) -> pl.DataFrame:
        """Three of the prompts are of another harm type."""
        another = pl.col("prompt").is_in([f"prompt {number}" for number in range(3)])
        of = pl.when((pl.col("role") == "harm") & another).then(pl.lit("arson"))
        return table.with_columns(behaviour=of.otherwise("behaviour"))

    models = [few(_model(scatter=0.1)), *[few(_model((0.2, 0.8, 2.4), scatter=0.1))] * 2]
    table = _found(*models)
    assert set(table["fewest"]) == {3}
    row = _claim(table)
    assert row["verdict"] == CANNOT_TELL
    assert "one behaviour has 3" in row["why"]


def test_few_prompts_of_one_side_are_few() -> None:
    def few(table: pl.DataFrame) -> pl.DataFrame:
        kept = [f"prompt {number}" for number in range(4)]
        return table.filter((pl.col("role") == "benign") | pl.col("prompt").is_in(kept))

    models = [few(_model(scatter=0.1)), *[few(_model((0.2, 0.8, 2.4), scatter=0.1))] * 2]
    row = _claim(_found(*models))
    assert (row["n"], row["verdict"]) == (4 + 14, CANNOT_TELL)
    assert "too few prompts" in row["why"]
