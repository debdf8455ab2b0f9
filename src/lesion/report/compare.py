"""Two studies, or two models, side by side: is B safer than A at the circuit?

Every difference is B − A. Its interval is computed from the intervals of the two sides as if they
were independent. Where both were given the same prompts, the sides are positively correlated and
the true interval is narrower, so the page errs towards "can't tell".
"""

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from lesion.io.addresses import expanded
from lesion.io.formats import BadFile, LesionError
from lesion.report.figures.captions import Caption
from lesion.report.figures.curves import tradeoff
from lesion.report.figures.figure import Figure
from lesion.report.headline import headline
from lesion.report.html import write_page
from lesion.report.page import DIGITS, PageRow, cell
from lesion.report.verdicts import Finding, by_topic, findings_of, tally
from lesion.report.visible import visible
from lesion.tables.claims.claim import Conclusion
from lesion.tables.claims.registry import REGISTRY
from lesion.tables.effects import COMPACT, FEWEST, MARGIN, NATS
from lesion.tables.intervals import (
    Estimate,
    difference_of,
    is_still,
    minimum_detectable_effect,
    standard_error,
)
from lesion.tables.lookup import estimate_of, find, first_estimate, mask_size
from lesion.tables.metrics import Comparison, compared_columns
from lesion.tables.read import Headline, StudyTables, read_study_tables
from lesion.tables.wording import NOTHING, Unit, amount, figure, with_interval

NAMES = ("A", "B")

_DIGEST = 16
"""Hexadecimal digits shown of a digest; each study's own page has all of them."""
_LENGTH = 80
"""Characters of a setting that are shown."""
_FAMILIES = ("shared", "random")
"""Kinds of mask in the trade-off: more than four lines could not be distinguished."""
_NOT_MEASURING = ("study", "results", "models", "threads", "checkpoints", "report")
"""Sections of a config that do not change any number of a model."""


class Side(NamedTuple):
    """One model of one finished study."""

    inputs: StudyTables
    """The tables of this model alone."""
    model: str

    @property
    def about(self) -> Mapping[str, Any]:
        """What the study records about the model, such as its digest, p and q."""
        about: Mapping[str, Any] = self.inputs.study["models"][self.model]
        return about

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
        raise LesionError(f"{folder}: {what}. Give one: {_each(folder, inputs.models)}.")
    return Side(inputs.of(model), model)


def _each(folder: Path, models: list[str]) -> str:
    return " or ".join(f"{folder}:{model}" for model in models)


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
    levels = [one.inputs.confidence for one in (a, b)]
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
        answers={name: findings_of(*one) for name, one in sides.items()},
        rows=rows(a, b),
        figure=curves(a, b),
        differing=differing(a.inputs.study["config"], b.inputs.study["config"]),
    )


def _facts(a: Side, b: Side) -> pl.DataFrame:
    makers: dict[str, Callable[[Side], str]] = {
        "Study": lambda one: str(one.inputs.study["study"]),
        "Model": lambda one: one.model,
        "Digest": lambda one: visible(str(one.about.get("digest", NOTHING)), _DIGEST),
        "Candidate weights": lambda one: amount(one.about.get("candidates"), "count"),
        "Mask": lambda one: (
            f"{one.inputs.headline.mask}, "
            f"{mask_size(one.inputs.where, one.inputs.headline.mask)[0]:,} weights"
        ),
        "Chosen p, q": lambda one: ", ".join(str(one.about.get(key, NOTHING)) for key in "pq"),
        "lesion": lambda one: str(one.inputs.study.get("version", "unknown")),
    }
    return _table("what", [(name, make(a), make(b)) for name, make in makers.items()])


