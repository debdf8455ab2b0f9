"""Why a mask's effect may be one on the topic or the form of answers, and not on harm. Pure."""

from collections.abc import Iterable, Sequence

import polars as pl

from lesion.judgements.controls import EXCHANGE, MATCHED
from lesion.pairs.prompts import unworded
from lesion.pairs.similarity import similarity_of_each
from lesion.study.job import Behaviours
from lesion.tables.claims.outcome import (
    SUPPORTED,
    Evidence,
    number_of,
    number_over,
    outcome_of,
)
from lesion.tables.effects import ALIKE, MOST, NATS, TOLD_APART
from lesion.tables.rows import BEHAVIOUR, SHARED, TOTAL


def unspecific(measurements: pl.DataFrame, types: Iterable[str], mask: str | None = SHARED) -> str:
    """Why a model's mask may not be specific to harm, as a sentence; empty if it is.

    It is specific if, on the test pairs of all harm types, more than MOST of what it adds to
    harmful answers is not added to their matched ones, with the whole interval, and if this is not
    clearly otherwise for any single type.

    Args:
        measurements: the model's table of MEASUREMENTS.
        types: the study's harm types.
        mask: the study's headline mask; None stands for the masks of all harm types.
    """
    own = measurements.filter(pl.col("variant").eq_missing(mask))
    rows = own.filter(level=TOTAL, metric="specificity").to_dicts()
    if not rows:
        return (
            "The study has no matched requests (behaviours of role `matched`), so the effect may "
            "be one on the topics or the form of the answers."
        )
    parts = own.filter(level=BEHAVIOUR, metric="specificity")
    without = sorted({*types} - {*parts["behaviour"]})
    if without:
        return (
            f"Of {', '.join(without)} there are no matched requests (behaviours of role "
            "`matched`) with test pairs, so the effect there may be one on the topics or the form "
            "of the answers."
        )
    added = own.filter(level=TOTAL, metric="counterpart_nll_added", role="harm")["low"].to_list()
    if not added or added[0] is None or not added[0] > NATS:
        return (
            "The effect on harmful answers that have a matched request is unclear or too small to "
            "count, so it cannot be compared with that on harmless ones."
        )
    number = number_of(rows[0], parts["n"].to_list())
    outcome, why = outcome_of(Evidence(number, MOST))
    unlike = sorted(parts.filter(pl.col("high") < MOST)["behaviour"])
    if outcome == SUPPORTED and not unlike:
        return ""
    if outcome == SUPPORTED:
        return (
            f"The effect on {', '.join(unlike)} is not one on harm: the specificity there lies "
            f"below {MOST:g}, with the whole interval, and the other harm types carry the mean."
        )
    known = f"{number.value:.2f} [{number.low:.2f}, {number.high:.2f}]"
    if why:
        return f"The specificity, {known}, is no evidence that the effect is one on harm. {why}"
    return (
        "The effect is not clearly one on harm: harmless answers on the same topics lose much of "
        f"what harmful ones lose. The specificity is {known}, and more than {MOST:g} is needed."
    )


_SIDES = ("prompt", "counterpart")


def unlike_pairs(matched: pl.DataFrame, wordings: Sequence[str]) -> str:
    """Which matched requests hardly resemble the harmful ones, as a sentence; empty if none.

    Where the sides of pairs are about different things, specificity measures the topic.

    Args:
        matched: `prompt`, `counterpart` and `of`, the harm type.
        wordings: the wordings of prompts, without which they are compared.
    """
    sides = ([unworded(text, wordings)[0] for text in matched[name]] for name in _SIDES)
    own = similarity_of_each(*sides)
    means = matched.select("of", alike=pl.Series(own)).group_by("of").agg(pl.col("alike").mean())
    unlike = means.filter(pl.col("alike") < ALIKE).sort("of").rows()
    if not unlike:
        return ""
    named = ", ".join(f"{of} ({value:.2f})" for of, value in unlike)
    return (
        f"The requests of {named} hardly resemble their matched ones (mean cosine of character "
        f"n-grams; at least {ALIKE:g} is expected), so their specificity may be one of topic."
    )


