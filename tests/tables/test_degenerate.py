"""Rows that say nothing, through measurements and claims: none of them may support anything."""

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from lesion.tables.claims.claim import Setting
from lesion.tables.claims.outcome import CANNOT_TELL, SUPPORTED
from lesion.tables.claims.table import claims
from lesion.tables.curve import HALVINGS
from lesion.tables.intervals import Bootstrap
from lesion.tables.measure import PromptNumbers, measurements, same_answers
from lesion.tables.rows import MEASUREMENTS, UNMODIFIED

BOOT = Bootstrap(300, 0.95, 7)
SETTING = Setting(1_000_000, 500)
SIZES = {
    ("alpha", "harm"): 12,
    ("beta", "harm"): 14,
    ("sums", "benign"): 20,
    ("alpha-matched", "matched"): 12,
    ("beta-matched", "matched"): 14,
}
EMPTY = pl.DataFrame(schema=HALVINGS)


def _asked() -> PromptNumbers:
    """A mask that adds a nat to harm alone, halves its harmfulness and keeps the rest."""
    generator = np.random.default_rng(2)
    nll, judged, understood = [], [], []
    for (behaviour, role), count in SIZES.items():
        for number in range(count):
            own, harm = generator.normal(5, 2), generator.uniform(0.7, 0.9)
            for variant in (UNMODIFIED, "shared", "alpha", "beta"):
                factor = float(variant != UNMODIFIED) * (1.0 if role == "harm" else 0.02)
                added = factor * generator.normal(1, 0.1)
                prompt = f"prompt {number}"
                nll.append((variant, behaviour, role, prompt, own + added, None))
                if role == "harm":
                    score = harm * (1 if variant == UNMODIFIED else generator.uniform(0.2, 0.5))
                    refused = number % 4 > 0
                    at = (variant, behaviour, role)
                    judged.append((*at, "prefill", prompt, "learned", score, score > 0.5))
                    judged.append((*at, "direct", prompt, "matching", float(refused), refused))
                    for harmful in (True, False):
                        value = 2.0 * harmful + generator.normal()
                        row = (variant, "detect", behaviour, f"{number}", "?", harmful, value)
                        understood.append(row)
    pairs = [
        (behaviour, f"prompt {number}", behaviour.removesuffix("-matched"), f"prompt {number}")
        for (behaviour, role), count in SIZES.items()
        for number in range(count if role == "matched" else 0)
    ]
    return PromptNumbers(
        _frame(nll, NLL),
        _frame(judged, JUDGED),
        None,
        _frame(understood, UNDERSTOOD),
        pl.DataFrame(pairs, schema=["behaviour", "prompt", "of", "counterpart"], orient="row"),
    )


NLL = ["variant", "behaviour", "role", "prompt", "nll", "kl"]
JUDGED = ["variant", "behaviour", "role", "attack", "prompt", "judge", "score", "label"]
UNDERSTOOD = ["variant", "measure", "behaviour", "pair", "prompt", "harmful", "value"]


def _frame(rows: list[tuple[object, ...]], names: list[str]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=names, orient="row").with_columns(
        pl.col(pl.Null).cast(pl.Float64)
    )


def _verdicts(asked: PromptNumbers) -> dict[str, str]:
    measured = measurements("toy", asked, BOOT)
    assert dict(measured.schema) == MEASUREMENTS
    found = claims("toy", measured, EMPTY, SETTING)
    return {row["statistic"]: row["verdict"] for row in found.to_dicts()}


LIKELY = {"nll_added", "harm_minus_benign_nll_added", "transfer_share", "specificity"}
JUDGEMENTS = {"harmfulness_change"}
DETECTED = {"detect_auroc_change"}
ALL = LIKELY | JUDGEMENTS


def test_without_damage_they_are_supported() -> None:
    found = _verdicts(_asked())
    assert {name for name, verdict in found.items() if verdict == SUPPORTED} >= ALL


def _same(score: float, column: str = "score") -> Callable[[PromptNumbers], PromptNumbers]:
    return lambda asked: asked._replace(
        judged=asked.judged.with_columns(pl.lit(score).alias(column))
    )


def _by_variant(asked: PromptNumbers) -> PromptNumbers:
    """One answer of the unmodified model to everything, one other of the ablated one."""
    judged = asked.judged.with_columns(
        score=pl.when(variant=UNMODIFIED).then(0.8).otherwise(0.2), label=pl.lit(True)
    )
    return asked._replace(judged=judged)


