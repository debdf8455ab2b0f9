"""The claims that the weights of harm are few, shared, and separate from what is useful."""

import math
from functools import partial

import polars as pl

from lesion.tables.claims.claim import (
    KEPT,
    Claim,
    Conclusion,
    Facts,
    VariantNumbers,
    as_many,
    counts,
    difference,
    from_to,
    other_size,
    same_text,
    silent,
    unless,
)
from lesion.tables.claims.outcome import Number, number_over
from lesion.tables.curve import JUDGED, LIKELIHOOD
from lesion.tables.effects import (
    COMPACT,
    MARGIN,
    MOST,
    NATS,
    NOTHING,
    SOMETHING_TO_LOSE,
)
from lesion.tables.intervals import Estimate
from lesion.tables.lookup import estimate_of, find, mask_size
from lesion.tables.metrics import Comparison
from lesion.tables.read import StudyTables
from lesion.tables.rows import BEHAVIOUR, SHARED, UNMODIFIED
from lesion.tables.wording import amount, figure, mask_words, percent, with_interval


def _halving_share(_claim: Claim, facts: Facts) -> VariantNumbers:
    for row in facts.halving.filter(family=facts.mask, measure=LIKELIHOOD).iter_rows(named=True):
        # A size outside the measured ones is only known to be smaller or larger than all of them.
        value = math.inf if row["beyond"] else row["halving"]
        low = row["largest"] if row["low"] is None else row["low"]
        low = 0 if low <= row["smallest"] else low
        high = math.inf if row["high"] is None else row["high"]
        candidates = facts.setting.candidates
        shares = {"value": value / candidates, "low": low / candidates, "high": high / candidates}
        yield facts.mask, number_over({**row, **shares})


def _halves_more(facts: Facts, _variant: str | None) -> str:
    """Why the size that halves harm may not be one of harm's weights; empty if it is."""
    zeroed = facts.setting.zeroed
    for row in facts.halving.filter(family=facts.mask, measure=LIKELIHOOD).iter_rows(named=True):
        if row["benign"] is not None and row["benign"] > facts.setting.limit:
            return (
                f"Zeroing as many weights as halve the likelihood adds {row['benign']:.2g} nats "
                f"per token to benign responses, more than the limit of {facts.setting.limit:g}, "
                "so it may damage language in general."
            )
        if row["halving"] is not None and 0 < zeroed < row["halving"]:
            return (
                f"Halving takes more weights than the {zeroed:,} of the mask, and nothing shows "
                "that a larger mask is specific to harm."
            )
    return ""


def _many(facts: Facts, _variant: str | None) -> str:
    """Why a mask does not count as few weights; empty if it does."""
    setting = facts.setting
    share = setting.zeroed / setting.candidates if setting.candidates else math.inf
    why = (
        f"The mask zeroes {100 * share:.3g}% of the candidate weights, and only less than "
        f"{100 * COMPACT:g}% counts as few."
    )
    return "" if share < COMPACT else why


def _halves(number: Estimate, tables: StudyTables, _variant: str) -> str:
    halves = "halves the likelihood of each token of held-out harmful responses"
    share = figure(number, "share", " of the candidate weights")
    rows = tables.halving.filter(family=tables.headline.mask, measure=LIKELIHOOD).rows(named=True)
    if not rows:
        return f"Zeroing {share}, {halves}."
    row = rows[0]
    if row["beyond"]:
        _, candidates = mask_size(tables.where, tables.headline.mask)
        part = f" ({percent(row['largest'] / candidates)} of the candidates)" if candidates else ""
        most = f"{amount(row['largest'], 'count')} weights{part}"
        return f"Zeroing the largest measured mask, {most}, never {halves}, n = {number.n}."
    weights = f"{'at most ' if row['below'] else ''}{amount(row['halving'], 'count')}"
    benign = amount(row["benign"], "nats")
    lost = f"it adds {benign} nats per token to benign responses"
    return f"Zeroing {weights} weights, {share}, {halves}; {lost}.{_halved_by_judge(tables)}"


def _halved_by_judge(tables: StudyTables) -> str:
    """The size that halves judged harm, if answers were judged at each size."""
    rows = tables.halving.filter(family=tables.headline.mask, measure=JUDGED).rows(named=True)
    if not rows:
        return ""
    row, half = rows[0], "halve the share of answers that the judge calls harmful"
    if row["beyond"]:
        return f" It would take more than {amount(row['largest'], 'count')} weights to {half}."
    weights = with_interval(estimate_of({**row, "value": row["halving"]}), "count")
    benign = amount(row["benign"], "nats")
    return (
        f" It takes {weights} weights, n = {row['n']}, to {half}, which adds {benign} nats per "
        "token to benign responses."
    )


