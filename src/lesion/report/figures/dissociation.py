"""What a model can still do once the weights of harm, or those of refusal, are zeroed."""

import math

import polars as pl

from lesion.report.figures import captions
from lesion.report.figures.charts import Axis
from lesion.report.figures.figure import NARROW, Figure, crossed
from lesion.report.figures.plots import dissociation_chart, dots_height
from lesion.tables.intervals import Estimate
from lesion.tables.lookup import find
from lesion.tables.metrics import SKILLS, abilities
from lesion.tables.read import Headline
from lesion.tables.rows import BEHAVIOUR, RANDOM, SHARED
from lesion.tables.wording import with_interval

_DETECTS, _EXPLAINS = SKILLS[1:3]


def dissociation(measurements: pl.DataFrame, confidence: float, shown: Headline) -> Figure | None:
    """Writing, detecting, explaining and refusing harm; None if no pruned model was measured.

    Args:
        measurements: of one model.
        confidence: level of the intervals.
        shown: the masks of the page's columns.
    """
    named = _variants(measurements, shown)
    data = _cells(measurements, named)
    if not data.height or set(data["variant"]) == {"unmodified"}:
        return None
    means = {ability.name: ability.means for _, ability in abilities()}
    names = [name for name in means if name in set(data["ability"])]
    variants = [label for label in named.values() if label in set(data["variant"])]
    about = {name: f"{name} ({meaning})" for name, meaning in means.items()}
    texts = {
        (about[row["ability"]], row["variant"]): row["written"] for row in data.rows(named=True)
    }
    return Figure(
        "dissociation",
        "What can the ablated model still do?",
        f"Points for {len(names)} abilities of {len(variants)} models, with intervals: "
        "writing, detecting, explaining and refusing harm, each from 0 to 1.",
        captions.DISSOCIATION.filled(confidence=confidence, absent=_absent(data)),
        dissociation_chart(
            data, Axis("ability", None, names), Axis("variant", "model", variants), _DETECTS
        ),
        dots_height(len(names), len(variants)),
        NARROW,
        crossed([about[name] for name in names], variants, texts, "from 0 to 1"),
    )


def _variants(measurements: pl.DataFrame, shown: Headline) -> dict[str, str]:
    """The variants compared, with their labels; a refusal mask is named after its behaviour."""
    refusing = set(measurements.filter(level=BEHAVIOUR, role="refusal")["behaviour"])
    known = sorted(refusing & set(measurements["variant"]))
    own = "harm-pruned" if shown.mask == SHARED else f"{shown.mask}-pruned"
    return {
        "unmodified": "unmodified",
        **({} if shown.mask in known else {shown.mask: own}),
        **{name: "refusal-pruned" if len(known) == 1 else f"{name}-pruned" for name in known},
        RANDOM: "random control",
    }


def _cells(measurements: pl.DataFrame, named: dict[str, str]) -> pl.DataFrame:
    rows = []
    for metric, ability in abilities():
        for variant, label in named.items():
            place = (metric.name, ability.role, ability.attack)
            found = find(measurements, variant, *place)
            if found is not None:
                one = _likelihood(found) if ability.likelihood else found
                bounds = (value if math.isfinite(value) else None for value in one[:3])
                text = with_interval(one, "score")
                rows.append((ability.name, label, *bounds, ability.means, text, one.n))
    numbers = dict.fromkeys(("value", "low", "high"), pl.Float64)
    columns = {"ability": pl.String, "variant": pl.String, **numbers}
    return pl.DataFrame(
        rows,
        schema={**columns, "unit": pl.String, "written": pl.String, "n": pl.Int64},
        orient="row",
    )


def _likelihood(nll: Estimate) -> Estimate:
    """`exp(−NLL)`, the geometric mean of the token probabilities; the bounds swap places."""
    return Estimate(math.exp(-nll.value), math.exp(-nll.high), math.exp(-nll.low), nll.n)


def _absent(data: pl.DataFrame) -> str:
    """A sentence on what was not measured; empty if nothing is missing."""
    asked = data.filter(pl.col("ability").is_in([_DETECTS, _EXPLAINS]))
    if asked.is_empty():
        return (
            " Detecting and explaining were not measured; set `understanding.minimal_pairs` to "
            "measure them."
        )
    lacking = sorted(set(data["variant"]) - set(asked["variant"]))
    if not lacking:
        return ""
    return (
        f" Detecting and explaining were not measured for {', '.join(lacking)}: "
        "`understanding.variants` names the variants that are measured."
    )
