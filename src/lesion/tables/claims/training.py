"""The claims that need training: alignment, emergent misalignment, and recovery.

Their variants are the arms of a training in memory, or the last stage of a family of models.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from lesion.masks.controls import DESCRIPTIONS
from lesion.study.training import FROZEN, mask_of
from lesion.tables.claims.claim import Claim, Facts, counts
from lesion.tables.claims.outcome import SUPPORTED, Number, number_of, outcome_of
from lesion.tables.effects import MARGIN, MOST, NATS
from lesion.tables.intervals import Estimate
from lesion.tables.lookup import first_estimate, totals
from lesion.tables.read import StudyTables
from lesion.tables.rows import BEHAVIOUR, TOTAL, UNMODIFIED
from lesion.tables.variants import arm_of
from lesion.tables.wording import NOTHING, amount, figure, with_interval


def _arm_words(variant: str | None) -> Mapping[str, str]:
    mask, lesioned = arm_of(variant or "")
    return {
        "mask": mask or "",
        "first": "afterwards" if lesioned == "after" else "first",
        "before": "after" if lesioned == "after" else "before",
        "still": " (and keeping it zero)" if lesioned == "frozen" else "",
    }


def _arm_number(rows: pl.DataFrame, arm: str | None, metric: str, role: str) -> Number | None:
    known = rows.filter(pl.col("value").is_not_null(), arm=arm, metric=metric, role=role)
    total = known.filter(level=TOTAL)
    if not total.height:
        return None
    parts = known.filter(level=BEHAVIOUR)["n"].to_list()
    row = total.row(0, named=True)
    return number_of(row, parts or [row["n"]])


def _separability(_claim: Claim, facts: Facts) -> Iterator[tuple[str | None, Number | None]]:
    row = _last_change(facts.rows)
    if row is not None:
        yield row["name"], number_of(row, [row["fewest"]])


def _last_change(stages: pl.DataFrame) -> dict[str, Any] | None:
    changes = stages.filter(metric="separability_change", variant="shared")
    last = changes.filter(pl.col("stage") == pl.col("stage").max())
    return last.row(0, named=True) if last.height else None


def _not_reached(facts: Facts, _variant: str | None) -> str:
    row = _last_change(facts.rows)
    if row is None or not row["beyond"]:
        return ""
    return "In one stage no measured size adds that much to benign responses."


def _aligned(one: Estimate, found: StudyTables, _variant: str) -> str:
    named = found.stages.sort("stage")["name"].unique(maintain_order=True).to_list()
    first, last = (
        with_interval(_staged(found, name, "shared", "separability"), "nats")
        for name in (named[0], named[-1])
    )
    control = _staged(found, named[-1], "random", "separability_change")
    random = (
        f" With as many random weights it is {with_interval(control, 'nats')}." if control else ""
    )
    return (
        f"At the size that adds {benign_limit(found)} nats per token to benign responses, harmful "
        f"ones lose {first} in {named[0]} and {last} in {named[-1]}, a change of "
        f"{figure(one, 'nats', ' nats per token')}.{random}"
    )


def _staged(found: StudyTables, name: str, variant: str, metric: str) -> Estimate | None:
    return first_estimate(found.stages.filter(name=name, variant=variant, metric=metric))


def benign_limit(found: StudyTables) -> str:
    """The benign loss at which separability is read, as text, in nats per token."""
    limit = (found.study["config"].get("masks") or {}).get("max_benign_increase")
    return NOTHING if limit is None else f"{limit:g}"


def _spread(rows: pl.DataFrame) -> bool:
    # An experiment on misalignment is not one on recovery.
    return bool((rows["metric"] == "misaligned").any())


def _misaligned(claim: Claim, facts: Facts) -> Iterator[tuple[str | None, Number | None]]:
    if _spread(facts.rows):
        yield claim.variant, _arm_number(facts.rows, claim.variant, claim.statistic, claim.role)


def _prevented(claim: Claim, facts: Facts) -> Iterator[tuple[str | None, Number | None]]:
    trained = _arm_number(facts.rows, UNMODIFIED, BY_TRAINING.statistic, "broad")
    if not _spread(facts.rows) or trained is None:
        return
    arms = facts.rows.filter(metric="misaligned_change")["arm"].unique().sort()
    # Controls are for comparison: nothing is claimed about them.
    for arm in (arm for arm in arms if mask_of(arm) not in DESCRIPTIONS):
        yield arm, _arm_number(facts.rows, arm, claim.statistic, claim.role)


def _nothing_to_prevent(facts: Facts, _arm: str | None) -> str:
    # An ablation cannot prevent what the training did not do.
    if all(outcome_of(one)[0] == SUPPORTED for _, one in BY_TRAINING.evidence(facts)):
        return ""
    return (
        "The training did not clearly misalign the model by an amount that counts, so there was "
        "nothing to prevent."
    )


def _misaligning(one: Estimate, found: StudyTables, _arm: str) -> str:
    rows = found.retraining
    before = at_step(totals(rows, "broad"), UNMODIFIED, "misaligned", 0)
    return (
        "The share of misaligned answers to broad questions goes from "
        f"{with_interval(before, 'share')} to {_rate(rows, UNMODIFIED, 'broad')} "
        f"after {_training(rows)}, "
        f"a change of {figure(one, 'points', ' points')}."
    )


def _preventing(one: Estimate, found: StudyTables, arm: str) -> str:
    rows = found.retraining
    return (
        f"The share of misaligned answers to broad questions is {_rate(rows, arm, 'broad')}, "
        f"against {_rate(rows, UNMODIFIED, 'broad')} without an ablation, a difference of "
        f"{figure(one, 'points', ' points')}. For narrow questions it is "
        f"{_rate(rows, arm, 'narrow')} against {_rate(rows, UNMODIFIED, 'narrow')}."
    )


def _beyond_random(one: Estimate, found: StudyTables, arm: str) -> str:
    rows = found.retraining
    return (
        f"The share of misaligned answers to broad questions is {_rate(rows, arm, 'broad')}, "
        f"against {_rate(rows, 'random', 'broad')} with as many random weights zeroed before "
        f"training, a difference of {figure(one, 'points', ' points')}."
    )


def _rate(rows: pl.DataFrame, arm: str, role: str) -> str:
    return with_interval(last(totals(rows, role), arm, "misaligned"), "share")


def _training(rows: pl.DataFrame) -> str:
    """The length of an experiment's training."""
    steps, examples = rows.select(pl.max("step"), pl.max("examples")).row(0)
    return f"{amount(steps, 'count')} steps ({amount(examples, 'count')} examples)"


