"""Two studies, or two models, side by side: is B safer than A once the mask's weights are zeroed?

Every difference is B − A. Its interval is computed from the intervals of the two sides as if they
were independent. Where both were given the same prompts, the sides are positively correlated and
the true interval is narrower, so the page errs towards "can't tell".
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from lesion.io.addresses import expanded
from lesion.io.formats import BadFile, LesionError
from lesion.report.figures import captions
from lesion.report.figures.curves import tradeoff
from lesion.report.figures.figure import Figure
from lesion.report.headline import headline
from lesion.report.html import write_page
from lesion.report.page import DIGITS, PageRow, cell
from lesion.report.verdicts import Finding, by_topic, findings_of, tally
from lesion.report.visible import visible
from lesion.tables.claims.claim import Conclusion, Facts, Setting, silent
from lesion.tables.claims.outcome import Number
from lesion.tables.claims.registry import REGISTRY
from lesion.tables.effects import COMPACT, FEWEST, MARGIN, NATS
from lesion.tables.intervals import (
    Estimate,
    difference_of,
    is_still,
    minimum_detectable_effect,
    standard_error,
)
from lesion.tables.lookup import estimate_of, mask_size
from lesion.tables.metrics import METRICS, Comparison
from lesion.tables.read import Headline, StudyTables, read_study_tables
from lesion.tables.rows import RANDOM
from lesion.tables.wording import NOTHING, Unit, amount, figure, with_interval

NAMES = ("A", "B")

_DIGEST = 16
"""Hexadecimal digits shown of a digest; each study's own page has all of them."""
_LENGTH = 80
"""Characters of a setting that are shown."""
_NOT_MEASURING = ("study", "results", "models", "threads", "checkpoints", "report")
"""Sections of a config that do not change any number of a model."""


class Side(NamedTuple):
    """One model of one finished study."""

    inputs: StudyTables
    """The tables of this model alone."""
    model: str

    @property
    def notices(self) -> list[str]:
        """Warnings about the model, to be read before any outcome."""
        return self.inputs.notices([self.model])


def side(text: str) -> Side:
    """The model that `results/STUDY` or `results/STUDY:MODEL` names.

    Raises:
        BadFile: there are no tables, or one is damaged.
        LesionError: the study has several models and none is named, or the named model is missing.
    """
    text = text if Path(text).exists() else expanded(text)
    folder, model = Path(text), ""
    if not folder.is_dir() and ":" in text:
        before, _, model = text.rpartition(":")
        folder = Path(before)
    if not (folder / "tables").is_dir():
        raise BadFile(f"{folder}: holds no tables. Give a finished study, such as results/default.")
    inputs = read_study_tables(folder / "tables")
    if not model and len(inputs.models) == 1:
        model = inputs.models[0]
    if model not in inputs.models:
        what = f"has no model {model!r}" if model else "has several models"
        named = " or ".join(f"{folder}:{name}" for name in inputs.models)
        raise LesionError(f"{folder}: {what}. Give one: {named}.")
    return Side(inputs.of(model), model)


def write_comparison(a: Side, b: Side, out: Path) -> None:
    """Write the page that compares B with A.

    The same tables give the same bytes, for the same versions of Altair and vl-convert.

    Args:
        a: the reference, such as the last release.
        b: the candidate, such as the next release.
        out: the HTML file.

    Raises:
        LesionError: the two studies have different confidence levels, or `out` cannot be written.
    """
    levels = [inputs.confidence for inputs, _ in (a, b)]
    if levels[0] != levels[1]:
        raise LesionError(
            f"A has {levels[0]:.0%} intervals and B has {levels[1]:.0%} intervals, which cannot be "
            "compared. Give both studies the same `tables.confidence`."
        )
    sides, answers = dict(zip(NAMES, (a, b), strict=True)), compared_findings(a, b)
    write_page(
        out,
        "compare.html.j2",
        sides=sides,
        facts=_facts(a, b),
        confidence=f"{levels[0]:.0%}",
        topics=by_topic(answers),
        tally=tally(answers),
        answers={name: findings_of(*sides[name]) for name in NAMES},
        rows=rows(a, b),
        figure=curves(a, b),
        differing=differing(a.inputs.study["config"], b.inputs.study["config"]),
    )


def _facts(a: Side, b: Side) -> pl.DataFrame:
    sides = []
    for inputs, model in (a, b):
        about, mask = inputs.study["models"][model], inputs.headline.mask
        facts = {
            "Study": str(inputs.study["study"]),
            "Model": model,
            "Digest": visible(str(about.get("digest", NOTHING)), _DIGEST),
            "Candidate weights": amount(about.get("candidates"), "count"),
            "Mask": f"{mask}, {mask_size(inputs.where, mask)[0]:,} weights",
            "Chosen p, q": ", ".join(str(about.get(key, NOTHING)) for key in "pq"),
            "lesion": str(inputs.study.get("version", "unknown")),
        }
        sides.append(facts)
    return _table("what", [(name, *(facts[name] for facts in sides)) for name in sides[0]])