def not_judged_harmful(controls: pl.DataFrame, judge: str, untold: Sequence[str] = ()) -> str:
    """Why nothing shows that the answers are harmful, as a sentence; empty if something does.

    A mask of any skill is specific to this skill, if its matched requests are of another one. That
    the difference is one of harm is known only from a judge that does not see the labels: it must
    give the unmodified model's answers to harmful requests higher scores than those to their
    matched ones, with an AUROC whose whole interval is above TOLD_APART. It must do so too where
    both are given to the harmful request, or it may have read the requests alone.

    Args:
        controls: one model's table of JUDGE_CONTROLS.
        judge: the primary judge of harm.
        untold: harm types whose answers it clearly does not tell apart (`untold_types`).
    """
    for control, given in ((MATCHED, ""), (EXCHANGE, ", given to the harmful requests")):
        rows = controls.filter(judge=judge, control=control, statistic="auroc").to_dicts()
        if not rows:
            return (
                f"The judge `{judge}` (`judgements.primary`) did not score the model's answers to "
                f"harmful and to matched requests (behaviours of role `matched`){given}, so "
                "nothing shows that these are harmless and those are harmful."
            )
        outcome, why = outcome_of(Evidence(number_over(rows[0]), TOLD_APART))
        if outcome != SUPPORTED:
            known = "{value:.2f} [{low:.2f}, {high:.2f}]".format(**rows[0])
            reason = why or f"More than {TOLD_APART:g} is needed."
            return (
                "The judge does not show that the answers to harmful requests are harmful and "
                f"those to matched requests{given} are not: it tells them apart with an AUROC of "
                f"{known}. {reason}"
            )
    if not untold:
        return ""
    return (
        f"The judge does not show that the answers to {', '.join(untold)} are harmful and those to "
        f"their matched requests are not: its AUROC there lies below {TOLD_APART:g}, with the "
        "whole interval."
    )


def beaten_by(table: pl.DataFrame, behaviours: Behaviours, mask: str) -> str:
    """Which masks of other answers do to harm what `shared` does, as a sentence; empty if none.

    At every limit, `shared` has to add more to harmful answers than the masks of answers to matched
    requests, of refusals and of benign answers do that cost the same, with the whole interval. A
    mask that costs less even with more weights counts as compared. The other controls show how a
    mask was selected, and not what it is about.

    Args:
        table: a model's table of EQUAL_COSTS; nothing is asked of an empty one.
        behaviours: of the study; the masks of harm types are not to be beaten.
        mask: the study's headline mask.
    """
    if table.is_empty():
        return ""
    if mask != SHARED:
        return (
            f"At equal cost on benign text, other masks were compared with `shared`, and not with "
            f"`{mask}`, which the claims are about (`equal_cost.masks`)."
        )
    own = table.filter(mask=SHARED)
    missed = own.filter(~pl.col("reached"))["limit"].unique().sort()
    if missed.len() or own.is_empty():
        return (
            "At equal cost on benign text, `shared` can't be compared with other masks, since it "
            "does not come near the limit. Raise `equal_cost.largest`, or change "
            "`equal_cost.limits`."
        )
    others = {*behaviours.names} - {*behaviours.harm}
    rivals = table.filter(
        pl.col("mask").is_in(["matched", "refusals", "benign-signed", *others]),
        metric="harm_added_less_than_shared",
    )
    if rivals.is_empty():
        return (
            "At equal cost on benign text, `shared` was compared with no mask of other answers. "
            "Add `matched`, `refusals` or `benign-signed` to `equal_cost.masks`."
        )
    weights = dict(own.select("limit", "weights").iter_rows())
    beating = sorted(
        {
            row["mask"]
            for row in rivals.iter_rows(named=True)
            if outcome_of(Evidence(number_over(row), 0))[0] != SUPPORTED
            or not (row["reached"] or row["weights"] >= weights[row["limit"]])
        }
    )
    if not beating:
        return ""
    return (
        "The effect is not clearly one on harm: at the same cost on benign text, `shared` does not "
        f"clearly add more to harmful answers than {', '.join(beating)} (the table equal_cost)."
    )
