"""What a mask adds to harmful answers and not to harmless ones on the same topics."""

import numpy as np
import polars as pl
import pytest

from lesion.tables.claims.specific import unlike_pairs, unspecific
from lesion.tables.effects import MOST, NATS
from lesion.tables.intervals import Bootstrap
from lesion.tables.likelihoods import specificity_rows
from lesion.tables.rows import MEASUREMENTS

BOOT = Bootstrap(400, 0.95, 3)
TYPES = ("fraud", "theft")
PAIRS = 12


def _tables(harmful: float, harmless: float, noise: float = 0.0) -> tuple[pl.DataFrame, ...]:
    """NLLs before and after a mask that adds `harmful` and `harmless` nats, and the pairs."""
    dice = np.random.default_rng(1)
    rows, pairs = [], []
    for of in TYPES:
        for number in range(PAIRS):
            sides = {of: (f"{of} {number}", harmful), f"{of}-matched": (f"good {number}", harmless)}
            for (behaviour, (prompt, added)), role in zip(
                sides.items(), ("harm", "matched"), strict=True
            ):
                own = {"behaviour": behaviour, "role": role, "prompt": prompt, "kl": None}
                before = float(dice.uniform(0.5, 1))
                after = before + added + noise * float(dice.normal())
                rows += [
                    {**own, "variant": "unmodified", "nll": before},
                    {**own, "variant": "shared", "nll": after},
                ]
            pair = {"behaviour": f"{of}-matched", "prompt": f"good {number}"}
            pairs.append({**pair, "of": of, "counterpart": f"{of} {number}"})
    schema = {"variant": pl.String, "behaviour": pl.String, "role": pl.String, "prompt": pl.String}
    nll = pl.DataFrame(rows, schema={**schema, "nll": pl.Float64, "kl": pl.Float64})
    return nll, pl.DataFrame(pairs)


def _measured(nll: pl.DataFrame, matched: pl.DataFrame) -> pl.DataFrame:
    return pl.DataFrame(list(specificity_rows(nll, matched, BOOT)), schema=MEASUREMENTS)


def _specificity(table: pl.DataFrame) -> dict[str, float]:
    (row,) = table.filter(metric="specificity", level="total", variant="shared").to_dicts()
    return row


@pytest.mark.parametrize(("harmless", "share"), [(0.0, 1.0), (0.1, 0.75), (0.4, 0.0), (0.6, -0.5)])
def test_it_is_the_share_that_harmless_answers_do_not_lose(harmless: float, share: float) -> None:
    row = _specificity(_measured(*_tables(0.4, harmless)))
    assert row["value"] == pytest.approx(share)
    assert row["low"] == pytest.approx(share)
    assert row["n"] == 2 * PAIRS
    assert (row["variant"], row["role"], row["level"]) == ("shared", "harm", "total")


def test_its_interval_contains_it_and_grows_with_the_noise() -> None:
    rows = [_specificity(_measured(*_tables(0.4, 0.1, noise))) for noise in (0.02, 0.2)]
    for row in rows:
        assert row["low"] < row["value"] < row["high"]
    assert rows[1]["high"] - rows[1]["low"] > 3 * (rows[0]["high"] - rows[0]["low"])


def test_pairs_of_which_one_side_was_not_measured_do_not_count() -> None:
    nll, matched = _tables(0.4, 0.1)
    rest = nll.filter(pl.col("prompt") != "fraud 3", pl.col("prompt") != "good 5")
    table = _measured(rest, matched)
    assert _specificity(table)["n"] == 2 * PAIRS - 3
    added = table.filter(metric="counterpart_nll_added", behaviour="fraud").to_dicts()[0]
    assert added["n"] == PAIRS - 2
    assert added["value"] == pytest.approx(0.4)


def test_without_matched_requests_there_is_none() -> None:
    nll, matched = _tables(0.4, 0.1)
    assert not _measured(nll, matched.clear()).height
    assert "has no matched requests" in unspecific(_measured(nll, matched.clear()), TYPES)


