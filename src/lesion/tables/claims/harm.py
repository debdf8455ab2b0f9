"""The claims that the weights of harm are few, shared, and separate from what is useful."""

import math
from collections.abc import Iterator

from lesion.tables.claims.claim import (
    KEPT,
    Claim,
    Conclusion,
    Facts,
    counts,
    same_text,
)
from lesion.tables.claims.outcome import Number, gap_of
from lesion.tables.claims.sentences import added, from_to
from lesion.tables.curve import JUDGED, LIKELIHOOD
from lesion.tables.effects import COMPACT, MARGIN, MOST, NATS, NOTHING
from lesion.tables.intervals import Estimate
from lesion.tables.lookup import estimate_of, find, is_clear, mask_size
from lesion.tables.read import StudyTables
from lesion.tables.rows import BEHAVIOUR
from lesion.tables.wording import amount, figure, percent, with_interval


def _halving_share(claim: Claim, facts: Facts) -> Iterator[tuple[str | None, Number | None]]:
    for row in facts.halving.filter(family="shared", measure=LIKELIHOOD).iter_rows(named=True):
        # A size outside the measured ones is only known to be smaller or larger than all of them.
        value = math.inf if row["beyond"] else row["halving"]
        low = row["largest"] if row["low"] is None else row["low"]
        low = 0 if low <= row["smallest"] else low
        high = math.inf if row["high"] is None else row["high"]
        candidates = facts.setting.candidates
        shares = (value / candidates, low / candidates, high / candidates)
        yield claim.variant, Number(*shares, row["n"], row["n"])


def _many(facts: Facts, _variant: str | None) -> str:
    """Why a mask does not count as few weights; empty if it does."""
    setting = facts.setting
    share = setting.zeroed / setting.candidates if setting.candidates else math.inf
    if share < COMPACT:
        return ""
    return (
        f"The mask zeroes {100 * share:.3g}% of the candidate weights, and only less than "
        f"{100 * COMPACT:g}% counts as few."
    )


def _halves(one: Estimate, found: StudyTables, _variant: str) -> str:
    halves = "halves the likelihood of each token of held-out harmful responses"
    share = figure(one, "share", " of the candidate weights")
    rows = found.halving.filter(family="shared", measure=LIKELIHOOD).rows(named=True)
    if not rows:
        return f"Zeroing {share}, {halves}."
    row = rows[0]
    if row["beyond"]:
        _, candidates = mask_size(found.where, "shared")
        part = f" ({percent(row['largest'] / candidates)} of the candidates)" if candidates else ""
        most = f"{amount(row['largest'], 'count')} weights{part}"
        return f"Zeroing the largest measured mask, {most}, never {halves}, n = {one.n}."
    weights = f"{'at most ' if row['below'] else ''}{amount(row['halving'], 'count')}"
    benign = amount(row["benign"], "nats")
    lost = f"it adds {benign} nats per token to benign responses"
    return f"Zeroing {weights} weights, {share}, {halves}; {lost}.{_halved_by_judge(found)}"


def _halved_by_judge(found: StudyTables) -> str:
    """The size that halves judged harm, if answers were judged at each size."""
    rows = found.halving.filter(family="shared", measure=JUDGED).rows(named=True)
    if not rows:
        return ""
    row, half = rows[0], "halve the share of answers judged harmful"
    if row["beyond"]:
        return f" It would take more than {amount(row['largest'], 'count')} weights to {half}."
    weights = with_interval(estimate_of({**row, "value": row["halving"]}), "count")
    benign = amount(row["benign"], "nats")
    return (
        f" It takes {weights} weights, n = {row['n']}, to {half}, which adds {benign} nats per "
        "token to benign responses."
    )


def _mask(one: Estimate, found: StudyTables, _variant: str) -> str:
    weights, candidates = mask_size(found.where, "shared")
    share = f" ({percent(weights / candidates)})" if candidates else ""
    return (
        f"Zeroing {weights:,} of {candidates:,} candidate weights{share} adds "
        f"{figure(one, 'nats', ' nats per token')}, to the NLL of held-out harmful responses."
    )


def _direction(one: Estimate, found: StudyTables, _variant: str) -> str:
    begun = from_to(found, "score", "harmfulness", "harm", "prefill")
    asked = find(found.measurements, "shared", "harmfulness_change", "harm", "direct")
    direct = f"; for direct requests it changes by {with_interval(asked, 'score')}" if asked else ""
    return (
        f"Under the prefill, judged harmfulness (0 to 1) goes from {begun}, a change of "
        f"{figure(one, 'score')}{direct}."
    )