def _table(first: str, rows: list[tuple[str, str, str]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=dict.fromkeys((first, *NAMES), pl.String), orient="row")


class _Question(NamedTuple):
    """A comparison of a claim or of a metric, with its numbers in A and in B."""

    topic: str
    asked: Comparison
    unit: Unit
    numbers: tuple[Estimate | None, Estimate | None]


_AS_IT_IS, _AT_THE_CIRCUIT = "As it is", "At the circuit"


def compared_findings(a: Side, b: Side) -> list[Finding]:
    """Whether B is safer than A: an answer to each question, from the interval of a difference."""
    questions = [*_of_claims(a, b), *_of_metrics(a, b)]
    questions.sort(key=lambda one: one.topic != _AS_IT_IS)
    return [_answered(one, a, b) for one in questions]


def _of_claims(a: Side, b: Side) -> Iterator[_Question]:
    for claim in REGISTRY:
        if claim.compared:
            first, second = (
                first_estimate(
                    side.inputs.claims.filter(
                        claim=claim.number,
                        statistic=claim.statistic,
                        variant=claim.variant_of(side.inputs.headline.mask),
                    )
                )
                for side in (a, b)
            )
            yield _Question(_AT_THE_CIRCUIT, claim.compared, claim.unit, (first, second))


def _of_metrics(a: Side, b: Side) -> Iterator[_Question]:
    for metric, one in compared_columns():
        name, unit = metric.name, metric.unit
        if one.change:
            name, unit = f"{name}_change", _difference_unit(unit)
        first, second = (
            find(
                side.inputs.measurements,
                side.inputs.headline.columns[one.column],
                *(name, one.role, one.attack),
            )
            for side in (a, b)
        )
        topic = _AS_IT_IS if one.column == "unmodified" else _AT_THE_CIRCUIT
        yield _Question(topic, one.asked, unit, (first, second))


def _answered(question: _Question, a: Side, b: Side) -> Finding:
    asked, (first, second) = question.asked, question.numbers
    if first is None or second is None:
        return Finding(asked.question, Conclusion.UNMEASURED, asked.needs, question.topic)
    unit: Unit = "ratio" if asked.ratio else _difference_unit(question.unit)
    # The smallest difference that counts, also as the distance of a ratio from one.
    smallest = NATS if unit == "nats" else MARGIN
    if asked.ratio:
        gap, what, after = ratio(first, second), "B is", " what A is"
        low, high = gap.low - 1, gap.high - 1
    else:
        gap, what = difference_of(second, first), "B − A is"
        after = " points" if unit == "points" else ""
        low, high = gap.low, gap.high
    answer = Conclusion.UNCLEAR
    if low > smallest:
        answer = Conclusion.YES if asked.higher else Conclusion.NO
    elif high < -smallest:
        answer = Conclusion.NO if asked.higher else Conclusion.YES
    sentence = (
        f"{asked.what}: {with_interval(first, question.unit)} in A, "
        f"{with_interval(second, question.unit)} in B; {what} {figure(gap, unit, after)}."
    )
    why = _why_none(question, (a, b), (first, second))
    if why:
        answer, sentence = Conclusion.UNCLEAR, f"{sentence} {why}"
    elif answer is Conclusion.UNCLEAR and not asked.ratio:
        error = standard_error(gap.low, gap.high, a.inputs.confidence)
        effect = amount(minimum_detectable_effect(error, a.inputs.confidence), unit)
        sentence += f" The minimum detectable effect is {effect}{after}, at 80% power."
    return Finding(asked.question, answer, sentence, question.topic, number=gap)


def _difference_unit(unit: Unit) -> Unit:
    return "points" if unit == "share" else unit


def _why_none(
    question: _Question, sides: tuple[Side, Side], numbers: tuple[Estimate, Estimate]
) -> str:
    """Why no answer can be given, wherever the difference lies; empty if one can."""
    scale = COMPACT if question.asked.ratio else 1.0
    for name, side, one in zip(NAMES, sides, numbers, strict=True):
        if question.topic == _AT_THE_CIRCUIT and side.notices:
            return (
                f"{name} lifted or missed its limit on benign loss, and this comparison assumes it."
            )
        if one.n is not None and one.n < FEWEST:
            return f"{name} has too few prompts for the interval to be reliable."
        if is_still(one.low, one.high, scale):
            return f"In {name} all prompts give the same value, so its variance is unknown."
    return ""


def ratio(a: Estimate, b: Estimate) -> Estimate:
    """`b / a`, with the interval of the log ratio; NaN where either interval reaches zero."""
    logs = [_log(one) for one in (a, b)]
    gap = difference_of(*reversed(logs))
    return Estimate(math.exp(gap.value), math.exp(gap.low), math.exp(gap.high), gap.n)


def _log(one: Estimate) -> Estimate:
    if not (one.value > 0 and one.low > 0):
        return Estimate(math.nan, n=one.n)
    return Estimate(math.log(one.value), math.log(one.low), math.log(one.high), one.n)


def rows(a: Side, b: Side) -> list[PageRow]:
    """The rows of the before/after table that both sides have, with their differences.

    Counts have no interval and are left out; the sizes of the masks are listed with the models.
    """
    first, second = (
        headline(
            one.inputs.measurements, one.inputs.where, Headline(one.inputs.headline.mask, None)
        ).iter_rows(named=True)
        for one in (a, b)
    )
    # A side of which nothing was measured has no rows at all.
    pairs = zip(first, second, strict=False)
    return [_row(*pair) for pair in pairs if None not in (pair[0]["low"], pair[1]["low"])]


def _row(first: dict[str, Any], second: dict[str, Any]) -> PageRow:
    sides, unit = [estimate_of(row) for row in (first, second)], _difference_unit(first["unit"])
    gap = difference_of(*reversed(sides))
    which = "higher" if gap.above_zero else "lower" if gap.below_zero else "can’t tell"
    nothing = amount(0.0, unit, DIGITS)
    shown_as_nothing = {amount(bound, unit, DIGITS) for bound in (gap.low, gap.high)} == {nothing}
    if any(is_still(one.low, one.high) for one in sides) or shown_as_nothing:
        which = "can’t tell"
    label = f"{first['label']}, {first['column']}"
    cells = [cell(one, first["unit"]) for one in sides]
    return PageRow(label, first["note"], [*cells, cell(gap, unit, which)])


_CURVES = Caption(
    means=(
        "Each line follows a mask of A or of B from few weights to many: the shared mask, and as "
        "many weights chosen at random. The horizontal axis is the NLL added to benign responses, "
        "the vertical axis the NLL added to harmful ones. At the dashed line a token of a harmful "
        "response is half as likely as before (ln 2 nats). On the thin diagonal both lose alike."
    ),
    against=(
        "The weights are more specific to harm in the model whose line lies higher and further to "
        "the left. Lines within each other’s intervals (hover to see them) do not differ "
        "detectably. Each side is measured on its own model’s responses, so the shapes can be "
        "compared, but not how harmful the responses are."
    ),
)


def curves(a: Side, b: Side) -> Figure | None:
    """The trade-off of both sides in one chart; None if either side has no curve."""
    both = [one.inputs.curve.filter(pl.col("family").is_in(_FAMILIES)) for one in (a, b)]
    if any(one.is_empty() for one in both):
        return None
    named = [
        table.with_columns(family=pl.lit(f"{name}, ") + pl.col("family"))
        for name, table in zip(NAMES, both, strict=True)
    ]
    made = tradeoff(pl.concat(named))
    if made is None:
        return None
    return made._replace(
        title="In which model are the weights more specific to harm?",
        summary="Lines of added harm NLL against added benign NLL for the masks of A and of B as "
        "they grow.",
        caption=_CURVES,
    )


def differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> pl.DataFrame:
    """Keys that affect the measurements and differ between two configs, with both values."""
    first, second = dict(_flat(a)), dict(_flat(b))
    found = [
        (key, first.get(key, NOTHING), second.get(key, NOTHING))
        for key in sorted({**first, **second})
        if first.get(key) != second.get(key) and key.split(".")[0] not in _NOT_MEASURING
    ]
    return _table("key", found)


def _flat(section: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for key, value in section.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", visible(str(value), _LENGTH)
