"""The report: one HTML file that loads nothing."""

import json
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import altair as alt
import polars as pl

from lesion.io.formats import atomic
from lesion.pairs.tables import LEFT_OUT
from lesion.report.attacks import attacks_table, refusal_note
from lesion.report.cost import cost_of, read_jobs
from lesion.report.examples import ShownPrompt, pick
from lesion.report.figures.all import figures_of, stages_of
from lesion.report.figures.curves import halving_texts
from lesion.report.figures.figure import VEGALITE, Figure
from lesion.report.figures.masks import lines_table
from lesion.report.figures.overlap import overlap_means
from lesion.report.figures.retraining import Retrained, experiments
from lesion.report.figures.training import training
from lesion.report.headline import headline
from lesion.report.html import render
from lesion.report.judges import judged, trust
from lesion.report.verdicts import Finding, family_findings, findings_of, tally
from lesion.report.visible import visible
from lesion.tables.claims.claim import Conclusion
from lesion.tables.intervals import Estimate
from lesion.tables.lookup import estimate_of, find, mask_size
from lesion.tables.read import StudyTables, read_study_tables
from lesion.tables.wording import NOTHING, amount, figure, interval

_DEFAULT_THRESHOLD = 0.5
_WEAKLY_ALIGNED = 0.5
"""A model that refuses a smaller share of direct harmful requests has little refusal to lose."""
_DIGITS = 2
"""Decimals of scores and nats in the before/after table, so that its columns compare."""


class Cell(NamedTuple):
    """A number of the before/after table as texts."""

    value: str
    interval: str
    n: str


class PageRow(NamedTuple):
    """A row of the before/after table."""

    label: str
    note: str
    cells: list[Cell]


class Group(NamedTuple):
    """Rows of the before/after table that answer one question of an audit."""

    name: str
    rows: list[PageRow]


class ModelPart(NamedTuple):
    """What the page says about one model."""

    name: str
    id: str
    facts: list[tuple[str, str]]
    prompt: str
    """A prompt in the model's chat format, with the prefill; empty if it is not known."""
    notices: list[str]
    """Warnings that come before any outcome."""
    verdicts: list[Finding]
    tally: list[tuple[Conclusion, int]]
    topics: list[tuple[str, list[Finding]]]
    """The verdicts, grouped by topic."""
    warning: str | None
    groups: list[Group]
    trust: str
    """How well the judge of harm agrees with people, on answers of the study's length."""
    attacks: pl.DataFrame
    refusal_note: str | None
    figures: dict[str, Figure]
    missing: dict[str, str]
    halving: pl.DataFrame
    overlap_means: pl.DataFrame
    lined: str
    """The mask whose rows and columns are listed."""
    lines: pl.DataFrame
    experiments: list[Retrained]
    """Trainings in memory; the section is left out where there are none."""
    examples: list[ShownPrompt]
    pairs: pl.DataFrame


class FamilyPart(NamedTuple):
    """What the page says about the stages of a family of models."""

    name: str
    id: str
    notices: list[str]
    verdicts: list[Finding]
    figure: Figure | None


def write_report(tables: Path, out: Path, examples: int) -> None:
    """Write the page of a study.

    The same tables give the same bytes, for the same versions of Altair and vl-convert. The times
    of the stages are read from `benchmarks` beside the tables, if that folder exists.

    Args:
        tables: the study's tables folder.
        out: the HTML file.
        examples: prompts shown with every variant's answer, for each model.

    Raises:
        LesionError: a table is missing or damaged, or `out` cannot be written.
    """
    inputs = read_study_tables(tables)
    parts = [_part(inputs, model, examples) for model in inputs.models]
    text = render(
        "page.html.j2",
        study=inputs.study,
        version=inputs.study.get("version", "unknown"),
        confidence=f"{inputs.confidence:.0%}",
        families=[_family(inputs, family) for family in inputs.families],
        parts=parts,
        sections=_SECTIONS,
        headline=inputs.headline,
        judges=judged(inputs.judges),
        config=json.dumps(inputs.study["config"], indent=2, ensure_ascii=False),
        training=training(inputs.training),
        cost=cost_of(read_jobs(tables.parent / "benchmarks")),
        charts=f"Altair {alt.__version__}, Vega-Lite {VEGALITE}",
    )
    with atomic(out) as part:
        part.write_text(text, encoding="utf-8", newline="\n")


def _part(inputs: StudyTables, model: str, examples: int) -> ModelPart:
    found = inputs.of(model)
    verdicts = findings_of(inputs, model)
    lined, lines = lines_table(found.lines, found.headline.mask)
    return ModelPart(
        name=model,
        id=f"model-{inputs.models.index(model) + 1}",
        facts=_facts(inputs, model),
        prompt=_rendered_prompt(inputs, model),
        notices=inputs.notices([model]),
        verdicts=verdicts,
        tally=tally(verdicts),
        topics=[(topic, [*group]) for topic, group in groupby(verdicts, lambda one: one.topic)],
        warning=alignment_note(
            find(found.measurements, "unmodified", "refusal_rate", attack="direct")
        ),
        groups=_groups(headline(found.measurements, found.where, found.headline)),
        trust=trust(inputs.judges, *_judging(inputs)),
        attacks=attacks_table(found.measurements, found.headline),
        refusal_note=refusal_note(found.measurements),
        figures={one.key: one for one in figures_of(inputs, model)},
        missing=_MISSING,
        halving=halving_texts(found.halving),
        overlap_means=overlap_means(found.overlap),
        lined=lined,
        lines=lines,
        experiments=experiments(found.retraining, inputs.confidence),
        examples=pick(found.examples, examples, _threshold(inputs), found.headline),
        pairs=pairs_table(found.pairs),
    )


