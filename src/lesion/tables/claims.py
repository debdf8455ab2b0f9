"""The paper's claims (arXiv 2604.09544), each held against one number and its interval. Pure.

A claim is supported, or not supported, where the whole interval lies on one side of the smallest
effect that counts (`lesion.tables.effects`); else it is "can't tell", which is not "no". "Can't
tell" it is, too, where there is nothing to lose, as where the intact model hardly refuses; where
nothing varies, since an interval without a width is no certainty; where few prompts are behind it;
and, in place of "supported", where a claim rests on something that the study does not keep, as on
its limit on benign loss.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import polars as pl

from lesion.tables.curve import LIKELIHOOD
from lesion.tables.effects import (
    COMPACT,
    FEWEST,
    MARGIN,
    MOST,
    NATS,
    NOTHING,
    SOMETHING_TO_LOSE,
)
from lesion.tables.intervals import equal_draws, is_still

CLAIMS = {
    "model": pl.String,
    "claim": pl.Int64,
    "name": pl.String,
    "statistic": pl.String,
    "variant": pl.String,
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "n": pl.Int64,
    "threshold": pl.Float64,
    "verdict": pl.String,
    "why": pl.String,
}
"""`claim` is its number in the list of the method's claims (README); `threshold` is the smallest
effect that counts, which the interval is held against. `why` is a sentence where the verdict is
"can't tell" for another reason than that the interval includes the threshold, else null."""

SUPPORTED, NOT_SUPPORTED, CANNOT_TELL = "supported", "not supported", "can't tell"


class Number(NamedTuple):
    """A number that a claim is held against; what is not known of it is NaN.

    Where it has no end on a side, that bound is infinite. `draws` are as many prompts of one kind
    as would leave as much to chance: `n`, where all behaviours have as many.
    """

    value: float
    low: float
    high: float
    n: int
    draws: float


Find = Callable[..., Number | None]


class Held(NamedTuple):
    """A number, and the side of a threshold on which it supports the claim."""

    number: Number | None
    threshold: float
    above: bool = True
    lacking: str = ""
    """Why the number says nothing, wherever its interval lies."""
    doubt: str = ""
    """Why it cannot support the claim, though it may speak against it."""
    scale: float = 1.0
    """The size of the numbers that it is made of."""


class Setting(NamedTuple):
    """What there is to know of a model's shared mask beside the measurements."""

    candidates: int
    """Weights that masks are chosen from."""
    zeroed: int
    """Weights that the mask zeroes."""
    limit_kept: bool = True
    """Whether it keeps a limit on benign loss (`lesion.tables.limits`)."""
    same: frozenset[tuple[str, str]] = frozenset()
    """Variants and attacks whose answers are one and the same text."""


LIMIT_LOST = (
    "The limit on benign loss was lifted or missed, so the mask may have taken language at large."
)
_KEPT = frozenset(
    {"accuracy_change", "detect_auroc_change", "coherence_change", "refusal_rate_change"}
)
"""Statistics of what is kept: a mask that does more damage makes them harder to support."""


def claims(
    model: str, measurements: pl.DataFrame, halving: pl.DataFrame, setting: Setting
) -> pl.DataFrame:
    """Every claim that the study's measurements can speak to.

    Args:
        model: its name.
        measurements: the model's table of MEASUREMENTS.
        halving: the model's table of HALVINGS.
        setting: its shared mask.

    Returns:
        A table of CLAIMS; a claim that nothing was measured for has no row.
    """
    return table((model, _resting(one, setting)) for one in _all(measurements, halving, setting))


Claimed = tuple[int, str, str, str, Held]


def _resting(one: Claimed, setting: Setting) -> Claimed:
    claim, name, statistic, variant, held = one
    if setting.limit_kept or statistic in _KEPT:
        return one
    doubt = f"{held.doubt} {LIMIT_LOST}".strip()
    return claim, name, statistic, variant, held._replace(doubt=doubt)


def table(found: Iterable[tuple[str, Claimed]]) -> pl.DataFrame:
    """A table of CLAIMS of models' (or families') claims; those without a number are left out."""
    rows = [
        (model, claim, name, statistic, variant, *_row(held, held.number))
        for model, (claim, name, statistic, variant, held) in found
        if held.number is not None
    ]
    return pl.DataFrame(rows, schema=CLAIMS, orient="row")


def _row(held: Held, one: Number) -> tuple[float | int | str | None, ...]:
    """The last columns of CLAIMS, from the value on; bounds that are no number are null."""
    value, low, high = (number if math.isfinite(number) else None for number in one[:3])
    verdict, why = verdict_of(held)
    return (value, low, high, one.n, held.threshold, verdict, why or None)


