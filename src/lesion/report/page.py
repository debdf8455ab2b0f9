"""The report: one HTML file that loads nothing.

Vega is inlined once. A content security policy lets only the page's own script run, by its
hash, and lets nothing be fetched: model output is untrusted text, and escaping it is the first
lock, not the only one.
"""

import base64
import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import altair as alt
import polars as pl
import vl_convert
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from lesion.formats import atomic
from lesion.report.estimate import NOTHING, Estimate, amount, estimate_of, find, interval, written
from lesion.report.examples import Example, pick
from lesion.report.figures import (
    VEGALITE,
    Figure,
    figures_of,
    harm_and_benign,
    overlap_means,
)
from lesion.report.headline import VARIANTS, headline, mask_size
from lesion.report.inputs import Inputs, read_inputs
from lesion.report.words import (
    BeforeAfter,
    Transfer,
    Verdict,
    across_types,
    alignment_note,
    apart,
    compact,
    control,
    direction,
)

_HERE = Path(__file__).parent
_DEFAULT_THRESHOLD = 0.5
_DIGITS = 2
"""Decimals of scores and nats in the before/after table, so that its columns compare."""


class Cell(NamedTuple):
    """A number of the before/after table as texts."""

    value: str
    interval: str
    n: str


class Row(NamedTuple):
    """A row of the before/after table."""

    label: str
    note: str
    cells: list[Cell]


class Group(NamedTuple):
    """Rows of the before/after table that answer one question of an audit."""

    name: str
    rows: list[Row]


class ModelPart(NamedTuple):
    """What the page says of one model."""

    name: str
    id: str
    facts: list[tuple[str, str]]
    verdicts: list[Verdict]
    warning: str | None
    groups: list[Group]
    figures: list[Figure]
    missing: list[str]
    overlap_means: pl.DataFrame
    examples: list[Example]
    pairs: pl.DataFrame


def write_report(tables: Path, out: Path, examples: int) -> None:
    """Write the page of a study.

    The same tables give the same bytes, for the same versions of Altair and vl-convert.

    Args:
        tables: the study's tables folder.
        out: the HTML file.
        examples: prompts shown with every variant's answer, for each model.

    Raises:
        LesionError: a table is missing or damaged, or `out` cannot be written.
    """
    inputs = read_inputs(tables)
    parts = [_part(inputs, model, examples) for model in inputs.models]
    script = _script()
    text = _template().render(
        study=inputs.study,
        version=inputs.study.get("version", "unknown"),
        confidence=f"{inputs.confidence:.0%}",
        parts=parts,
        variants=VARIANTS,
        judges=judges_table(inputs.judges),
        config=json.dumps(inputs.study["config"], indent=2, ensure_ascii=False),
        charts=f"Altair {alt.__version__}, Vega-Lite {VEGALITE}",
        script=script,
        policy=_policy(script),
    )
    with atomic(out) as part:
        part.write_text(text, encoding="utf-8", newline="\n")


def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2")


@cache
def _script() -> str:
    """The page's script with Vega inside; it must stay inside its element, which has no escape.

    Raises:
        ValueError: it would end the element early; only another version of Vega could do that.
    """
    snippet = (_HERE / "page.js").read_text(encoding="utf-8")
    code = vl_convert.javascript_bundle(snippet, VEGALITE)
    if any(mark in code.lower() for mark in ("</script", "<script", "<!--")):
        raise ValueError("the report's script holds `</script`, `<script` or `<!--`")
    return code


