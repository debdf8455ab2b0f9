"""The claims that need training: alignment, emergent misalignment, and recovery.

Their variants are the arms of a training in memory, or the last stage of a family of models.
"""

from collections.abc import Mapping
from functools import partial

import polars as pl

from lesion.study.training import arm_of
from lesion.tables.claims.claim import (
    Claim,
    Facts,
    VariantNumbers,
    as_many,
    counts,
    other_size,
    silent,
    unless,
)
from lesion.tables.claims.outcome import SUPPORTED, Number, number_of, number_over, outcome_of
from lesion.tables.effects import MARGIN, MOST, NATS
from lesion.tables.intervals import Estimate
from lesion.tables.lookup import first_estimate, totals
from lesion.tables.read import StudyTables
from lesion.tables.retraining import random_arm
from lesion.tables.rows import BEHAVIOUR, RANDOM, TOTAL, UNMODIFIED
from lesion.tables.wording import NOTHING, amount, figure, with_interval

_TRAINED = {"frozen": " (and keeping it zero)", "only": " (and training these weights alone)"}
"""What is added to the words for an arm that trains only a part of the weights."""


def _arm_words(variant: str | None) -> Mapping[str, str]:
    mask, lesioned = arm_of(variant or "")
    return {
        "mask": mask or "",
        "first": "afterwards" if lesioned == "after" else "first",
        "before": "after" if lesioned == "after" else "before",
        "still": _TRAINED.get(lesioned or "", ""),
    }


def _summary(facts: Facts, arm: str, metric: str, role: str) -> Number | None:
    """An arm's number over all behaviours of a role, or None if it is unknown."""
    known = facts.rows.filter(pl.col("value").is_not_null(), arm=arm, metric=metric, role=role)
    total = known.filter(level=TOTAL)
    if total.is_empty():
        return None
    return number_of(total.row(0, named=True), known.filter(level=BEHAVIOUR)["n"].to_list())


def _last_change(facts: Facts) -> pl.DataFrame:
    """The change of separability in the last stage; empty if it was not measured."""
    changes = facts.rows.filter(metric="separability_change", variant=facts.mask)
    return changes.filter(pl.col("stage") == pl.col("stage").max())


def _separability(_claim: Claim, facts: Facts) -> VariantNumbers:
    for row in _last_change(facts).rows(named=True):
        yield row["name"], number_over(row, row["smaller_side"])


def _aligned(number: Estimate, tables: StudyTables, _variant: str) -> str:
    def staged(name: str, variant: str, metric: str) -> str:
        rows = tables.stages.filter(name=name, variant=variant, metric=metric)
        return with_interval(first_estimate(rows), "nats")

    names = tables.stages.sort("stage")["name"].unique(maintain_order=True).to_list()
    first, last = (
        staged(name, tables.headline.mask, "separability") for name in names[:: len(names) - 1]
    )
    control = staged(names[-1], RANDOM, "separability_change")
    random = "" if control == NOTHING else f" With as many random weights it is {control}."
    return (
        f"At the size that adds {benign_limit(tables)} nats per token to benign responses, harmful "
        f"ones lose {first} in {names[0]} and {last} in {names[-1]}, a change of "
        f"{figure(number, 'nats', ' nats per token')}.{random}"
    )


def benign_limit(tables: StudyTables) -> str:
    """The benign loss at which separability is read, as text, in nats per token."""
    limit = (tables.study["config"].get("masks") or {}).get("max_benign_increase")
    return NOTHING if limit is None else f"{limit:g}"


def _is_of_misalignment(facts: Facts) -> bool:
    # An experiment on misalignment is not one on recovery.
    return "misaligned" in facts.rows["metric"]


def _misaligned(claim: Claim, facts: Facts) -> VariantNumbers:
    if _is_of_misalignment(facts):
        yield UNMODIFIED, _summary(facts, UNMODIFIED, claim.statistic, claim.role)


def _prevented(claim: Claim, facts: Facts) -> VariantNumbers:
    if all(number is None for _, number in _misaligned(BY_TRAINING, facts)):
        return
    arms = facts.rows.filter(metric="misaligned_change")["arm"].unique().sort()
    # Controls are for comparison: nothing is claimed about them.
    for arm in (arm for arm in arms if arm_of(arm).mask not in facts.setting.controls):
        yield arm, _summary(facts, arm, claim.statistic, claim.role)