def verdict_of(held: Held) -> tuple[str, str]:
    """The verdict of a number, and the sentence that goes with "can't tell"; empty if none does."""
    one = held.number
    assert one is not None
    why = held.lacking or _unusable(one, held.scale)
    if why:
        return CANNOT_TELL, why
    # Of NaN all are false.
    above = math.isfinite(one.low) and one.low > held.threshold
    below = math.isfinite(one.high) and one.high < held.threshold
    if not above and not below:
        return CANNOT_TELL, ""
    if above != held.above:
        return NOT_SUPPORTED, ""
    if held.doubt:
        return CANNOT_TELL, held.doubt
    if not math.isfinite(one.value):
        return CANNOT_TELL, "The number is infinite: the model gave something no chance at all."
    return SUPPORTED, ""


def _unusable(one: Number, scale: float) -> str:
    if math.isnan(one.value):
        return "There is no number: the model gave none, or it is not known."
    if one.draws < FEWEST:
        return (
            f"Too few prompts are behind it (n = {one.n}, or too few of one behaviour) for its "
            "interval to be believed."
        )
    if math.isfinite(one.value) and (math.isnan(one.low) or math.isnan(one.high)):
        return "An end of its interval is not known."
    if is_still(one.low, one.high, scale):
        return (
            f"The {one.n} prompts all give the same, to rounding. An interval without a width is "
            "no certainty: nothing is known of how the number varies."
        )
    return ""


def _all(measured: pl.DataFrame, halving: pl.DataFrame, setting: Setting) -> Iterator[Claimed]:
    find = _finder(measured)
    yield from _compact(find, halving, setting)
    own = find("own-masks", "nll_added")
    lacking = "" if _counts(own) else _NO_OWN_EFFECT
    held = Held(find("own-masks", "transfer_share"), MOST, lacking=lacking)
    yield 2, "shared across harm types", "transfer_share", "own-masks", held
    yield from _distinct(find)
    yield from _understanding(find, setting)
    yield from _double_dissociation(find)


_NO_OWN_EFFECT = (
    "The masks' effect on their own types is unclear or too small to count, so there is nothing to "
    "share."
)
_NO_EFFECT = (
    "The shared mask's own effect is unclear or too small to count, so there is nothing to compare "
    "with."
)
_BLIND = "The intact model is not clearly better than chance at it, so keeping that shows nothing."
_REFUSES_LITTLE = "The intact model refuses too little for keeping that to show anything."


def _counts(added: Number | None) -> bool:
    """Whether an added NLL is surely an effect: of none there is no share."""
    return added is not None and added.low > NATS


def _finder(measured: pl.DataFrame) -> Find:
    """Look up a total by variant and metric, and by role and attack where given."""
    main = measured.filter("main")
    totals = main.filter(pl.col("behaviour") == "all-" + pl.col("role"))

    def find(variant: str, metric: str, role: str = "harm", **more: str) -> Number | None:
        place = {"variant": variant, "metric": metric, "role": role, **more}
        found = totals.filter(**place)
        if not found.height:
            return None
        row = found.row(0, named=True)
        return number_of(row, _sizes(main, place) or [row["n"]])

    return find


def _sizes(main: pl.DataFrame, place: Mapping[str, str]) -> list[int]:
    """Prompts of each behaviour that a total is the mean of; none if they are not known."""
    if place["metric"].startswith("detect_auroc"):
        return []  # of all pairs together
    if place["variant"] == "own-masks":
        own = main.filter(pl.col("variant") == pl.col("behaviour"), metric="nll_added")
        return own["n"].to_list()
    parts = main.filter(pl.col("behaviour") != "all-" + pl.col("role"), **place)
    return parts["n"].to_list()


def number_of(row: Mapping[str, Any], sizes: Sequence[int]) -> Number:
    """A row's number, behind which there are so many prompts of each behaviour."""
    value, low, high = (
        math.nan if row[one] is None else row[one] for one in ("value", "low", "high")
    )
    # Of one prompt every resample is the same: the interval leaves out how much it would vary.
    draws = equal_draws(sizes) if min(sizes) > 1 else 1.0
    return Number(value, low, high, row["n"], draws)


def _compact(find: Find, halving: pl.DataFrame, setting: Setting) -> Iterator[Claimed]:
    name = "few weights carry it"
    for row in halving.filter(family="shared", measure=LIKELIHOOD).iter_rows(named=True):
        share = _halving_share(row, setting.candidates)
        held = Held(share, COMPACT, above=False, scale=COMPACT)
        yield 1, name, "halving_share", "shared", held
    many = _many(setting)
    added = Held(find("shared", "nll_added"), NATS, doubt=many)
    yield 1, name, "nll_added", "shared", added
    change = find("shared", "harmfulness_change", attack="prefill")
    same = _same(setting, "prefill")
    held = Held(change, -MARGIN, above=False, lacking=same, doubt=many)
    yield 1, "zeroing them lowers harmful output", "harmfulness_change", "shared", held


