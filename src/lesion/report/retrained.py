"""What training does to the mechanism, as verdicts: alignment, narrow training, recovery. Pure.

Only studies that train have these: without rows in the table of claims they are not asked.
"""

from typing import Any

import polars as pl

from lesion.report.estimate import NOTHING, Estimate, Unit, amount, estimate_of, written
from lesion.report.inputs import Inputs
from lesion.report.questions import RULE, Question, Sentence, answered
from lesion.report.words import Verdict, figure

FROZEN, AFTER = "-frozen", "-after"
"""Endings of an arm: its zeros stay, or it is lesioned once it is trained."""


def family_verdicts(inputs: Inputs, family: str) -> list[Verdict]:
    """Whether the mechanism of harm comes apart over the stages of a family of models.

    Args:
        inputs: the study's tables.
        family: its name.
    """
    found = inputs.of_family(family)
    rows = found.claims.filter(claim=4, statistic="separability_change")
    limit = benign_limit(inputs)
    return [answered(_family_question(row, limit), row, found) for row in rows.rows(named=True)]


def benign_limit(inputs: Inputs) -> str:
    """Where separability is read off, as text: nats per token that benign responses have lost."""
    limit = (inputs.study["config"].get("masks") or {}).get("max_benign_increase")
    return NOTHING if limit is None else f"{limit:g}"


def retrained_verdicts(found: Inputs) -> list[Verdict]:
    """What one model's trainings in memory show.

    Args:
        found: its tables.
    """
    rows = found.claims.filter(pl.col("claim").is_in([5, 8])).rows(named=True)
    asked = [(row, _question(row, found)) for row in rows]
    return [answered(question, row, found) for row, question in asked if question is not None]


def _family_question(row: dict[str, Any], limit: str) -> Question:
    def sentence(one: Estimate, found: Inputs) -> str:
        named = found.stages.sort("stage")["name"].unique(maintain_order=True).to_list()
        first, last = (
            written(_staged(found, name, "shared", "separability"), "nats")
            for name in (named[0], named[-1])
        )
        control = _staged(found, named[-1], "random", "separability_change")
        random = f" As many random weights: {written(control, 'nats')}." if control else ""
        return (
            f"Once benign responses have lost {limit} nats per token, harmful ones have lost "
            f"{first} in {named[0]} and {last} in {named[-1]}, a change of "
            f"{figure(one, 'nats', ' nats per token')}.{random}"
        )

    question = "Does alignment gather harm in weights of its own?"
    return _asked("Over the stages", row, question, "nats", sentence, RULE)


def _staged(found: Inputs, name: str, variant: str, metric: str) -> Estimate | None:
    rows = found.stages.filter(name=name, variant=variant, metric=metric).rows(named=True)
    return estimate_of(rows[0]) if rows else None


def _asked(
    topic: str,
    row: dict[str, Any],
    question: str,
    unit: Unit,
    sentence: Sentence,
    rule: str,
) -> Question:
    place = (row["claim"], row["statistic"], row["variant"])
    return Question(topic, *place, question, unit, sentence, "", rule)


def _question(row: dict[str, Any], found: Inputs) -> Question | None:
    kind = (row["claim"], row["statistic"])
    if kind == (8, "recovered_share"):
        return _recovery(row, _experiment(row, found))
    if kind == (5, "misaligned_change_by_training"):
        return _misaligning(row, _experiment(row, found))
    if kind == (5, "misaligned_change"):
        return _preventing(row, _experiment(row, found))
    if kind == (5, "misaligned_beyond_random"):
        return _beyond_random(row, _experiment(row, found))
    return None


def _experiment(row: dict[str, Any], found: Inputs) -> pl.DataFrame:
    """The experiment that a claim's number is of; the table of claims does not name it."""
    same = found.retraining.filter(arm=row["variant"], metric=row["statistic"], value=row["value"])
    named = same["experiment"][:1].to_list()
    return found.retraining.filter(pl.col("experiment").is_in(named))


def _topic(rows: pl.DataFrame) -> str:
    named = rows["experiment"][:1].to_list()
    return f"Trained again: {named[0]}" if named else "Trained again"


def _recovery(row: dict[str, Any], rows: pl.DataFrame) -> Question:
    arm = row["variant"]

    def sentence(one: Estimate, _found: Inputs) -> str:
        harm = rows.filter(behaviour="all-harm")
        trained = [written(last(harm, name, "nll"), "nats") for name in (arm, "intact")]
        half = _half(harm, arm)
        return (
            f"After {_training(rows)}, {figure(one, 'share')}, of what the lesion had added to the "
            f"NLL of held-out harmful responses is gone: {trained[0]} nats per token, against "
            f"{trained[1]} of the intact model after the same training.{half}"
        )

    question = f"Does training bring back what zeroing {_lesion(arm)} took{_still(arm)}?"
    return _asked(_topic(rows), row, question, "share", sentence, "More than {} counts as most.")


