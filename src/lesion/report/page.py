"""The report: one HTML file that loads nothing."""

import json
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import altair as alt
import polars as pl

from lesion.pairs.tables import LEFT_OUT
from lesion.report.attacks import attacks_table, refusal_note
from lesion.report.cost import cost_of, read_jobs
from lesion.report.equal_cost import equal_cost_texts
from lesion.report.examples import pick
from lesion.report.figures.all import figures_of, stages_of
from lesion.report.figures.curves import counted_answers, halving_texts
from lesion.report.figures.figure import VEGALITE
from lesion.report.figures.masks import lines_table
from lesion.report.figures.overlap import overlap_means
from lesion.report.figures.retraining import experiments
from lesion.report.figures.training import training
from lesion.report.headline import headline, unmeasured
from lesion.report.html import write_page
from lesion.report.judges import harm_controls, judged
from lesion.report.models_table import models_table
from lesion.report.opening import family_opening, notices_of_all, opening_of
from lesion.report.verdicts import by_topic, family_findings, findings_of, tally
from lesion.report.visible import visible
from lesion.tables.intervals import Estimate
from lesion.tables.lookup import estimate_of, find, mask_size
from lesion.tables.read import StudyTables, read_study_tables
from lesion.tables.rows import UNMODIFIED
from lesion.tables.wording import NOTHING, Unit, amount, figure, interval

_WEAKLY_ALIGNED = 0.5
"""A model that refuses a smaller share of direct harmful requests has little refusal to lose."""
DIGITS = 2
"""Decimals of scores and nats in the before/after table, so that its columns compare."""


class Cell(NamedTuple):
    """A number of the before/after table as texts, with its count or another text below it."""

    value: str
    interval: str
    below: str


class PageRow(NamedTuple):
    """A row of the before/after table."""

    label: str
    note: str
    cells: list[Cell]


def write_report(tables: Path, out: Path, examples: int) -> None:
    """Write the page of a study.

    The same tables give the same bytes, for the same versions of Altair and vl-convert. The times
    of the stages are read from `logs` beside the tables, if that folder exists.

    Args:
        tables: the study's tables folder.
        out: the HTML file.
        examples: prompts shown with every variant's answer, for each model.

    Raises:
        LesionError: a table is missing or damaged, or `out` cannot be written.
    """
    inputs = read_study_tables(tables)
    given = notices_of_all(inputs)
    families = {family: f"family-{number}" for number, family in enumerate(inputs.families, 1)}
    write_page(
        out,
        "page.html.j2",
        study=inputs.study,
        version=inputs.study.get("version", "unknown"),
        confidence=f"{inputs.confidence:.0%}",
        families=[
            {
                "name": family,
                "id": identity,
                "verdicts": family_findings(inputs, family),
                "figure": stages_of(inputs, family),
            }
            for family, identity in families.items()
        ],
        warnings=given,
        models=models_table(inputs),
        openings=[
            *(family_opening(inputs, name, section, given) for name, section in families.items()),
            *(opening_of(inputs, name, _id(inputs, name), given) for name in inputs.models),
        ],
        parts=[_part(inputs, model, examples) for model in inputs.models],
        headline=inputs.headline,
        judges=judged(inputs.judges),
        harm_controls=harm_controls(inputs.judge_controls),
        config=json.dumps(inputs.study["config"], indent=2, ensure_ascii=False),
        training=training(inputs.training),
        cost=cost_of(read_jobs(tables.parent / "logs")),
        charts=f"Altair {alt.__version__}, Vega-Lite {VEGALITE}",
    )


def _part(inputs: StudyTables, model: str, examples: int) -> dict[str, object]:
    """What the page says about one model."""
    own = inputs.of(model)
    verdicts, complied = findings_of(inputs, model), bool(inputs.judged_harm([model]))
    lined, lines = lines_table(own.lines, own.headline.mask)
    refused = find(own.measurements, UNMODIFIED, "refusal_rate", attack="direct")
    threshold = _setting(inputs, "judgements", "threshold")
    before_after = headline(own.measurements, own.where, own.headline, compliance=complied)
    harm_types = own.pairs.filter(role="harm")["behaviour"].unique().to_list()
    return {
        "name": model,
        "id": _id(inputs, model),
        "facts": _facts(inputs, model),
        "prompt": _rendered_prompt(inputs, model),
        "verdicts": verdicts,
        "tally": tally(verdicts),
        "topics": by_topic(verdicts),
        "warning": alignment_note(refused),
        "groups": _groups(before_after),
        "unmeasured": unmeasured(before_after, compliance=complied),
        "only_type": harm_types[0] if len(harm_types) == 1 else None,
        "attacks": attacks_table(own.measurements, own.headline, compliance=complied),
        "refusal_note": refusal_note(own.measurements),
        "figures": {figure.key: figure for figure in figures_of(inputs, model)},
        "counted": counted_answers(complied),
        "halving": halving_texts(own.halving, own.headline.mask),
        "equal_cost": equal_cost_texts(own.equal_cost),
        "overlap_means": overlap_means(own.overlap),
        "lined": lined,
        "lines": lines,
        "experiments": experiments(own.retraining, inputs.confidence, own.headline.mask),
        "examples": pick(own.examples, examples, threshold, own.headline),
        "pairs": pairs_table(own.pairs),
    }