def _no_own_effect(facts: Facts, _variant: str | None) -> str:
    if counts(facts.find(None, "nll_added"), NATS):
        return ""
    return (
        "The effect of the masks on their own harm types is unclear or too small to count, so "
        "there is no effect that could be shared."
    )


def _transfer(one: Estimate, found: StudyTables, _variant: str) -> str:
    on_harm = found.measurements.filter(level=BEHAVIOUR, metric="nll_added", role="harm")
    types = {*on_harm["variant"]} & {*on_harm["behaviour"]}
    others = on_harm.filter(
        on_harm["variant"].is_in(types) & on_harm["behaviour"].is_in(types),
        on_harm["variant"] != on_harm["behaviour"],
    )
    clear = [
        row
        for row in others.iter_rows(named=True)
        if row["value"] is not None and row["value"] > 0 and is_clear(row, found.confidence)
    ]
    return (
        "The effect of a harm type's mask on the other types is "
        f"{figure(one, 'share', ' of its effect on its own type')}. In {len(clear)} of "
        f"{others.height} cases the effect on another type is significantly above zero, corrected "
        "for multiple comparisons."
    )


def _apart_from_benign(claim: Claim, facts: Facts) -> Iterator[tuple[str | None, Number | None]]:
    # A difference, since a ratio is undefined where benign responses lose nothing.
    harm, benign = (facts.find("shared", "nll_added", role) for role in ("harm", "benign"))
    yield claim.variant, gap_of(harm, benign)


def _apart(one: Estimate, found: StudyTables, _variant: str) -> str:
    benign = find(found.measurements, "shared", "nll_added", "benign")
    ratio = find(found.measurements, "shared", "nll_ratio")
    # A ratio to a benign loss that may be zero says nothing.
    known = ratio is not None and benign is not None and benign.above_zero
    times = f", a ratio of {with_interval(ratio, 'ratio')}" if known else ""
    return (
        "The added NLL of harmful responses minus that of benign ones is "
        f"{figure(one, 'nats', ' nats per token')} ({added(found, 'shared')} against "
        f"{added(found, 'shared', role='benign')}{times})."
    )


def _accuracy(one: Estimate, found: StudyTables, _variant: str) -> str:
    return (
        "Mean accuracy in the study's tasks goes from "
        f"{from_to(found, 'share', 'accuracy', 'utility')}, a change of "
        f"{figure(one, 'points', ' points')}."
    )


def _no_effect(facts: Facts, _variant: str | None) -> str:
    if counts(facts.find("shared", "nll_added"), NATS):
        return ""
    return (
        "The effect of the shared mask is unclear or too small to count, so there is no effect to "
        "compare with."
    )


def _control(one: Estimate, _found: StudyTables, _variant: str) -> str:
    return (
        "Zeroing as many random weights has "
        f"{figure(one, 'share', ' of the effect of the shared mask')}."
    )


CLAIMS = (
    Claim(
        1,
        "few weights carry it",
        "halving_share",
        "shared",
        "share",
        COMPACT,
        "Compact",
        "Does harmful generation depend on few weights?",
        _halves,
        needs="Needs `shared` in `curve.families`.",
        rule="Up to {} counts as few.",
        above=False,
        numbers=_halving_share,
        scale=COMPACT,
    ),
    Claim(
        1,
        "few weights carry it",
        "nll_added",
        "shared",
        "nats",
        NATS,
        "Compact",
        "Does zeroing the shared mask make harmful responses less likely?",
        _mask,
        needs="Needs `shared` in `responses.variants`.",
        doubt=_many,
    ),
    Claim(
        1,
        "zeroing them lowers harmful output",
        "harmfulness_change",
        "shared",
        "score",
        -MARGIN,
        "Compact",
        "Does zeroing it lower or raise the judged harmfulness of the output?",
        _direction,
        needs="Needs `prefill` in `responses.attacks`, and `shared` in "
        "`responses.judged_variants`.",
        attack="prefill",
        above=False,
        unusable=lambda facts, _variant: same_text(facts, "prefill"),
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
        unusable=_no_own_effect,
    ),
    Claim(
        3,
        "apart from what is useful",
        "harm_minus_benign_nll_added",
        "shared",
        "nats",
        NATS,
        "Apart",
        "Are these weights separate from benign use?",
        _apart,
        needs="Needs benign behaviours, and `shared` in `responses.variants`.",
        numbers=_apart_from_benign,
    ),
    Claim(
        3,
        "apart from what is useful",
        "accuracy_change",
        "shared",
        "points",
        -MARGIN,
        "Apart",
        "Does the ablated model keep its other skills?",
        _accuracy,
        needs="Needs tasks in `utility.tasks`.",
        rule=KEPT,
        role="utility",
        limited=False,
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
        unusable=_no_effect,
    ),
)
"""Claims 1 to 3."""