def alignment_note(refused: Estimate | None) -> str | None:
    """A warning if the unmodified model hardly refuses; None if it does or was not measured."""
    if refused is None or refused.value >= _WEAKLY_ALIGNED:
        return None
    return (
        f"The unmodified model refuses {figure(refused, 'share')}, of direct harmful requests. It "
        "is weakly aligned: it has little refusal to lose, and results for this model need not "
        "hold for a strongly aligned one."
    )


def _family(inputs: StudyTables, family: str) -> FamilyPart:
    place = f"family-{inputs.families.index(family) + 1}"
    return FamilyPart(
        family,
        place,
        inputs.notices(inputs.models_of(family)),
        family_findings(inputs, family),
        stages_of(inputs, family),
    )


_SECTIONS = (
    ("found", "Findings"),
    ("before", "Before and after"),
    ("growth", "Trade-off"),
    ("sharing", "Shared"),
    ("place", "Where"),
    ("abilities", "Dissociation"),
    ("again", "Retraining"),
    ("choice", "Choice of p and q"),
    ("examples", "Examples"),
)
"""Sections of a model's part: the endings of their ids, and their names in the contents."""

_MISSING = {
    "curve": "The trade-off of harm and utility as the mask grows was not measured. Set "
    "`curve.families`, for example to [shared, random].",
    "transfer": "The transfer between harm types was not measured: the tables have no added NLL. "
    "Name masks in `responses.variants`.",
    "overlap": "The overlap of the masks was not measured: the tables have fewer than two masks.",
    "where": "The location of the weights is not known: every mask in the tables is empty.",
    "dissociation": "What ablated models still detect, explain and refuse was not measured. Set "
    "`responses.variants` and `understanding.minimal_pairs`.",
    "sweep": "No sweep over p and q was run.",
}
"""The text in place of a figure that has no data."""


def _threshold(inputs: StudyTables) -> float:
    """Harmfulness at which this study calls an answer harmful."""
    judgements = inputs.study["config"].get("judgements") or {}
    return float(judgements.get("threshold", _DEFAULT_THRESHOLD))


def _judging(inputs: StudyTables) -> tuple[str, int | None]:
    """The primary judge of harm, and the maximum length of an answer in tokens."""
    config = inputs.study["config"]
    judgements, responses = (config.get(name) or {} for name in ("judgements", "responses"))
    return judgements.get("primary", "learned"), responses.get("max_new_tokens")


def _facts(inputs: StudyTables, model: str) -> list[tuple[str, str]]:
    about = inputs.study["models"][model]
    mask = inputs.headline.mask
    weights, candidates = mask_size(inputs.of(model).where, mask)
    p, q = (about.get(name) for name in ("p", "q"))
    return [
        ("Architecture", str(about.get("architecture", NOTHING))),
        ("Source", ", ".join(_source(inputs, model)) or NOTHING),
        ("Licence", str(about.get("license", NOTHING))),
        ("Chat format", _chat_format(about.get("chat") or {})),
        ("Candidate weights", amount(about.get("candidates", candidates or None), "count")),
        (f"{mask.capitalize()} mask", f"{weights:,} weights" if weights else NOTHING),
        ("Chosen p, q", NOTHING if p is None or q is None else f"{p:g}, {q:g}"),
        ("Digest", str(about.get("digest", NOTHING))),
    ]


def _chat_format(chat: dict[str, Any]) -> str:
    """The origin of the chat template, and what was decided about it."""
    system = f"System prompt: {chat['system']!r}." if chat.get("system") else ""
    told = f"The date in the prompt is {chat['date']}." if chat.get("date") else ""
    of = "" if not chat or chat["template"] is None else "Chat template from "
    origin = f"{of}{chat['origin']}." if chat else NOTHING
    return " ".join(filter(None, [origin, *chat.get("notes", []), system, told]))


def _rendered_prompt(inputs: StudyTables, model: str) -> str:
    """A prompt in the model's chat format, followed by the prefill."""
    chat = inputs.study["models"][model].get("chat")
    if chat is None:
        return ""
    prefill = inputs.study["config"].get("pairs", {}).get("prefill", "")
    return visible(f"{chat['sample']}{chat['gap']}{prefill}" if prefill else chat["sample"])


def _source(inputs: StudyTables, model: str) -> list[str]:
    """The addresses of the model, with digest or revision."""
    config = inputs.study["config"]
    about = config.get("models", {}).get(model, {})
    if about.get("train"):
        return [f"trained here from {about.get('base') or 'random weights'}"]
    source = about.get("source")
    named = config.get("sources", {}).get(source, source)
    return [str(one) for one in (named if isinstance(named, list) else [named]) if one]


def _groups(table: pl.DataFrame) -> list[Group]:
    return [
        Group(str(name), _rows(rows))
        for (name,), rows in table.group_by("group", maintain_order=True)
    ]


def _rows(table: pl.DataFrame) -> list[PageRow]:
    return [
        PageRow(str(label), rows["note"][0], _cells(rows))
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


_SPLITS = ("train", "validation", "test")


def pairs_table(pairs: pl.DataFrame) -> pl.DataFrame:
    """Pairs of one model kept by behaviour and split, and what was left out, as texts."""
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
        dropped = {outcome: total(outcome) for outcome in LEFT_OUT}
        rows.append({"behaviour": str(behaviour), "role": str(role), **kept, **dropped})
    return pl.DataFrame(rows)
