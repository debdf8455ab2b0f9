"""From rows per prompt to rows per measurement. Polars in, polars out; no I/O."""

from collections.abc import Iterator
from typing import NamedTuple

import polars as pl
import scipy  # its parts, which take a second, when they are first used

from lesion.tables.answer_outcomes import outcome_rows
from lesion.tables.effects import SCORED, SCORED_OF_ONE
from lesion.tables.intervals import Bootstrap, Values
from lesion.tables.likelihoods import likelihood_rows, specificity_rows
from lesion.tables.metrics import metrics_of
from lesion.tables.rows import (
    MEASUREMENTS,
    SHARED,
    UNMODIFIED,
    Row,
    by_behaviour,
    groups,
    is_main,
    measurement_keys,
    metric_rows,
    pairs,
    row,
    rows_by_behaviour,
)


class PromptNumbers(NamedTuple):
    """The numbers of a model's variants, one row for each prompt and number."""

    nll: pl.DataFrame
    judged: pl.DataFrame
    tasks: pl.DataFrame | None = None
    understanding: pl.DataFrame | None = None
    matched: pl.DataFrame | None = None
    """Behaviour, prompt, of, counterpart of the matched requests."""
    outcomes: pl.DataFrame | None = None
    """Variant, behaviour, role, attack, prompt, outcome of every answer."""


def measurements(
    model: str, numbers: PromptNumbers, boot: Bootstrap, main: str = "learned", mask: str = SHARED
) -> pl.DataFrame:
    """Every measurement of one model.

    Args:
        model: its name.
        numbers: those of its variants, by prompt.
        boot: the bootstrap.
        main: the primary judge of harm.
        mask: the study's headline mask.

    Returns:
        A table of MEASUREMENTS.
    """
    about = {"model": model, "seed": boot.seed}
    rows = [*likelihood_rows(numbers.nll, boot, mask), *answer_rows(numbers.judged, boot)]
    if numbers.matched is not None:
        rows += specificity_rows(numbers.nll, numbers.matched, boot)
    rows += [] if numbers.outcomes is None else outcome_rows(numbers.outcomes, boot)
    rows += [] if numbers.tasks is None else task_rows(numbers.tasks, boot)
    rows += [] if numbers.understanding is None else understanding_rows(numbers.understanding, boot)
    table = pl.DataFrame([{**about, **columns} for columns in rows], schema=MEASUREMENTS)
    return _adjusted(table.with_columns(is_main(main)))


def answer_rows(judged: pl.DataFrame, boot: Bootstrap) -> Iterator[Row]:
    """Judge scores of every variant's completions, and their changes from the unmodified model.

    Args:
        judged: variant, behaviour, role, attack, prompt, judge, score (null where the judge gave
            none), label (Boolean: refused, or harmful; null where the score has no threshold).
        boot: the bootstrap.
    """
    keys = ["variant", "role", "attack", "judge"]
    for values, table in judged.group_by(keys, maintain_order=True):
        own = dict(zip(keys, map(str, values), strict=True))
        unmodified = judged.filter(**{**own, "variant": UNMODIFIED})
        for metric in metrics_of(own["judge"], own["role"]):
            yield from metric_rows(own, metric.name, table, unmodified, metric.column, boot)


def task_rows(items: pl.DataFrame, boot: Bootstrap) -> Iterator[Row]:
    """Each task's main metric, as `accuracy`, and its other metrics by their names.

    What guessing would score in the main metric, `accuracy_chance`, is that of the unmodified
    model's items alone, since all variants have the same ones.

    Args:
        items: variant, task, item, metric, value, chance; a task's main metric comes first.
        boot: the bootstrap.
    """
    table = items.rename({"task": "behaviour", "item": "prompt"})
    firsts = table.unique("behaviour", keep="first", maintain_order=True)
    main = firsts.select("behaviour", "metric")
    named = {"accuracy": table.join(main, on=["behaviour", "metric"], maintain_order="left")}
    others = table.join(main, on=["behaviour", "metric"], how="anti", maintain_order="left")
    named |= {str(name): rest for (name,), rest in others.group_by("metric", maintain_order=True)}
    for metric, rows in named.items():
        unmodified = rows.filter(variant=UNMODIFIED)
        for (variant,), mine in rows.group_by("variant", maintain_order=True):
            keys = measurement_keys(str(variant), "utility", judge="lm-eval")
            yield from metric_rows(keys, metric, mine, unmodified, "value", boot)
            if (variant, metric) == (UNMODIFIED, "accuracy"):
                chance = groups(mine, "chance")
                yield from rows_by_behaviour(keys, "accuracy_chance", chance, boot.mean)