def _many(setting: Setting) -> str:
    """Why a mask's effect is not that of few weights; empty if it is."""
    share = setting.zeroed / setting.candidates if setting.candidates else math.inf
    if share < COMPACT:
        return ""
    return (
        f"The mask zeroes {100 * share:.3g}% of the candidate weights, and less than "
        f"{100 * COMPACT:g}% counts as few."
    )


def _same(setting: Setting, attack: str) -> str:
    """Why answers say nothing: all of a model's are one."""
    for variant, named in (("intact", "intact model"), ("shared", "model with the mask zeroed")):
        if (variant, attack) in setting.same:
            return f"All answers of the {named} are one and the same text, which counts once."
    return ""


def _halving_share(row: Mapping[str, Any], candidates: int) -> Number:
    """Of a row of HALVINGS. What lies outside the measured sizes is only known to lie there."""
    value = math.inf if row["beyond"] else row["halving"]
    low = row["largest"] if row["low"] is None else row["low"]
    low = 0 if low <= row["smallest"] else low
    high = math.inf if row["high"] is None else row["high"]
    shares = (value / candidates, low / candidates, high / candidates)
    return Number(*shares, row["n"], row["n"])


def _distinct(find: Find) -> Iterator[Claimed]:
    name = "apart from what is useful"
    own = find("shared", "nll_added")
    # A difference, since a ratio to benign responses that lose nothing is none.
    gap = _gap(own, find("shared", "nll_added", "benign"))
    yield 3, name, "harm_minus_benign_nll_added", "shared", Held(gap, NATS)
    change = find("shared", "accuracy_change", role="utility")
    yield 3, name, "accuracy_change", "shared", Held(change, -MARGIN)
    part = find("random", "share_of_effect")
    held = Held(part, NOTHING, above=False, lacking="" if _counts(own) else _NO_EFFECT)
    yield 3, "random weights do not do this", "share_of_effect", "random", held


def _understanding(find: Find, setting: Setting) -> Iterator[Claimed]:
    intact = find("intact", "detect_auroc")
    tells = intact is not None and intact.low > 0.5
    # A model with little lead over chance could lose all of it within the margin.
    most = min(MARGIN, (intact.value - 0.5) / 2) if intact and tells else MARGIN
    held = Held(find("shared", "detect_auroc_change"), -most, lacking="" if tells else _BLIND)
    yield 6, "still tells harmful requests", "detect_auroc_change", "shared", held
    gap = _gap(find("shared", "nll_added"), find("shared", "explain_nll_added"))
    name = "explaining is hit less than harm"
    yield 6, name, "harm_minus_explain_nll_added", "shared", Held(gap, NATS)
    change = find("shared", "coherence_change", "explanation")
    held = Held(change, -MARGIN, lacking=_same(setting, "explanation"))
    yield 6, "still explains why", "coherence_change", "shared", held
    refuses = find("intact", "refusal_rate", attack="direct")
    held = Held(
        find("shared", "refusal_rate_change", attack="direct"),
        -MARGIN,
        lacking=_same(setting, "direct")
        or ("" if refuses and refuses.value >= SOMETHING_TO_LOSE else _REFUSES_LITTLE),
    )
    yield 6, "still refuses", "refusal_rate_change", "shared", held


def _double_dissociation(find: Find) -> Iterator[Claimed]:
    name = "harm and refusal come apart"
    for variant, own, other in (("shared", "harm", "refusal"), ("refusal", "refusal", "harm")):
        gap = _gap(find(variant, "nll_added", own), find(variant, "nll_added", other))
        yield 7, name, f"{own}_minus_{other}_nll_added", variant, Held(gap, NATS)


def _gap(first: Number | None, second: Number | None) -> Number | None:
    """`first − second` of different prompts: distances to their own bounds, added in squares."""
    if first is None or second is None:
        return None
    value = first.value - second.value
    below = math.hypot(first.value - first.low, second.high - second.value)
    above = math.hypot(first.high - first.value, second.value - second.low)
    if is_still(first.low, first.high) or is_still(second.low, second.high):
        # How far a side varies is not known, and so not of the difference.
        below = above = 0.0
    draws = min(first.draws, second.draws)
    return Number(value, value - below, value + above, first.n + second.n, draws)