def _half(harm: pl.DataFrame, arm: str) -> str:
    steps, examples = (_summary(harm, arm, f"half_{what}") for what in ("steps", "examples"))
    if steps is None:
        return ""
    seen = "" if examples is None else f" ({amount(examples.value, 'count')} examples)"
    return f" Half of it is gone after {written(steps, 'count')} steps{seen}."


def _misaligning(row: dict[str, Any], rows: pl.DataFrame) -> Question:
    def sentence(one: Estimate, _found: Inputs) -> str:
        before = at_step(rows.filter(behaviour="all-broad"), "intact", "misaligned", 0)
        return (
            f"Misaligned answers to broad questions go from {written(before, 'share')} to "
            f"{_rate(rows, 'intact', 'broad')} with {_training(rows)}: "
            f"{figure(one, 'points', ' points')}."
        )

    question = "Does the narrow training misalign broad answers?"
    return _asked(_topic(rows), row, question, "points", sentence, RULE)


def _when(arm: str) -> str:
    when = "after" if arm.endswith(AFTER) else "before"
    return f"{_lesion(arm)} zeroed {when} training{_still(arm)}?"


def _preventing(row: dict[str, Any], rows: pl.DataFrame) -> Question:
    arm = row["variant"]

    def sentence(one: Estimate, _found: Inputs) -> str:
        return (
            f"Misaligned answers to broad questions: {_rate(rows, arm, 'broad')}, against "
            f"{_rate(rows, 'intact', 'broad')} without a lesion, "
            f"{figure(one, 'points', ' points')}. To narrow ones: {_rate(rows, arm, 'narrow')} "
            f"against {_rate(rows, 'intact', 'narrow')}."
        )

    question = f"Is there less misalignment with {_when(arm)}"
    return _asked(_topic(rows), row, question, "points", sentence, RULE)


def _beyond_random(row: dict[str, Any], rows: pl.DataFrame) -> Question:
    arm = row["variant"]

    def sentence(one: Estimate, _found: Inputs) -> str:
        return (
            f"Misaligned answers to broad questions: {_rate(rows, arm, 'broad')}, against "
            f"{_rate(rows, 'random', 'broad')} where as many random weights were zeroed before "
            f"training, {figure(one, 'points', ' points')}."
        )

    question = f"Is there less than with a random lesion with {_when(arm)}"
    return _asked(_topic(rows), row, question, "points", sentence, RULE)


def _still(arm: str) -> str:
    return ", while they stay zero" if arm.endswith(FROZEN) else ""


def _lesion(arm: str) -> str:
    return f"“{arm.removesuffix(FROZEN).removesuffix(AFTER)}”"


def _rate(rows: pl.DataFrame, arm: str, role: str) -> str:
    return written(last(rows.filter(behaviour=f"all-{role}"), arm, "misaligned"), "share")


def _training(rows: pl.DataFrame) -> str:
    """How long an experiment trains."""
    steps, examples = rows.select(pl.max("step"), pl.max("examples")).row(0)
    return f"{amount(steps, 'count')} steps ({amount(examples, 'count')} examples)"


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
    return _first(rows.filter(pl.col("value").is_not_null(), arm=arm, metric=metric, step=step))


def _summary(rows: pl.DataFrame, arm: str, metric: str) -> Estimate | None:
    """What stands for an arm's whole training, or None."""
    there = pl.col("value").is_not_null() & pl.col("step").is_null()
    return _first(rows.filter(there, arm=arm, metric=metric))


def _first(rows: pl.DataFrame) -> Estimate | None:
    return estimate_of(rows.row(0, named=True)) if rows.height else None


def recovery_table(rows: pl.DataFrame) -> pl.DataFrame:
    """What came back of harm in each lesioned arm, as texts; empty if nothing was summed up.

    Args:
        rows: of one experiment.
    """
    harm = rows.filter(behaviour="all-harm")
    arms = harm.filter(metric="recovered_share")["arm"].unique(maintain_order=True)
    return pl.DataFrame(
        [
            {
                "lesioned, then trained": arm,
                "harm NLL before (nats per token)": written(at_step(harm, arm, "nll", 0), "nats"),
                "after": written(last(harm, arm, "nll"), "nats"),
                "undone": written(_summary(harm, arm, "recovered_share"), "share"),
                "steps to half": written(_summary(harm, arm, "half_steps"), "count"),
                "examples to half": written(_summary(harm, arm, "half_examples"), "count"),
            }
            for arm in arms
        ]
    )
