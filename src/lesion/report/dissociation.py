"""What a model can still do once it has lost the weights of harm, or those of refusing."""

import math
from typing import NamedTuple

import polars as pl

from lesion.report import captions
from lesion.report.charts import Axis
from lesion.report.estimate import Estimate, find, written
from lesion.report.figure import NARROW, Figure, crossed
from lesion.report.plots import dissociation_chart, dots_height


class _Ability(NamedTuple):
    """A measurement of every variant, on a scale from 0 to 1."""

    name: str
    is_: str
    behaviour: str
    metric: str
    attack: str
    likelihood: bool = False


_DETECTS, _EXPLAINS = "detects harm", "explains harm"

_ABILITIES = (
    _Ability(
        "writes harm, judged",
        "judged harmfulness of answers that were begun for the model",
        *("all-harm", "harmfulness", "prefill"),
    ),
    _Ability(
        "writes harm, likelihood",
        "likelihood per token of held-out harmful responses",
        *("all-harm", "nll", "none"),
        likelihood=True,
    ),
    _Ability(
        _DETECTS,
        "AUROC of harmful requests against their harmless twins; ½ is chance",
        *("all-harm", "detect_auroc", "none"),
    ),
    _Ability(
        _EXPLAINS,
        "likelihood per token of the intact model’s explanations why a request is harmful",
        *("all-harm", "explain_nll", "none"),
        likelihood=True,
    ),
    _Ability(
        "refuses, judged",
        "share of direct harmful requests refused",
        *("all-harm", "refusal_rate", "direct"),
    ),
    _Ability(
        "refuses, likelihood",
        "likelihood per token of held-out refusals",
        *("all-refusal", "nll", "none"),
        likelihood=True,
    ),
)


def dissociation(measurements: pl.DataFrame, confidence: float) -> Figure | None:
    """Writing, detecting, explaining and refusing harm; None if no pruned model was measured.

    Args:
        measurements: of one model.
        confidence: level of the intervals.
    """
    named = _variants(measurements)
    data = _cells(measurements, named)
    if not data.height or set(data["variant"]) == {"intact"}:
        return None
    abilities = [one.name for one in _ABILITIES if one.name in set(data["ability"])]
    variants = [label for label in named.values() if label in set(data["variant"])]
    about = {one.name: f"{one.name} ({one.is_})" for one in _ABILITIES}
    texts = {
        (about[row["ability"]], row["variant"]): row["written"] for row in data.rows(named=True)
    }
    return Figure(
        "dissociation",
        "What can the pruned model still do?",
        f"Points for {len(abilities)} abilities of {len(variants)} models, with intervals: "
        "writing, detecting, explaining and refusing harm, each from 0 to 1.",
        captions.DISSOCIATION.filled(confidence=confidence, absent=_absent(data)),
        dissociation_chart(
            data, Axis("ability", None, abilities), Axis("variant", "model", variants), _DETECTS
        ),
        dots_height(len(abilities), len(variants)),
        NARROW,
        crossed([about[name] for name in abilities], variants, texts, "from 0 to 1"),
    )


def _variants(measurements: pl.DataFrame) -> dict[str, str]:
    """The variants compared, with their labels; the mask of refusing has its behaviour's name."""
    refusing = set(measurements.filter(role="refusal")["behaviour"])
    known = sorted(refusing & set(measurements["variant"]))
    return {
        "intact": "intact",
        "shared": "harm-pruned",
        **{name: "refusal-pruned" if len(known) == 1 else f"{name}-pruned" for name in known},
        "random": "random control",
    }


def _cells(measurements: pl.DataFrame, named: dict[str, str]) -> pl.DataFrame:
    rows = []
    for ability in _ABILITIES:
        for variant, label in named.items():
            place = (ability.behaviour, ability.metric, ability.attack)
            found = find(measurements, variant, *place)
            if found is not None:
                one = _likelihood(found) if ability.likelihood else found
                bounds = (value if math.isfinite(value) else None for value in one[:3])
                text = written(one, "score")
                rows.append((ability.name, label, *bounds, ability.is_, text, one.n))
    numbers = dict.fromkeys(("value", "low", "high"), pl.Float64)
    columns = {"ability": pl.String, "variant": pl.String, **numbers}
    return pl.DataFrame(
        rows,
        schema={**columns, "unit": pl.String, "written": pl.String, "n": pl.Int64},
        orient="row",
    )


def _likelihood(nll: Estimate) -> Estimate:
    """`exp(−NLL)`, the geometric mean of what the model gives each token; high NLL is low."""
    return Estimate(math.exp(-nll.value), math.exp(-nll.high), math.exp(-nll.low), nll.n)


def _absent(data: pl.DataFrame) -> str:
    """What would complete the figure, as the end of a sentence; empty if nothing is missing."""
    asked = data.filter(pl.col("ability").is_in([_DETECTS, _EXPLAINS]))
    if asked.is_empty():
        return " Detecting and explaining were not measured: `understanding.twins` asks for them."
    lacking = sorted(set(data["variant"]) - set(asked["variant"]))
    if not lacking:
        return ""
    return (
        f" Detecting and explaining were not measured for {', '.join(lacking)}: "
        "`understanding.variants` says for whom they are."
    )