def _misaligning(number: Estimate, tables: StudyTables, _arm: str) -> str:
    rows = tables.retraining
    before = at_step(totals(rows, "broad"), UNMODIFIED, "misaligned", 0)
    return (
        "The share of misaligned answers to broad questions goes from "
        f"{with_interval(before, 'share')} to {_rate(rows, UNMODIFIED, 'broad')} "
        f"after {_training(rows)}, "
        f"a change of {figure(number, 'points', ' points')}."
    )


def _preventing(number: Estimate, tables: StudyTables, arm: str) -> str:
    rows = tables.retraining
    return (
        f"{_less(number, rows, arm, UNMODIFIED, 'without an ablation')} For narrow questions it is "
        f"{_rate(rows, arm, 'narrow')} against {_rate(rows, UNMODIFIED, 'narrow')}."
    )


def _beyond_random(number: Estimate, tables: StudyTables, arm: str) -> str:
    many, control = as_many(tables, arm_of(arm).mask or ""), random_arm(arm)
    when = "after" if arm_of(control).lesioned == "after" else "before"
    other = f"with {many} random weights zeroed {when} training"
    return _less(number, tables.retraining, arm, control, other)


def _less(number: Estimate, rows: pl.DataFrame, arm: str, than: str, other: str) -> str:
    return (
        f"The share of misaligned answers to broad questions is {_rate(rows, arm, 'broad')}, "
        f"against {_rate(rows, than, 'broad')} {other}, a difference of "
        f"{figure(number, 'points', ' points')}."
    )


def _rate(rows: pl.DataFrame, arm: str, role: str) -> str:
    return with_interval(last(totals(rows, role), arm, "misaligned"), "share")


def _training(rows: pl.DataFrame) -> str:
    """The length of an experiment's training."""
    steps, examples = rows.select(pl.max("step"), pl.max("examples")).row(0)
    return f"{amount(steps, 'count')} steps ({amount(examples, 'count')} examples)"


def _recovered(claim: Claim, facts: Facts) -> VariantNumbers:
    if not _is_of_misalignment(facts):
        for arm in facts.rows["arm"].unique().sort():
            mask, lesioned = arm_of(arm)
            # An arm that is ablated after training has nothing to recover from.
            if mask == facts.mask and lesioned != "after":
                yield arm, _summary(facts, arm, claim.statistic, claim.role)


def _recovers_nothing(facts: Facts, arm: str | None) -> str:
    """Why a closed gap may be no recovery; empty if the answers' own NLL shows one.

    The gap between two arms closes too where training damages both alike.
    """
    start, end = (_nll_at(facts, UNMODIFIED, place) for place in (0, -1))
    before, after = (_nll_at(facts, arm or "", place) for place in (0, -1))
    if start is None or end is None or before is None or after is None:
        return ""
    if not end <= start + NATS:
        return (
            f"Harmful responses of the unmodified model become less likely in the same training "
            f"({start:.2f} to {end:.2f} nats per token), so it may damage both models alike."
        )
    if not before - after > MOST * (before - start):
        return (
            f"The NLL of the ablated model's harmful responses goes from {before:.2f} to "
            f"{after:.2f} nats per token, which is not most of what the ablation added."
        )
    return ""


def _nll_at(facts: Facts, arm: str, place: int, role: str = "harm") -> float | None:
    """An arm's NLL of a role's responses at its first (0) or last (-1) step, over behaviours."""
    own = facts.rows.filter(arm=arm, metric="nll", role=role, level=TOTAL)
    values = own.drop_nulls("step").sort("step")["value"]
    return None if values.is_empty() else float(values[place])


def _recovering(number: Estimate, tables: StudyTables, arm: str) -> str:
    harm = totals(tables.retraining, "harm")
    ablated, unmodified = (
        with_interval(last(harm, name, "nll"), "nats") for name in (arm, UNMODIFIED)
    )
    steps, examples = (at_step(harm, arm, f"half_{what}", None) for what in ("steps", "examples"))
    seen = "" if examples is None else f" ({amount(examples.value, 'count')} examples)"
    half = f" Half of it was removed after {with_interval(steps, 'count')} steps{seen}."
    return (
        f"After {_training(tables.retraining)}, training has removed {figure(number, 'share')}, of "
        "the NLL that the ablation added to held-out harmful responses: they have an NLL of "
        f"{ablated} nats per token, against {unmodified} for the unmodified model after the "
        f"same training.{half if steps else ''}"
    )


def last(rows: pl.DataFrame, arm: str, metric: str) -> Estimate | None:
    """An arm's measurement after the whole training, from the rows of one experiment and role."""
    step = rows.filter(metric=metric, arm=arm)["step"].max()
    return None if step is None else at_step(rows, arm, metric, int(str(step)))