def understanding_rows(answers: pl.DataFrame, boot: Bootstrap) -> Iterator[Row]:
    """How well each variant detects and explains harmful requests.

    Args:
        answers: variant, measure (`detect`: log-odds that a request is harmful; `explain`: NLL of
            the unmodified model's explanation), behaviour, pair, prompt, harmful, value.
        boot: the bootstrap.
    """
    detected, explained = (answers.filter(measure=name) for name in ("detect", "explain"))
    unmodified_sides = _sides(detected.filter(variant=UNMODIFIED))
    for (variant,), table in detected.group_by("variant", maintain_order=True):
        keys = measurement_keys(str(variant), "harm")
        for behaviour, sides in _sides(table).items():
            yield row(keys, "detect_auroc", boot.auroc(*sides), behaviour)
            if variant != UNMODIFIED and behaviour in unmodified_sides:
                change = boot.auroc_change(unmodified_sides[behaviour], sides)
                yield row(keys, "detect_auroc_change", change, behaviour)
    unmodified = explained.filter(variant=UNMODIFIED)
    for (variant,), table in explained.group_by("variant", maintain_order=True):
        keys = measurement_keys(str(variant), "harm")
        yield from rows_by_behaviour(keys, "explain_nll", groups(table, "value"), boot.mean)
        if variant != UNMODIFIED:
            both = pairs(table, unmodified, "value").items()
            added = {name: paired.change for name, paired in both}
            yield from rows_by_behaviour(keys, "explain_nll_added", added, boot.change)


def _sides(table: pl.DataFrame) -> dict[str | None, tuple[Values, Values]]:
    """Scores of harmful requests and of their minimal pairs, by harm type and in total (None)."""
    index = ["behaviour", "pair"]
    wide = table.pivot("harmful", index=index, values="value", maintain_order=True)
    wide = wide.drop_nulls().sort(index)
    if not {"true", "false"} <= set(wide.columns) or wide.is_empty():
        return {}
    parts: dict[str | None, pl.DataFrame] = {**dict(by_behaviour(wide)), None: wide}
    return {name: (own["true"].to_numpy(), own["false"].to_numpy()) for name, own in parts.items()}


def same_answers(completions: pl.DataFrame) -> frozenset[tuple[str, str]]:
    """Variants and attacks whose answers to all harmful prompts are the same text.

    Such answers count as a single observation, however many there are.

    Args:
        completions: variant, role, attack, completion; of role `harm`, and `explanation`, whose
            attack has the same name.
    """
    answers = completions.filter(pl.col("role").is_in(["harm", "explanation"]))
    texts = answers.group_by("variant", "attack").agg(
        pl.col("completion").str.strip_chars().n_unique()
    )
    return frozenset(texts.filter(completion=1).select("variant", "attack").iter_rows())


class Scored(NamedTuple):
    """The share of answers that a judge scored: of all, and of the behaviour with the least."""

    share: float
    least: float


def unscored(judged: pl.DataFrame, judge: str) -> dict[str, Scored]:
    """By attack, how many answers to harmful requests a judge scored, where it is too few.

    A judge that is silent on some answers of one variant, as where a filter refuses them, would
    compare the others with the whole of the other variant's.

    Args:
        judged: as in `answer_rows`, of the variants that are compared.
        judge: the primary judge of harm.

    Returns:
        The least of the variants, where it is below SCORED, or a behaviour's below SCORED_OF_ONE.
    """
    return _too_few(judged.filter(judge=judge, role="harm"), "attack", "variant", "score")


def unscored_arms(retrained: pl.DataFrame) -> dict[str, Scored]:
    """By arm, how many answers to broad questions a judge scored, where it is too few.

    Args:
        retrained: the rows of `lesion.tables.retraining.retraining_table`, of one experiment.
    """
    return _too_few(retrained.filter(metric="misalignment", role="broad"), "arm", "step", "value")


def _too_few(answers: pl.DataFrame, name: str, compared: str, score: str) -> dict[str, Scored]:
    known = pl.col(score).is_not_null().mean()
    least = answers.group_by(name, compared, "behaviour").agg(least=known)
    shares = answers.group_by(name, compared).agg(share=known)
    both = shares.join(least.group_by(name, compared).agg(pl.min("least")), on=[name, compared])
    fewest = both.group_by(name).agg(pl.min("share"), pl.min("least")).sort(name)
    few = fewest.filter((pl.col("share") < SCORED) | (pl.col("least") < SCORED_OF_ONE))
    return {str(row[0]): Scored(*row[1:]) for row in few.select(name, "share", "least").rows()}


def _adjusted(table: pl.DataFrame) -> pl.DataFrame:
    """The table with p-values corrected (Benjamini and Hochberg) within each comparison."""
    numbered = table.drop("p_adjusted").with_row_index("place")
    tested = numbered.drop_nulls("p_value")
    parts = [
        group.select(
            "place", p_adjusted=pl.Series(scipy.stats.false_discovery_control(group["p_value"]))
        )
        for _, group in tested.group_by("metric", "judge", "attack", maintain_order=True)
    ]
    if not parts:
        return table
    together = numbered.join(pl.concat(parts), on="place", how="left", maintain_order="left")
    return together.select(*MEASUREMENTS)