def _mask(number: Estimate, tables: StudyTables, _variant: str) -> str:
    weights, candidates = mask_size(tables.where, tables.headline.mask)
    share = f" ({percent(weights / candidates)})" if candidates else ""
    return (
        f"Zeroing {weights:,} of {candidates:,} candidate weights{share} adds "
        f"{figure(number, 'nats', ' nats per token')}, to the NLL of held-out harmful responses."
    )


def _direction(number: Estimate, tables: StudyTables, _variant: str) -> str:
    change = from_to(tables, "score", "harmfulness", "harm", "prefill")
    direct = find(tables.measurements, tables.headline.mask, "harmfulness_change", "harm", "direct")
    also = f"; for direct requests it changes by {with_interval(direct, 'score')}" if direct else ""
    return (
        f"Under the prefill, the judge's score of harm (0 to 1) goes from {change}, a change of "
        f"{figure(number, 'score')}{also}."
    )


def _transfer(number: Estimate, tables: StudyTables, _variant: str) -> str:
    on_harm = tables.measurements.filter(level=BEHAVIOUR, metric="nll_added", role="harm")
    types = {*on_harm["variant"]} & {*on_harm["behaviour"]}
    others = on_harm.filter(
        pl.col("variant", "behaviour").is_in(types), pl.col("variant") != pl.col("behaviour")
    )
    clear = others.filter(pl.col("value") > 0, pl.col("p_adjusted") < 1 - tables.confidence)
    return (
        "The effect of a harm type's mask on the other types is "
        f"{figure(number, 'share', ' of its effect on its own type')}. In {clear.height} of "
        f"{others.height} cases the effect on another type is significantly above zero, corrected "
        "for multiple comparisons."
    )


def _apart(number: Estimate, tables: StudyTables, _variant: str) -> str:
    harm, benign = (
        find(tables.measurements, tables.headline.mask, "nll_added", role)
        for role in ("harm", "benign")
    )
    ratio = find(tables.measurements, tables.headline.mask, "nll_ratio")
    # A ratio to a benign loss that may be zero says nothing.
    known = ratio is not None and benign is not None and benign.above_zero
    times = f", a ratio of {with_interval(ratio, 'ratio')}" if known else ""
    return (
        "The added NLL of harmful responses minus that of benign ones is "
        f"{figure(number, 'nats', ' nats per token')} ({with_interval(harm, 'nats')} against "
        f"{with_interval(benign, 'nats')}{times})."
    )


def _specific(number: Estimate, tables: StudyTables, _variant: str) -> str:
    mask = tables.headline.mask
    harmful = find(tables.measurements, mask, "counterpart_nll_added")
    harmless = find(tables.measurements, mask, "counterpart_nll_added", "matched")
    return (
        f"Of the NLL that zeroing {mask_words(mask)} adds to harmful answers "
        f"({with_interval(harmful, 'nats')} nats per token), {figure(number, 'share')}, is not "
        "added to harmless answers on the same topics and of the same form "
        f"({with_interval(harmless, 'nats')})."
    )


def _control(number: Estimate, tables: StudyTables, _variant: str) -> str:
    mask = tables.headline.mask
    effect = figure(number, "share", f" of the effect of {mask_words(mask)}")
    return f"Zeroing {as_many(tables, mask)} random weights has {effect}."


def _no_comparison(facts: Facts, _variant: str | None) -> str:
    """Why the random control cannot be compared with the headline mask; empty if it can."""
    if why := other_size(facts, facts.mask):
        return why
    if counts(facts.find(facts.mask, "nll_added"), NATS):
        return ""
    return (
        f"The effect of {mask_words(facts.mask)} is unclear or too small to count, so there is no "
        "effect to compare with."
    )


def _accuracy_and_chance(facts: Facts) -> tuple[Number | None, float]:
    """The unmodified model's mean accuracy, and that of guessing: 0 where no table has it."""
    accuracy, chance = (
        facts.find(UNMODIFIED, metric, "utility") for metric in ("accuracy", "accuracy_chance")
    )
    return accuracy, chance.value if chance is not None else 0.0


def _solves_little(facts: Facts, _variant: str | None) -> str:
    """Why the unmodified model has no accuracy to keep; empty if it has, or was not measured."""
    accuracy, chance = _accuracy_and_chance(facts)
    if accuracy is None:
        return ""
    if not accuracy.low >= SOMETHING_TO_LOSE:
        return "The unmodified model solves too few tasks to show that accuracy is kept."
    if not accuracy.low > chance:
        return (
            "The unmodified model's accuracy is not clearly better than guessing, so there is no "
            "skill to keep."
        )
    return ""


def _least_accuracy_change(facts: Facts) -> float:
    # A model that is barely better than guessing could lose all of its lead within the margin.
    accuracy, chance = _accuracy_and_chance(facts)
    if accuracy is None or _solves_little(facts, None):
        return -MARGIN
    return -min(MARGIN, (accuracy.value - chance) / 2)


