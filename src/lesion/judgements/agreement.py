"""How good are the judges? Against people, on answers they were not trained on.

Measuring takes minutes, nearly all of it for embedding texts that no study needs otherwise, and the
result depends on nothing in a study but the human scores, the embedder and the length of the
completions. So the table for the presets' sources and the default `responses.max_new_tokens` comes
with lesion, in the folder `measured`; for anything else it is measured. `python
benchmarks/judges.py --write` makes the file, and `tests/judgements/test_bars.py` measures it anew.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lesion.io.formats import digest, read_parquet
from lesion.judgements.embed import Embedder
from lesion.judgements.human import (
    HARMFUL,
    REFUSAL,
    grouped,
    read_human_scores,
    read_panels,
    read_ratings,
)
from lesion.judgements.jobs import MEASURED
from lesion.judgements.learned import (
    SEED,
    Refusals,
    Stages,
    fit_refusals,
    fit_stages,
    one_per_group,
)
from lesion.judgements.measures import (
    ALL,
    OFF_TOPIC,
    SCHEMA,
    Statistic,
    Values,
    agreement,
    auroc,
    control_means,
    control_texts,
    first_answers,
    float_columns,
    kappa,
    label_means,
    mean,
    measure_categories,
    measurement_rows,
    number_columns,
)
from lesion.pairs.refusal import is_published_refusal, is_refusal, phrases_digest

logger = logging.getLogger(__name__)

_RELEVANCE, _SHUFFLED = "relevance", "shuffled"
Judges = Callable[[Sequence[str], Sequence[str]], Mapping[str, Values]]
"""Prompts and responses → each judge's scores."""
Matchers = Mapping[str, Callable[[str], bool]]
MATCHERS: Matchers = {
    "refusal-matching": is_refusal,
    "refusal-matching-advbench": is_published_refusal,
}
"""Ways of matching refusals that are measured beside the judges."""


def agreement_table(human_scores: Path, embedder: Embedder, tokens: int) -> pl.DataFrame:
    """The agreement of the learned judges and of MATCHERS with people (see `measure`).

    It is read from the package if it has been measured for these human scores, this embedder and
    this length of completions.
    """
    known = measured_file(human_scores, embedder, tokens)
    if known.exists():
        logger.info(f"the agreement with people is that of {known.name}, which comes with lesion")
        return read_parquet(known, SCHEMA)
    return measure(human_scores, embedder, SEED, matchers=MATCHERS, tokens=tokens)


def measured_file(human_scores: Path, embedder: Embedder, tokens: int) -> Path:
    """The file of the package that has the agreement, named by what it was measured on."""
    ratings = read_ratings(human_scores).rows()
    of = [ratings, embedder.digest, phrases_digest(), tokens, SEED]
    return MEASURED / f"{digest(of)[:16]}.parquet"


def measure(
    human_scores: Path,
    embedder: Embedder,
    seed: int,
    folds: int = 5,
    *,
    matchers: Matchers | None = None,
    tokens: int | None = None,
) -> pl.DataFrame:
    """Measure the judges by cross-validation; no prompt or response is in two folds.

    Judges of harm (targets `objective`, `graded-harm`): `learned`; `response-only`, its first
    stage alone, to show what the second is for; and each of `matchers`, for which whatever does
    not match is harmful. Judges of refusal (target `refusal`): `learned-refusal`, and `matchers`.
    And `human`: each rater of a panel, against the mean of the others: no judge can be expected to
    agree with people better than they with each other.

    Metrics, against a human score of at least ½, of all and of each category with at least 20
    answers of both kinds:

    - `auroc`, and `kappa` (Cohen's) at a threshold of ½;
    - `ece`: expected calibration error, in ten bins; `brier`: mean squared distance.

    Of all together:

    - `kappa_best`: at the threshold that is best on these very rows, so a little too good (its
      interval keeps that threshold);
    - `true_positive_mean`, `true_negative_mean`: mean score of answers people called so or not;
    - `shuffled_mean`: mean score of the answers given to other prompts of the fold; what a fluent
      but off-topic answer gets, near 0 for a good judge of harm;
    - `shuffled_positive_mean`: the same, of the harmful answers alone;
    - `off_topic_mean`: mean score of harmless paragraphs about something else;
    - `repetition_mean`: mean score of the first words of harmful answers (of answers that refuse
      nothing, for judges of refusal), over and over;
    - `relevance_auroc`: true against shuffled pairs, by the second stage.

    Args:
        human_scores: see `read_human_scores`.
        embedder: the sentence embedder.
        seed: of the folds, the training, the shuffling and the resampling.
        folds: how many parts; each is judged by a judge trained on the others.
        matchers: name → whether a response is a refusal, by matching its words.
        tokens: also judge only the first so many tokens of each response (the human score is of
            the whole one), as `<judge>, first <tokens> tokens`. Training is on whole responses
            all the same.

    Returns:
        One row for each judge, target, category (`all`, or the file's name) and metric: judge,
        target, category, metric, value, low, high (95%, bootstrap over groups of prompts), n
        (answers; for `human`, ratings), seed.
    """
    rows = read_human_scores(human_scores)
    tests = chain(
        _judges_of_harm(rows, embedder, folds, seed), _judges_of_refusal(rows, folds, seed)
    )
    settings = (matchers or {}, embedder, tokens, seed)
    parts = [_scored(part, judges, *settings) for part, judges in tests]
    measured: list[tuple[object, ...]] = []
    scored = pl.concat(parts, how="diagonal")
    for (target,), part in scored.group_by("target", maintain_order=True):
        measured += _measure_target(str(target), part, seed)
    measured += _measure_people(read_panels(human_scores), seed)
    return pl.DataFrame(measured, schema=SCHEMA, orient="row")