def _id(inputs: StudyTables, model: str) -> str:
    """The id of a model's section."""
    return f"model-{inputs.models.index(model) + 1}"


def alignment_note(refused: Estimate | None) -> str | None:
    """A warning if the unmodified model hardly refuses; None if it does or was not measured."""
    if refused is None or refused.value >= _WEAKLY_ALIGNED:
        return None
    return (
        f"The unmodified model refuses {figure(refused, 'share')}, of direct harmful requests. It "
        "is weakly aligned: it has little refusal to lose, and results for this model need not "
        "hold for a strongly aligned one."
    )


def _setting(inputs: StudyTables, section: str, key: str, default: Any = None) -> Any:
    """A value of the study's config."""
    return (inputs.study["config"].get(section) or {}).get(key, default)


def _facts(inputs: StudyTables, model: str) -> list[tuple[str, str]]:
    about = inputs.study["models"][model]
    mask = inputs.headline.mask
    weights, candidates = mask_size(inputs.of(model).where, mask)
    p, q = (about.get(name) for name in ("p", "q"))
    return [
        ("Architecture", str(about.get("architecture", NOTHING))),
        ("Source", _source(inputs, model) or NOTHING),
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
    date = f"The date in the prompt is {chat['date']}." if chat.get("date") else ""
    of = "" if not chat or chat["template"] is None else "Chat template from "
    origin = f"{of}{chat['origin']}." if chat else NOTHING
    return " ".join(filter(None, [origin, *chat.get("notes", []), system, date]))


def _rendered_prompt(inputs: StudyTables, model: str) -> str:
    """A prompt in the model's chat format, followed by the prefill; empty if it is not known."""
    chat = inputs.study["models"][model].get("chat")
    if chat is None:
        return ""
    prefill = _setting(inputs, "pairs", "prefill")
    return visible(f"{chat['sample']}{chat['gap']}{prefill}" if prefill else chat["sample"])


def _source(inputs: StudyTables, model: str) -> str:
    """The addresses of the model, with digest or revision."""
    about = _setting(inputs, "models", model, {})
    if about.get("train"):
        return f"trained here from {about.get('base') or 'random weights'}"
    source = about.get("source")
    named = _setting(inputs, "sources", source, source)
    addresses = named if isinstance(named, list) else [named]
    return ", ".join(str(address) for address in addresses if address)


def _groups(table: pl.DataFrame) -> list[tuple[str, list[PageRow]]]:
    """The rows of the before/after table that answer one question of an audit together."""
    return [
        (
            group,
            [
                PageRow(label, note, [cell(estimate_of(row), row["unit"]) for row in rows])
                for (label, note), rows in groupby(of_group, itemgetter("label", "note"))
            ],
        )
        for group, of_group in groupby(table.iter_rows(named=True), itemgetter("group"))
    ]


def cell(estimate: Estimate, unit: Unit, below: str | None = None) -> Cell:
    """A number as texts, with its count below it unless another text is given."""
    count = "" if estimate.n is None else f"n = {estimate.n:,}"
    texts = (amount(estimate.value, unit, DIGITS), interval(estimate, unit, DIGITS))
    return Cell(*texts, count if below is None else below)


_SPLITS = ("train", "validation", "test")


def pairs_table(pairs: pl.DataFrame) -> pl.DataFrame:
    """Pairs of one model kept by behaviour and split, and what was left out, as texts."""
    number, outcome = pl.col("pairs"), pl.col("outcome")
    kept = (number.filter(outcome == "kept", split=split).sum().alias(split) for split in _SPLITS)
    dropped = (number.filter(outcome == why).sum().alias(why) for why in LEFT_OUT)
    counted = pairs.group_by("behaviour", "role").agg(*kept, *dropped)
    return counted.sort("role", "behaviour").cast(pl.String)