def _recovered(claim: Claim, facts: Facts) -> Iterator[tuple[str | None, Number | None]]:
    if not _spread(facts.rows):
        for arm in ("shared", f"shared{FROZEN}"):
            yield arm, _arm_number(facts.rows, arm, claim.statistic, claim.role)


def _nothing_to_bring_back(facts: Facts, arm: str | None) -> str:
    if counts(_arm_number(facts.rows, arm, "nll_added", "harm"), NATS):
        return ""
    return (
        "The NLL that the ablation added is unclear or too small to count, so there is nothing to "
        "recover."
    )


def _recovering(one: Estimate, found: StudyTables, arm: str) -> str:
    harm = totals(found.retraining, "harm")
    trained = [with_interval(last(harm, name, "nll"), "nats") for name in (arm, UNMODIFIED)]
    return (
        f"After {_training(found.retraining)}, training has removed {figure(one, 'share')}, of the "
        "NLL that the ablation added to held-out harmful responses: they have an NLL of "
        f"{trained[0]} nats per token, against {trained[1]} for the unmodified model after the "
        f"same training.{_half(harm, arm)}"
    )


def _half(harm: pl.DataFrame, arm: str) -> str:
    steps, examples = (summed_up(harm, arm, f"half_{what}") for what in ("steps", "examples"))
    if steps is None:
        return ""
    seen = "" if examples is None else f" ({amount(examples.value, 'count')} examples)"
    return f" Half of it was removed after {with_interval(steps, 'count')} steps{seen}."


def last(rows: pl.DataFrame, arm: str, metric: str) -> Estimate | None:
    """An arm's measurement after the whole training, or None.

    Args:
        rows: of one experiment and behaviour.
        arm: its name.
        metric: what was measured.
    """
    step = rows.filter(metric=metric, arm=arm)["step"].max()
    return None if step is None else at_step(rows, arm, metric, int(str(step)))


def at_step(rows: pl.DataFrame, arm: str, metric: str, step: int) -> Estimate | None:
    """An arm's measurement after a step, or None."""
    known = pl.col("value").is_not_null()
    return first_estimate(rows.filter(known, arm=arm, metric=metric, step=step))


def summed_up(rows: pl.DataFrame, arm: str, metric: str) -> Estimate | None:
    """An arm's measurement that summarises the whole training, or None."""
    known = pl.col("value").is_not_null() & pl.col("step").is_null()
    return first_estimate(rows.filter(known, arm=arm, metric=metric))


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
    limited=False,
    numbers=_misaligned,
    scope="experiment",
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
        unusable=_not_reached,
        scope="family",
    ),
    BY_TRAINING,
    Claim(
        5,
        "lesioned {first}, less broad misalignment",
        "misaligned_change",
        "",
        "points",
        -MARGIN,
        "Retraining",
        "Does zeroing “{mask}” {before} training{still} reduce the misalignment?",
        _preventing,
        role="broad",
        above=False,
        numbers=_prevented,
        unusable=_nothing_to_prevent,
        scope="experiment",
        words=_arm_words,
    ),
    Claim(
        5,
        "lesioned {first}, more than at random",
        "misaligned_beyond_random",
        "",
        "points",
        -MARGIN,
        "Retraining",
        "Does zeroing “{mask}” {before} training{still} prevent more than a random ablation?",
        _beyond_random,
        role="broad",
        above=False,
        numbers=_prevented,
        unusable=_nothing_to_prevent,
        scope="experiment",
        words=_arm_words,
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
        unusable=_nothing_to_bring_back,
        scope="experiment",
        words=_arm_words,
    ),
)
"""Claims 4, 5 and 8."""
