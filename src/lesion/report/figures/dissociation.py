"""What one model can still do once the weights of harm, or those of refusal, are zeroed."""

import math

import altair as alt
import polars as pl

from lesion.report.figures import captions
from lesion.report.figures.charts import HUES, PLAIN, Axis, dots, legend_height
from lesion.report.figures.figure import Figure, crossed
from lesion.tables.intervals import Estimate
from lesion.tables.lookup import find, refusal_masks
from lesion.tables.metrics import SKILLS, abilities
from lesion.tables.read import Headline
from lesion.tables.rows import RANDOM, SHARED, UNMODIFIED
from lesion.tables.wording import with_interval

_DETECTS, _EXPLAINS = SKILLS[1:3]

_CELLS = {
    **dict.fromkeys(("ability", "variant"), pl.String),
    **dict.fromkeys(("value", "low", "high"), pl.Float64),
    **dict.fromkeys(("unit", "written"), pl.String),
    "n": pl.Int64,
}


def dissociation(measurements: pl.DataFrame, confidence: float, shown: Headline) -> Figure | None:
    """Writing, detecting, explaining and refusing harm; None if no ablated model was measured."""
    named = _variants(measurements, shown)
    data = _cells(measurements, named)
    if not data.height or set(data["variant"]) == {UNMODIFIED}:
        return None
    rows = Axis("ability", None, data["ability"].unique(maintain_order=True).to_list())
    known = set(data["variant"])
    models = Axis("variant", "model", [label for label in named.values() if label in known])
    about = data.with_columns(ability=pl.format("{} ({})", "ability", "unit"))
    x = {
        "title": ["from 0 to 1: score, AUROC,", "share or likelihood per token"],
        "scale": alt.Scale(domain=[0, 1]),
        "axis": alt.Axis(values=[0, 0.2, 0.4, 0.6, 0.8, 1], format="~g"),
    }
    return Figure(
        "dissociation",
        "What can the ablated model still do?",
        f"Dots for {len(rows.names)} abilities of {len(models.names)} models, with intervals: "
        "writing, detecting, explaining and refusing harm, each from 0 to 1.",
        captions.filled(captions.DISSOCIATION, confidence=confidence, absent=_absent(data)),
        dots(data, rows, models, x, {"unit": "is"}, (PLAIN, *HUES), chance=_DETECTS),
        96 + legend_height(models.names),
        crossed(
            about,
            Axis("ability", None, about["ability"].unique(maintain_order=True).to_list()),
            models,
            "from 0 to 1",
        ),
    )


def _variants(measurements: pl.DataFrame, shown: Headline) -> dict[str, str]:
    """The variants compared, with their labels; a refusal mask is named after its behaviour."""
    known = refusal_masks(measurements)
    own = "harm-ablated" if shown.mask == SHARED else f"{shown.mask}-ablated"
    return {
        UNMODIFIED: UNMODIFIED,
        **({} if shown.mask in known else {shown.mask: own}),
        **{name: "refusal-ablated" if len(known) == 1 else f"{name}-ablated" for name in known},
        RANDOM: "random control",
    }


def _cells(measurements: pl.DataFrame, named: dict[str, str]) -> pl.DataFrame:
    rows = []
    for metric, ability in abilities():
        for variant, label in named.items():
            estimate = find(measurements, variant, metric.name, ability.role, ability.attack)
            if estimate is None:
                continue
            if ability.likelihood:
                # The geometric mean of the token probabilities; the bounds swap places.
                value, low, high, n = estimate
                estimate = Estimate(math.exp(-value), math.exp(-high), math.exp(-low), n)
            bounds = (value if math.isfinite(value) else None for value in estimate[:3])
            text = with_interval(estimate, "score")
            rows.append((ability.name, label, *bounds, ability.means, text, estimate.n))
    return pl.DataFrame(rows, schema=_CELLS, orient="row")


def _absent(data: pl.DataFrame) -> str:
    """A sentence on what was not measured; empty if nothing is missing."""
    measured = data.filter(pl.col("ability").is_in([_DETECTS, _EXPLAINS]))
    if measured.is_empty():
        return (
            " Detecting and explaining were not measured; set `understanding.minimal_pairs` to "
            "measure them."
        )
    lacking = sorted(set(data["variant"]) - set(measured["variant"]))
    if not lacking:
        return ""
    return (
        f" Detecting and explaining were not measured for {', '.join(lacking)}: "
        "`understanding.variants` names the variants that are measured."
    )