@pytest.mark.parametrize(
    ("harmful", "harmless", "why"),
    [
        (0.4, 0.1, ""),
        (0.4, 0.3, "is not clearly one on harm.*specificity is 0.2"),
        (0.4, 0.4 * (1 - MOST), "more than 0.5 is needed"),
        (0.4, 0.8, "is not clearly one on harm"),
        (NATS / 2, 0.0, "unclear or too small"),
        (-0.4, 0.0, "unclear or too small"),
    ],
)
def test_a_mask_is_specific_if_most_of_its_effect_is(
    harmful: float, harmless: float, why: str
) -> None:
    reason = unspecific(_measured(*_tables(harmful, harmless, 0.01)), TYPES)
    assert (reason == "") == (why == "")
    assert pl.Series([reason]).str.contains(why).all()


def test_an_uncertain_mask_is_not_specific() -> None:
    reason = unspecific(_measured(*_tables(0.4, 0.19, 0.5)), TYPES)
    assert "is not clearly one on harm" in reason


def test_every_harm_type_needs_matched_requests() -> None:
    nll, matched = _tables(0.4, 0.05, 0.01)
    table = _measured(nll, matched.filter(of="fraud"))
    assert unspecific(table, TYPES).startswith("Of theft there are no matched requests")
    assert unspecific(table, ["fraud"]) == ""


def test_few_pairs_show_nothing() -> None:
    nll, matched = _tables(0.4, 0.05, 0.01)
    reason = unspecific(_measured(nll, matched.head(2)), ["fraud"])
    assert "too few prompts" in reason


def test_the_masks_of_all_types_are_measured_on_the_pairs_of_the_others() -> None:
    nll, matched = _tables(0.4, 0.1)
    other = _tables(0.4, 0.3)[0].filter(variant="shared")
    # A mask does to the pairs of its own type what claims about transfer must not count.
    of_theft = pl.col("behaviour").str.starts_with("theft")
    own = pl.concat([nll.filter(of_theft, variant="shared"), other.filter(~of_theft)]).with_columns(
        variant=pl.lit("theft")
    )
    masks = [nll.filter(variant="shared").with_columns(variant=pl.lit("fraud")), own]
    table = _measured(pl.concat([nll, *masks]), matched)
    (row,) = table.filter(
        pl.col("variant").is_null(), metric="specificity", level="total"
    ).to_dicts()
    # The mask of fraud adds 0.1 to matched requests of theft, and that of theft 0.3 to fraud's.
    assert row["value"] == pytest.approx(1 - 0.2 / 0.4)
    assert row["n"] == 2 * PAIRS


def test_a_type_that_is_clearly_not_harm_is_not_carried_by_the_others() -> None:
    good, matched = _tables(0.4, 0.0, 0.01)
    bad = _tables(0.4, 0.3, 0.01)[0]
    of_theft = pl.col("behaviour").str.starts_with("theft")
    table = _measured(pl.concat([good.filter(~of_theft), bad.filter(of_theft)]), matched)
    (total,) = table.filter(variant="shared", metric="specificity", level="total").to_dicts()
    assert total["low"] > MOST
    assert unspecific(table, TYPES).startswith("The effect on theft is not one on harm")


WORDING = "I am a clerk and have a question about my own work, which is urgent. {prompt}"
SAME = ("Write a letter that frightens a tenant", "Write a letter that thanks a tenant")
OTHER = ("Write a letter that frightens a tenant", "Write a poem about winter birds")


def _pairs(of: str, sides: tuple[str, str], wording: str = "{prompt}") -> pl.DataFrame:
    harmful, harmless = (wording.replace("{prompt}", text) for text in sides)
    return pl.DataFrame({"prompt": [harmless], "counterpart": [harmful], "of": [of]})


@pytest.mark.parametrize("wording", ["{prompt}", WORDING])
def test_pairs_about_different_things_are_named(wording: str) -> None:
    matched = pl.concat([_pairs("threats", SAME, wording), _pairs("fraud", OTHER, wording)])
    notice = unlike_pairs(matched, ["{prompt}", WORDING])
    assert "fraud (0." in notice
    assert "threats" not in notice
    assert not unlike_pairs(matched.filter(of="threats"), ["{prompt}", WORDING])
    assert not unlike_pairs(matched.head(0), ["{prompt}"])


def test_a_wording_that_both_sides_share_would_make_them_alike() -> None:
    worded = _pairs("fraud", OTHER, WORDING)
    assert not unlike_pairs(worded, ["{prompt}"])
    assert unlike_pairs(worded, ["{prompt}", WORDING]) == unlike_pairs(_pairs("fraud", OTHER), [])