_compact = partial(Claim, 1, variant=SHARED, topic="Compact")
_apart_from_use = partial(Claim, 3, name="apart from what is useful", variant=SHARED, topic="Apart")

CLAIMS = (
    # The first, because the others say something about harm only if this holds.
    Claim(
        3,
        "specific to harm, not to its topics",
        "specificity",
        SHARED,
        "share",
        MOST,
        "Specific",
        "Is the effect on harmful answers absent from harmless ones on the same topics?",
        _specific,
        needs="Needs behaviours of role `matched`.",
        rule="More than {} counts as specific.",
        unusable=unless(
            lambda facts, _variant: counts(facts.find(facts.mask, "counterpart_nll_added"), NATS),
            "The effect on the harmful answers is unclear or too small to count, so no share of it "
            "can be taken.",
        ),
    ),
    _compact(
        name="few weights carry it",
        statistic="halving_share",
        unit="share",
        threshold=COMPACT,
        question="Does harmful generation depend on few weights?",
        sentence=_halves,
        needs="Needs `{headline}` in `curve.families`.",
        rule="Up to {} counts as few.",
        above=False,
        numbers=_halving_share,
        doubt=_halves_more,
        scale=COMPACT,
        # What a small mask adds shows the same, and curves can be switched off.
        needed_for_outcome=False,
        compared=Comparison(
            "Does B’s harmful generation depend on fewer weights?",
            "Share of the candidate weights whose ablation halves the likelihood of harmful tokens",
            higher=False,
            needs="Needs `{headline}` in `curve.families` of both, and sizes that halve harm.",
            ratio=True,
        ),
    ),
    _compact(
        name="few weights carry it",
        statistic="nll_added",
        unit="nats",
        threshold=NATS,
        question="Does zeroing {headline_mask} make harmful responses less likely?",
        sentence=_mask,
        needs="Needs `{headline}` in `responses.variants`.",
        doubt=_many,
    ),
    _compact(
        name="zeroing them lowers harmful output",
        statistic="harmfulness_change",
        unit="score",
        threshold=-MARGIN,
        question="Does zeroing it lower or raise the judged harmfulness of the output?",
        sentence=_direction,
        needs="Needs `prefill` in `responses.attacks`, and `{headline}` in "
        "`responses.judged_variants`.",
        attack="prefill",
        above=False,
        unusable=lambda facts, _variant: (
            facts.setting.judged_harm
            or silent(facts.setting.unscored.get("prefill"))
            or same_text(facts, "prefill")
        ),
        doubt=_many,
        supported=Conclusion.LOWERS,
        opposite=Conclusion.RAISES,
    ),
    Claim(
        2,
        "shared across harm types",
        "transfer_share",
        None,
        "share",
        MOST,
        "Shared",
        "Do harm types share these weights?",
        _transfer,
        needs="Needs two harm types, and the masks of both in `responses.variants`.",
        rule="More than {} counts as shared.",
        unusable=unless(
            lambda facts, _variant: counts(facts.find(None, "nll_added"), NATS),
            "The effect of the masks on their own harm types is unclear or too small to count, so "
            "there is no effect that could be shared.",
        ),
    ),
    _apart_from_use(
        statistic="harm_minus_benign_nll_added",
        unit="nats",
        threshold=NATS,
        question="Are these weights separate from benign use?",
        sentence=_apart,
        needs="Needs benign behaviours, and `{headline}` in `responses.variants`.",
        # A difference, since a ratio is undefined where benign responses lose nothing.
        numbers=difference(("nll_added", "harm"), ("nll_added", "benign")),
        compared=Comparison(
            "Are these weights further apart from benign use in B?",
            "NLL added to harmful responses minus NLL added to benign ones, nats per token",
            higher=True,
            needs="Needs benign behaviours, and `{headline}` in `responses.variants` of both.",
        ),
    ),
    _apart_from_use(
        statistic="accuracy_change",
        unit="points",
        threshold=_least_accuracy_change,
        question="Does the ablated model keep its other skills?",
        sentence="Mean accuracy in the study's tasks goes from {change}, a change of {figure}.",
        needs="Needs tasks in `utility.tasks`.",
        rule=KEPT,
        role="utility",
        of_harm=False,
        unusable=_solves_little,
    ),
    Claim(
        3,
        "random weights do not do this",
        "share_of_effect",
        "random",
        "share",
        NOTHING,
        "Apart",
        "Does zeroing as many random weights have almost no effect?",
        _control,
        needs="Needs `random` in `responses.variants`.",
        rule="Less than {} counts as almost none.",
        above=False,
        unusable=_no_comparison,
    ),
)
"""Claims 1 to 3."""