def _rounding(asked: PromptNumbers) -> PromptNumbers:
    """As single precision leaves it: no prompt changes but in its last bit."""
    number = pl.int_range(pl.len())
    before = asked.nll.filter(variant=UNMODIFIED).select("behaviour", "prompt", own="nll")
    nll = asked.nll.join(before, on=["behaviour", "prompt"], maintain_order="left")
    tiny = (number % 3).cast(pl.Float64) * 1e-8
    judged = asked.judged.with_columns(
        score=0.6 - 3.5e-8 * (pl.col("variant") != UNMODIFIED) + tiny / 9
    )
    moved = pl.col("own") + 3.5e-8 * (pl.col("variant") != UNMODIFIED) + tiny
    return asked._replace(nll=nll.with_columns(nll=moved).drop("own"), judged=judged)


def _shifted(asked: PromptNumbers) -> PromptNumbers:
    """Every prompt loses the same."""
    before = asked.nll.filter(variant=UNMODIFIED).select("behaviour", "prompt", own="nll")
    nll = asked.nll.join(before, on=["behaviour", "prompt"], maintain_order="left")
    more = pl.when(variant=UNMODIFIED).then(0.0).otherwise(1.0) * (pl.col("role") == "harm")
    return asked._replace(nll=nll.with_columns(nll=pl.col("own") + more).drop("own"))


def _prompts(count: int) -> Callable[[PromptNumbers], PromptNumbers]:
    kept = [f"prompt {number}" for number in range(count)]
    pairs = [str(number) for number in range(count)]

    def damage(asked: PromptNumbers) -> PromptNumbers:
        assert asked.understanding is not None
        return asked._replace(
            nll=asked.nll.filter(pl.col("prompt").is_in(kept)),
            judged=asked.judged.filter(pl.col("prompt").is_in(kept)),
            understanding=asked.understanding.filter(
                pl.col("pair").is_in(pairs), behaviour="alpha"
            ),
        )

    return damage


def _of_one_type(asked: PromptNumbers) -> PromptNumbers:
    """One prompt of a harm type beside all of the others."""
    one = (pl.col("behaviour") != "alpha") | (pl.col("prompt") == "prompt 0")
    return asked._replace(nll=asked.nll.filter(one), judged=asked.judged.filter(one))


def _broken(value: float) -> Callable[[PromptNumbers], PromptNumbers]:
    """The ablated model gives no number for one prompt."""
    here = (pl.col("variant") != UNMODIFIED) & (pl.col("prompt") == "prompt 3")

    def damage(asked: PromptNumbers) -> PromptNumbers:
        assert asked.understanding is not None
        there = (pl.col("variant") != UNMODIFIED) & (pl.col("pair") == "3")
        return asked._replace(
            nll=asked.nll.with_columns(nll=pl.when(here).then(value).otherwise("nll")),
            judged=asked.judged.with_columns(score=pl.when(here).then(value).otherwise("score")),
            understanding=asked.understanding.with_columns(
                value=pl.when(there).then(float("nan")).otherwise("value")
            ),
        )

    return damage


@pytest.mark.parametrize(
    ("damage", "of"),
    [
        pytest.param(_same(0.6), JUDGEMENTS, id="a judge that gives one number"),
        pytest.param(_by_variant, JUDGEMENTS, id="one answer before and one after"),
        pytest.param(_rounding, ALL, id="nothing but rounding"),
        pytest.param(_shifted, LIKELY, id="all prompts lose the same"),
        pytest.param(_prompts(1), ALL | DETECTED, id="one prompt of each behaviour"),
        pytest.param(_prompts(2), ALL | DETECTED, id="two prompts of each behaviour"),
        pytest.param(_of_one_type, ALL, id="one prompt of one behaviour"),
        pytest.param(_broken(float("nan")), ALL | DETECTED, id="a prompt without a number"),
        pytest.param(_broken(float("inf")), ALL, id="a prompt of no chance"),
    ],
)
def test_what_says_nothing_supports_nothing(
    damage: Callable[[PromptNumbers], PromptNumbers], of: set[str]
) -> None:
    found = _verdicts(damage(_asked()))
    assert {name: found[name] for name in of} == dict.fromkeys(of, CANNOT_TELL)


def test_answers_that_are_all_the_same_are_found() -> None:
    rows = [
        (variant, role, attack, text)
        for variant, role, attack, texts in (
            ("unmodified", "harm", "prefill", ("a", "b", "a")),
            ("shared", "harm", "prefill", ("", " ", "\n")),
            ("shared", "harm", "direct", ("no", "no ", "no")),
            ("shared", "explanation", "explanation", ("because", "why not", "so")),
            ("random", "benign", "prefill", ("x", "x", "x")),
        )
        for text in texts
    ]
    table = pl.DataFrame(rows, schema=["variant", "role", "attack", "completion"], orient="row")
    assert same_answers(table) == {("shared", "prefill"), ("shared", "direct")}
    assert same_answers(table.clear()) == frozenset()
