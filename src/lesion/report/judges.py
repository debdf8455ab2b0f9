"""How far to trust the judges: tables of their agreement with people, as texts."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from lesion.judgements.controls import CONTROLS_OF_JUDGES
from lesion.tables.lookup import estimate_of
from lesion.tables.wording import NOTHING, amount, with_interval

_ALL = "all"
"""The category of all kinds of harm together."""

_HUMAN = "human"

_AGREEMENT = {
    "auroc": "AUROC",
    "kappa": "Cohen’s κ",
    "ece": "calibration error",
    "brier": "Brier score",
}
_CONTROLS = {
    "true_positive_mean": "harmful answers",
    "shuffled_mean": "answers to other prompts",
    "off_topic_mean": "harmless prose",
    "repetition_mean": "first words repeated",
}
_METRICS = {
    "auroc": "AUROC",
    "kappa": "Cohen’s κ at threshold ½",
    "ece": "expected calibration error",
    "brier": "Brier score",
    "kappa_best": "Cohen’s κ at the best threshold",
    "true_positive_mean": "mean score of harmful answers",
    "true_negative_mean": "mean score of harmless answers",
    "shuffled_mean": "mean score of answers to other prompts",
    "shuffled_positive_mean": "mean score of harmful answers to other prompts",
    "off_topic_mean": "mean score of harmless text about something else",
    "repetition_mean": "mean score of an answer’s first words repeated",
    "relevance_auroc": "AUROC of relevance: own prompt against other prompts",
}
_TARGETS = {
    "graded-harm": "against people’s grades of harm",
    "objective": "against people’s opinion whether the answer does what was asked",
}
_STATISTICS = {
    "mean": "mean score",
    "auroc": "AUROC of harmful answers against these",
    "mean_change": "change of the mean score",
}


def judged(judges: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """The tables of the page's section on judges, empty where nothing was measured.

    Agreement and controls over all kinds of harm, agreement by kind, and every number.
    """
    together, columns = judges.filter(category=_ALL), ["judge", "target"]
    by_kind = judges.filter(pl.col("category") != _ALL)
    return {
        "agreement": _across(together, columns, _AGREEMENT),
        "controls": _across(together, columns, _CONTROLS),
        "categories": _across(by_kind, [*columns, "category"], _AGREEMENT),
        "everything": _everything(together),
    }


def trust(judges: pl.DataFrame, main: str, tokens: int | None) -> str:
    """A sentence on how far to trust the harm scores of a study.

    A judge that was trained on the study's own labels is compared with those labels. Agreement is
    also measured on as many `tokens` as the study's longest answer has.
    """
    own = judges.filter(category=_ALL, metric="auroc")
    short = f"{main}, first {tokens} tokens"
    name = short if short in set(own["judge"]) else main
    scores = {row["target"]: _score(row, 2) for row in own.filter(judge=name).iter_rows(named=True)}
    if not scores:
        return (
            f"The judge `{main}` gives the harm scores; its agreement with people was not measured "
            "here."
        )
    on = f"cut to {tokens} tokens like this study’s" if name == short else "of any length"
    aurocs = " and ".join(
        f"{value} ({_TARGETS.get(str(target), target)})" for target, value in scores.items()
    )
    return (
        f"The judge `{main}` gives the harm scores. On human-scored answers that it was not "
        f"trained on ({on}), its AUROC is {aurocs}."
    )


def harm_controls(controls: pl.DataFrame) -> pl.DataFrame:
    """The table `judge_controls` as texts: a row for each model, judge and control."""
    rows = []
    for row in controls.iter_rows(named=True):
        least = "≤" if row["statistic"] == "mean" else "≥"
        bound = amount(row["limit"], "score", 2)
        rows.append(
            {
                "model": row["model"],
                "judge": row["judge"],
                "answers": CONTROLS_OF_JUDGES[row["control"]],
                "statistic": _STATISTICS[row["statistic"]],
                "value": _score(row, 2),
                "limit": NOTHING if row["limit"] is None else f"{least} {bound}",
                "within": {True: "yes", False: "no"}.get(row["passed"], NOTHING),
                "n": f"{row['n'] or 0:,}",
            }
        )
    return pl.DataFrame(rows)


def _across(table: pl.DataFrame, keys: list[str], metrics: Mapping[str, str]) -> pl.DataFrame:
    """One row for each value of `keys`, one column for each metric; people come last."""
    known = table.filter(pl.col("metric").is_in(metrics.keys())).sort(
        pl.col("target"), pl.col("judge") == _HUMAN, descending=[True, False], maintain_order=True
    )
    rows = []
    for (judge, *against), group in known.group_by(keys, maintain_order=True):
        texts = {row["metric"]: _score(row, 2) for row in group.iter_rows(named=True)}
        rows.append(
            {
                "judge": "people" if judge == _HUMAN else judge,
                "against": ", ".join(map(str, against)),
                **{name: texts.get(metric, NOTHING) for metric, name in metrics.items()},
                "n": f"{max(n or 0 for n in group['n']):,}",
            }
        )
    return pl.DataFrame(rows)


def _everything(together: pl.DataFrame) -> pl.DataFrame:
    """Judges and metrics as rows, human targets as columns."""
    targets = sorted(set(together["target"].drop_nulls()), reverse=True)
    rows = []
    for (judge, metric), group in together.group_by("judge", "metric", maintain_order=True):
        texts = {
            row["target"]: _score(row) + ("" if row["n"] is None else f", n = {row['n']:,}")
            for row in group.iter_rows(named=True)
        }
        cells = {name: texts.get(name, NOTHING) for name in targets}
        rows.append({"judge": judge, "metric": _METRICS.get(str(metric), metric), **cells})
    return pl.DataFrame(rows)


def _score(row: dict[str, Any], digits: int | None = None) -> str:
    return with_interval(estimate_of(row), "score", digits)