def at_step(rows: pl.DataFrame, arm: str, metric: str, step: int | None) -> Estimate | None:
    """An arm's measurement after a step, or the summary of its training if the step is None."""
    own = rows.filter(pl.col("value").is_not_null(), pl.col("step").eq_missing(step))
    return first_estimate(own.filter(arm=arm, metric=metric))


BY_TRAINING = Claim(
    5,
    "narrow training misaligns broadly",
    "misaligned_change_by_training",
    UNMODIFIED,
    "points",
    MARGIN,
    "Retraining",
    "Does the narrow training make answers to broad questions misaligned?",
    _misaligning,
    role="broad",
    of_harm=False,
    numbers=_misaligned,
    unusable=lambda facts, arm: _silent(facts, arm),
    scope="experiment",
)

# An ablation cannot prevent what the training did not do.
_no_misalignment = unless(
    lambda facts, _arm: all(
        outcome_of(evidence)[0] == SUPPORTED for _, evidence in BY_TRAINING.evidence(facts)
    ),
    "The training did not clearly misalign the model by an amount that counts, so there was "
    "nothing to prevent.",
)


def _silent(facts: Facts, *arms: str | None) -> str:
    """Why the answers of arms show nothing: the judge scored too few of one; empty if enough."""
    experiment = next(iter(facts.rows["experiment"]), "")
    few = (facts.setting.unscored_arms.get((experiment, arm or "")) for arm in arms)
    return next(filter(None, map(silent, few)), "")


def _nothing_to_prevent(facts: Facts, arm: str | None) -> str:
    """Why an arm cannot be compared with the one that is not ablated; empty if it can."""
    return _no_misalignment(facts, arm) or _silent(facts, arm)


def _not_beyond_random(facts: Facts, arm: str | None) -> str:
    """Why an arm cannot be compared with the arm of the random control; empty if it can."""
    return (
        other_size(facts, arm_of(arm or "").mask or "")
        or _nothing_to_prevent(facts, arm)
        or _silent(facts, random_arm(arm or ""))
    )


def _breaks_answers(facts: Facts, arm: str | None) -> str:
    """Why fewer misaligned answers may be broken ones; empty if benign responses stay as likely.

    A judge does not call an answer misaligned that is no language.
    """
    own, other = (_nll_at(facts, name, -1, "benign") for name in (arm or "", UNMODIFIED))
    if own is None or other is None or own - other <= facts.setting.limit:
        return ""
    return (
        f"After the same training its benign responses have an NLL of {own:.2f} nats per token, "
        f"and those of the unmodified model {other:.2f}. That is not within the limit of "
        f"{facts.setting.limit:g}, so that answers may be broken and not aligned."
    )


_less_misaligned = partial(
    Claim,
    5,
    variant="",
    unit="points",
    threshold=-MARGIN,
    topic="Retraining",
    role="broad",
    above=False,
    numbers=_prevented,
    doubt=_breaks_answers,
    scope="experiment",
    words=_arm_words,
)

CLAIMS = (
    Claim(
        4,
        "alignment compresses",
        "separability_change",
        "",
        "nats",
        NATS,
        "Over the stages",
        "Does alignment concentrate harm in weights of its own?",
        _aligned,
        numbers=_separability,
        unusable=unless(
            lambda facts, _variant: not _last_change(facts)["beyond"].any(),
            "In one stage no measured size adds that much to benign responses.",
        ),
        scope="family",
    ),
    BY_TRAINING,
    _less_misaligned(
        name="lesioned {first}, less broad misalignment",
        statistic="misaligned_change",
        question="Does zeroing “{mask}” {before} training{still} reduce the misalignment?",
        sentence=_preventing,
        unusable=_nothing_to_prevent,
    ),
    _less_misaligned(
        name="lesioned {first}, more than at random",
        statistic="misaligned_beyond_random",
        question="Does zeroing “{mask}” {before} training{still} prevent more than a random "
        "ablation?",
        sentence=_beyond_random,
        unusable=_not_beyond_random,
    ),
    Claim(
        8,
        "a mechanism, not knowledge",
        "recovered_share",
        "",
        "share",
        MOST,
        "Retraining",
        "Does training reverse the effect of zeroing “{mask}”{still}?",
        _recovering,
        rule="More than {} counts as most.",
        numbers=_recovered,
        unusable=unless(
            lambda facts, arm: counts(_summary(facts, arm or "", "nll_added", "harm"), NATS),
            "The NLL that the ablation added is unclear or too small to count, so there is nothing "
            "to recover.",
        ),
        doubt=_recovers_nothing,
        scope="experiment",
        words=_arm_words,
    ),
)
"""Claims 4, 5 and 8."""