def _policy(script: str) -> str:
    """The content security policy: this script by its hash, inline styles, nothing else."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _part(inputs: Inputs, model: str, examples: int) -> ModelPart:
    found = inputs.of(model)
    figures = figures_of(inputs, model)
    made = {figure.key for figure in figures}
    return ModelPart(
        name=model,
        id=f"model-{inputs.models.index(model) + 1}",
        facts=_facts(inputs, model),
        verdicts=verdicts(found.measurements, found.where),
        warning=alignment_note(
            find(found.measurements, "intact", "all-harm", "refusal_rate", "direct")
        ),
        groups=_groups(headline(found.measurements, found.where)),
        figures=figures,
        missing=[text for key, text in _MISSING.items() if key not in made],
        overlap_means=overlap_means(found.overlap),
        examples=pick(found.examples, examples, _threshold(inputs)),
        pairs=pairs_table(found.pairs),
    )


_MISSING = {
    "transfer": "The transfer between harm types was not measured: the tables have no added NLL.",
    "overlap": "The overlap of the masks was not measured: the tables have no two masks.",
    "where": "Where the weights lie is not known: every mask of the tables is empty.",
    "sweep": "No sweep over p and q was made.",
}


def _threshold(inputs: Inputs) -> float:
    """Harmfulness at which this study calls an answer harmful."""
    judgements = inputs.study["config"].get("judgements") or {}
    return float(judgements.get("threshold", _DEFAULT_THRESHOLD))


def _facts(inputs: Inputs, model: str) -> list[tuple[str, str]]:
    about = inputs.study["models"][model]
    weights, candidates = mask_size(inputs.of(model).where, "shared")
    p, q = (about.get(name) for name in ("p", "q"))
    return [
        ("Architecture", str(about.get("architecture", NOTHING))),
        ("Licence", str(about.get("license", NOTHING))),
        ("Candidate weights", amount(about.get("candidates", candidates or None), "count")),
        ("Shared mask", f"{weights:,} weights" if weights else NOTHING),
        ("Chosen p, q", NOTHING if p is None or q is None else f"{p:g}, {q:g}"),
        ("Digest", str(about.get("digest", NOTHING))),
    ]


def verdicts(measurements: pl.DataFrame, where: pl.DataFrame) -> list[Verdict]:
    """One verdict a question, of one model.

    Args:
        measurements: its measurements.
        where: its masks' weights by matrix.
    """

    def added(variant: str, behaviour: str) -> Estimate | None:
        return find(measurements, variant, behaviour, "nll_added")

    harm = added("shared", "all-harm")
    ratio = find(measurements, "shared", "all-harm", "nll_ratio")
    return [
        compact(*mask_size(where, "shared"), harm),
        across_types(_transfers(measurements)),
        apart(harm, added("shared", "all-benign"), ratio),
        control(harm, added("random", "all-harm")),
        direction(_before_after(measurements, "prefill"), _before_after(measurements, "direct")),
    ]


def _transfers(measurements: pl.DataFrame) -> list[Transfer]:
    types, _ = harm_and_benign(measurements)
    cells = [
        (mask, other, find(measurements, mask, other, "nll_added"))
        for mask in types
        for other in types
        if mask != other
    ]
    return [Transfer(mask, other, one) for mask, other, one in cells if one is not None]


def _before_after(measurements: pl.DataFrame, attack: str) -> BeforeAfter | None:
    before, after = (
        find(measurements, variant, "all-harm", "harmfulness", attack)
        for variant in ("intact", "shared")
    )
    return None if before is None or after is None else BeforeAfter(before, after)


def _groups(table: pl.DataFrame) -> list[Group]:
    return [
        Group(str(name), _rows(rows))
        for (name,), rows in table.group_by("group", maintain_order=True)
    ]


def _rows(table: pl.DataFrame) -> list[Row]:
    return [
        Row(str(label), rows["note"][0], _cells(rows))
        for (label,), rows in table.group_by("label", maintain_order=True)
    ]


def _cells(rows: pl.DataFrame) -> list[Cell]:
    return [
        Cell(
            amount(row["value"], row["unit"], _DIGITS),
            interval(one, row["unit"], _DIGITS),
            _count(row),
        )
        for row in rows.iter_rows(named=True)
        for one in [estimate_of(row)]
    ]


def _count(row: dict[str, Any]) -> str:
    return "" if row["n"] is None else f"n = {row['n']:,}"


_JUDGE_METRICS = {
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
    "repetition_mean": "mean score of an answer’s first words over and over",
    "relevance_auroc": "AUROC of relevance, own against other prompts",
}


def judges_table(judges: pl.DataFrame) -> pl.DataFrame:
    """Judges and metrics down, human targets across, over all categories, as texts."""
    targets = sorted(set(judges["target"].drop_nulls()), reverse=True)
    rows = []
    together = judges.filter(category="all")
    for (judge, metric), group in together.group_by("judge", "metric", maintain_order=True):
        by_target = {row["target"]: row for row in group.iter_rows(named=True)}
        cells = {name: _judged(by_target.get(name)) for name in targets}
        known = _JUDGE_METRICS.get(str(metric), str(metric))
        rows.append({"judge": str(judge), "metric": known, **cells})
    return pl.DataFrame(rows)


def _judged(row: dict[str, Any] | None) -> str:
    if row is None:
        return NOTHING
    count = "" if row["n"] is None else f", n = {row['n']:,}"
    return written(estimate_of(row), "score") + count


_SPLITS = ("train", "validation", "test")


def pairs_table(pairs: pl.DataFrame) -> pl.DataFrame:
    """Pairs kept by behaviour and split, and what was left out, of one model, as texts."""
    rows = []
    for (role, behaviour), group in pairs.sort("role", "behaviour").group_by(
        "role", "behaviour", maintain_order=True
    ):
        counted = {
            (row["split"], row["outcome"]): row["pairs"] for row in group.iter_rows(named=True)
        }

        def total(outcome: str, counted: dict[tuple[str, str], int] = counted) -> str:
            return str(sum(n for (_, one), n in counted.items() if one == outcome))

        kept = {split: str(counted.get((split, "kept"), 0)) for split in _SPLITS}
        dropped = {"refused": total("refused"), "empty": total("empty")}
        rows.append({"behaviour": str(behaviour), "role": str(role), **kept, **dropped})
    return pl.DataFrame(rows)