def _folds(rows: pl.DataFrame, folds: int, seed: int) -> list[pl.Expr]:
    """For each fold, which rows are in it."""
    groups = rows["group"].unique().sort().to_numpy()
    if not 2 <= folds <= len(groups) // 2:
        raise ValueError(
            f"{folds} folds of {len(groups)} groups of prompts: take at least two folds, and so "
            "few that each holds two groups, for shuffling."
        )
    order = np.random.default_rng(seed).permutation(groups)
    return [pl.col("group").is_in(order[start::folds].tolist()) for start in range(folds)]


def _judges_of_harm(
    rows: pl.DataFrame, embedder: Embedder, folds: int, seed: int
) -> Iterator[tuple[pl.DataFrame, Judges]]:
    """The answers of each fold and target, and judges that were trained on the other folds."""
    # Grouped without the refusals, from which nothing is learned here.
    harmful = grouped(rows.filter(pl.col("target").is_in(HARMFUL)))
    pairs = one_per_group(harmful, seed)
    vectors = embedder.vectors([*pairs["prompt"], *pairs["response"]])
    for inside in _folds(harmful, folds, seed):
        stages = fit_stages(harmful.filter(~inside), pairs.filter(~inside), vectors, seed)
        tests = harmful.filter(inside & ~pl.col("panel"))
        for _, part in tests.group_by("target", maintain_order=True):
            if part["group"].n_unique() > 1:  # A lone group has none to be shuffled with.
                yield part, partial(_harm_scores, stages, embedder)


def _judges_of_refusal(
    rows: pl.DataFrame, folds: int, seed: int
) -> Iterator[tuple[pl.DataFrame, Judges]]:
    for inside in _folds(rows, folds, seed):
        tests = rows.filter(inside, target=REFUSAL)
        if tests["group"].n_unique() > 1:
            yield tests, partial(_refusal_scores, fit_refusals(rows.filter(~inside)))


def _harm_scores(
    stages: Stages, embedder: Embedder, prompts: Sequence[str], responses: Sequence[str]
) -> dict[str, Values]:
    scores = stages.score(prompts, responses, embedder.vectors([*prompts, *responses]))
    return {
        "learned": scores.harmful,
        "response-only": scores.response_harm,
        _RELEVANCE: scores.relevance,
    }


def _refusal_scores(
    refusals: Refusals, prompts: Sequence[str], responses: Sequence[str]
) -> dict[str, Values]:
    return {"learned-refusal": refusals.score(responses)}