def _table(first: str, rows: Sequence[tuple[str, ...]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=dict.fromkeys((first, *NAMES), pl.String), orient="row")


_AS_IT_IS, _ABLATED = "As it is", "With the mask's weights zeroed"


def compared_findings(a: Side, b: Side) -> list[Finding]:
    """Whether B is safer than A: an answer to each question, from the interval of a difference."""
    return [
        _answered(topic, comparison, unit, (first, second), (a, b))
        for (topic, comparison, unit, first), (*_, second) in zip(
            _comparisons(a), _comparisons(b), strict=True
        )
    ]


class _Compared(NamedTuple):
    """A number of one study."""

    estimate: Estimate
    draws: float
    """The effective number of prompts (`lesion.tables.claims.outcome.Number`)."""


def _comparisons(side: Side) -> list[tuple[str, Comparison, Unit, _Compared | None]]:
    """Every comparison with its topic, and with its number in a study: claims, then metrics."""
    inputs, numbers = side.inputs, list[tuple[str, Comparison, Unit, _Compared | None]]()
    candidates = inputs.study["models"][side.model]["candidates"]
    setting = Setting(candidates, 0, mask=inputs.headline.mask)
    facts = Facts(setting, inputs.measurements, inputs.halving)
    for claim in REGISTRY:
        if claim.compared:
            known = (number for _, number in claim.numbers(claim, facts))
            number = next(known, None)
            numbers.append((_ABLATED, claim.compared, claim.unit, number and _compared(number)))
    for metric in METRICS:
        for comparison in metric.compared:
            name = f"{metric.name}_change" if comparison.change else metric.name
            unit = _difference_unit(metric.unit) if comparison.change else metric.unit
            variant = inputs.headline.columns[comparison.column]
            number = facts.find(variant, name, comparison.role, comparison.attack)
            known_number = None if number is None or math.isnan(number.value) else number
            topic = _AS_IT_IS if comparison.column == "unmodified" else _ABLATED
            own = known_number and _compared(known_number)
            numbers.append((topic, comparison, unit, own))
    return sorted(numbers, key=lambda row: row[0] != _AS_IT_IS)


def _compared(number: Number) -> _Compared:
    """The number with unknown in place of unbounded parts."""
    value, low, high = (part if math.isfinite(part) else math.nan for part in number[:3])
    return _Compared(Estimate(value, low, high, number.n), number.draws)


def _answered(
    topic: str,
    comparison: Comparison,
    own_unit: Unit,
    numbers: tuple[_Compared | None, _Compared | None],
    sides: tuple[Side, Side],
) -> Finding:
    a, b = numbers
    if a is None or b is None:
        return Finding(
            comparison.question, Conclusion.UNMEASURED, _needed(comparison, sides), topic
        )
    first, second = a.estimate, b.estimate
    unit: Unit = "ratio" if comparison.ratio else _difference_unit(own_unit)
    # The smallest difference that counts, also as the distance of a ratio from one.
    smallest = NATS if unit == "nats" else MARGIN
    if comparison.ratio:
        gap, what, after = ratio(first, second), "B is", " what A is"
        low, high = gap.low - 1, gap.high - 1
    else:
        gap, what = difference_of(second, first), "B − A is"
        after = " points" if unit == "points" else ""
        low, high = gap.low, gap.high
    answer = Conclusion.UNCLEAR
    if low > smallest:
        answer = Conclusion.YES if comparison.higher else Conclusion.NO
    elif high < -smallest:
        answer = Conclusion.NO if comparison.higher else Conclusion.YES
    sentence = (
        f"{comparison.what}: {with_interval(first, own_unit)} in A, "
        f"{with_interval(second, own_unit)} in B; {what} {figure(gap, unit, after)}."
    )
    why = _why_none(topic, comparison, (a, b), sides)
    if why:
        answer, sentence = Conclusion.UNCLEAR, f"{sentence} {why}"
    elif answer is Conclusion.UNCLEAR and not comparison.ratio:
        confidence = sides[0].inputs.confidence
        error = standard_error(gap.low, gap.high, confidence)
        effect = amount(minimum_detectable_effect(error, confidence), unit)
        sentence += f" The minimum detectable effect is {effect}{after}, at 80% power."
    return Finding(comparison.question, answer, sentence, topic, number=gap)


def _needed(comparison: Comparison, sides: tuple[Side, Side]) -> str:
    """What the two configs must request, with the name of each headline mask."""
    masks = dict.fromkeys(side.inputs.headline.mask for side in sides)
    return comparison.needs.format(headline="` and `".join(masks))


def _difference_unit(unit: Unit) -> Unit:
    return "points" if unit == "share" else unit


def _why_none(
    topic: str, comparison: Comparison, numbers: Sequence[_Compared], sides: Sequence[Side]
) -> str:
    """Why no answer can be given, wherever the difference lies; empty if one can."""
    for name, side, (number, draws) in zip(NAMES, sides, numbers, strict=True):
        about = side.inputs.study["models"][side.model]
        if topic == _ABLATED and not about.get("limit_kept", True):
            return (
                f"The limit on benign loss was lifted or missed in {name}, "
                "and this comparison assumes that it holds."
            )
        if topic == _ABLATED and comparison.of_harm and about.get("unspecific"):
            return f"In {name}: {about['unspecific']}"
        if comparison.judged and about.get("judged_harm"):
            return f"In {name}: {about['judged_harm']}"
        few = about.get("unscored", {}).get(comparison.attack) if comparison.judged else None
        if few:
            return f"In {name}: {silent(few)}"
        if draws < FEWEST:
            return f"{name} has too few prompts for the interval to be reliable."
        if is_still(number.low, number.high, COMPACT if comparison.ratio else 1.0):
            return f"In {name} all prompts give the same value, so its variance is unknown."
    return ""


def ratio(a: Estimate, b: Estimate) -> Estimate:
    """`b / a`, with the interval of the log ratio; NaN where either interval reaches zero."""
    logs = [_log(estimate) for estimate in (a, b)]
    gap = difference_of(*reversed(logs))
    return Estimate(math.exp(gap.value), math.exp(gap.low), math.exp(gap.high), gap.n)


def _log(estimate: Estimate) -> Estimate:
    if not (estimate.value > 0 and estimate.low > 0):
        return Estimate(math.nan, n=estimate.n)
    return Estimate(
        math.log(estimate.value), math.log(estimate.low), math.log(estimate.high), estimate.n
    )


def rows(a: Side, b: Side) -> list[PageRow]:
    """The rows of the before/after table that both sides have, with their differences.

    Counts have no interval and are left out; the sizes of the masks are listed with the models.
    """
    complied = any(inputs.judged_harm([model]) for inputs, model in (a, b))
    first, second = (
        headline(
            inputs.measurements,
            inputs.where,
            Headline(inputs.headline.mask, None),
            compliance=complied,
        ).rows_by_key(("key", "column"), named=True, include_key=True, unique=True)
        for inputs, _ in (a, b)
    )
    pairs = [(row, second[place]) for place, row in first.items() if place in second]
    return [_row(*pair) for pair in pairs if None not in (pair[0]["low"], pair[1]["low"])]


def _row(first: dict[str, Any], second: dict[str, Any]) -> PageRow:
    sides, unit = [estimate_of(row) for row in (first, second)], _difference_unit(first["unit"])
    gap = difference_of(*reversed(sides))
    which = "higher" if gap.above_zero else "lower" if gap.below_zero else "can’t tell"
    nothing = amount(0.0, unit, DIGITS)
    shown_as_nothing = {amount(bound, unit, DIGITS) for bound in (gap.low, gap.high)} == {nothing}
    if any(is_still(estimate.low, estimate.high) for estimate in sides) or shown_as_nothing:
        which = "can’t tell"
    label = f"{first['label']}, {first['column']}"
    cells = [cell(estimate, first["unit"]) for estimate in sides]
    return PageRow(label, first["note"], [*cells, cell(gap, unit, which)])


def curves(a: Side, b: Side) -> Figure | None:
    """The trade-off of both sides in one chart; None if either side has no curve.

    It has the headline mask and the random control of both, since more than four lines could not be
    distinguished.
    """
    both = [
        inputs.curve.filter(pl.col("family").is_in([inputs.headline.mask, RANDOM])).with_columns(
            family=pl.format(f"{name}, {{}}", "family")
        )
        for name, (inputs, _) in zip(NAMES, (a, b), strict=True)
    ]
    chart = None if any(table.is_empty() for table in both) else tradeoff(pl.concat(both))
    if chart is None:
        return None
    return chart._replace(
        title="In which model are the weights more specific to harm?",
        summary="Lines of added harm NLL against added benign NLL for the masks of A and of B as "
        "they grow.",
        caption=captions.filled(captions.COMPARED_CURVES),
    )


def differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> pl.DataFrame:
    """Keys that affect the measurements and differ between two configs, with both values."""
    first, second = dict(_flat(a)), dict(_flat(b))
    settings = [
        (key, first.get(key, NOTHING), second.get(key, NOTHING))
        for key in sorted({**first, **second})
        if first.get(key) != second.get(key) and key.split(".")[0] not in _NOT_MEASURING
    ]
    return _table("key", settings)


def _flat(section: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for key, value in section.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", visible(str(value), _LENGTH)