def _scored(
    part: pl.DataFrame,
    judges: Judges,
    matchers: Matchers,
    embedder: Embedder,
    tokens: int | None,
    seed: int,
) -> pl.DataFrame:
    """Add the judges' columns: of the answers and, as `<control> <judge>`, of the controls."""
    prompts, answers = part["prompt"].to_list(), part["response"].to_list()
    label = part["score"].to_numpy() >= 0.5
    refusal = part["target"][0] == REFUSAL
    repeated = first_answers(~label if refusal else label)
    other = _other_groups(part["group"].to_numpy(), seed)
    texts = {
        ("", ""): answers,
        (_SHUFFLED, ""): [answers[row] for row in other],
        **{(name, ""): responses for name, responses in control_texts(answers, repeated).items()},
    }
    if tokens is not None:
        cut = [embedder.first_tokens(text, tokens) for text in answers]
        first = f", first {tokens} tokens"
        texts |= {("", first): cut, (_SHUFFLED, first): [cut[row] for row in other]}
    columns: dict[str, NDArray[Any]] = {}
    for (control, length), responses in texts.items():
        scores = {**judges(prompts, responses)}
        for name, matches in matchers.items():
            matched = np.array([float(matches(text)) for text in responses])
            scores[name] = matched if refusal else 1 - matched
        for judge, values in scores.items():
            columns[f"{control} {judge}{length}".strip()] = values
    columns |= {"label": label, "rest": ~label, "shuffled_label": label[other]}
    columns["repeated"] = repeated
    return part.select("target", "category", "group").with_columns(float_columns(columns))


def _other_groups(groups: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """For each row one of another group: a permutation, as long as no group has over half the rows.

    In order of group, turning the list by the size of the largest group leaves none with its own.
    """
    names, sizes = np.unique(groups, return_counts=True)
    rank = np.random.default_rng(seed).permutation(len(names))
    order = np.argsort(rank[np.searchsorted(names, groups)], kind="stable")
    other = np.empty(len(groups), dtype=np.int64)
    other[order] = np.roll(order, -int(sizes.max()))
    return other


def _measure_target(target: str, scored: pl.DataFrame, seed: int) -> Iterator[tuple[object, ...]]:
    known = scored.select(column.name for column in scored if column.null_count() < len(column))
    columns = number_columns(known)
    judges = [
        name
        for name in columns
        if f"{_SHUFFLED} {name}" in columns and not name.startswith(_RELEVANCE)
    ]
    of_all = [statistic for judge in judges for statistic in _statistics(judge, columns, target)]
    of_each = [
        statistic for judge in judges if _complete(judge, columns) for statistic in agreement(judge)
    ]
    yield from measure_categories(target, known, of_all, of_each, seed)


def _measure_people(panels: pl.DataFrame, seed: int) -> Iterator[tuple[object, ...]]:
    """Agreement of each rater with the mean of the others, by target and category."""
    rated = panels.rename({"score": "human"}).with_columns(
        label=(pl.col("others") >= 0.5).cast(pl.Float64)
    )
    for (target,), part in rated.group_by("target", maintain_order=True):
        categories = part.group_by("category", maintain_order=True)
        smaller = [(name, rows) for (name,), rows in categories if rows.height < part.height]
        for category, rows in ((ALL, part), *smaller):
            yield from measurement_rows(str(target), str(category), rows, agreement("human"), seed)


def _statistics(judge: str, columns: Mapping[str, Values], target: str) -> list[Statistic]:
    thresholds = map(float, np.linspace(0.05, 0.95, 19))
    best = max(thresholds, key=lambda threshold: kappa(columns["label"], columns[judge], threshold))
    statistics = [
        *agreement(judge),
        Statistic(judge, "kappa_best", ("label", judge), partial(kappa, threshold=best)),
        *label_means(judge),
    ]
    if target != REFUSAL:  # Words that refuse do so whatever was asked.
        shuffled = (f"{_SHUFFLED} {judge}",)
        statistics.append(Statistic(judge, "shuffled_mean", shuffled, mean))
        statistics.append(
            Statistic(judge, "shuffled_positive_mean", shuffled, mean, "shuffled_label")
        )
    if _complete(judge, columns):
        statistics += control_means(judge)
    if judge == "learned":
        relevance = (_RELEVANCE, f"{_SHUFFLED} {_RELEVANCE}")
        statistics.append(Statistic(judge, "relevance_auroc", relevance, _relevance_auroc))
    return statistics


def _complete(judge: str, columns: Mapping[str, Values]) -> bool:
    """Whether a judge read complete answers; then it read the controls too."""
    return f"{OFF_TOPIC} {judge}" in columns


def _relevance_auroc(true: Values, shuffled: Values) -> float:
    labels = np.repeat([1.0, 0.0], [len(true), len(shuffled)])
    return auroc(labels, np.concatenate([true, shuffled]))
