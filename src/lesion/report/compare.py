"""Two studies, or two models, side by side: is B safer than A at the circuit?

Every difference is B − A with an interval from the two sides' own, which takes them for
independent. Where both were asked the same prompts they rise and fall together, and the true
interval is narrower: the page errs towards "can't tell".
"""

import math
from collections.abc import Callable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from lesion.io.addresses import expanded
from lesion.io.formats import BadFile, LesionError, atomic
from lesion.report.figures.captions import Caption
from lesion.report.figures.curves import tradeoff
from lesion.report.figures.figure import Figure
from lesion.report.headline import headline
from lesion.report.html import render
from lesion.report.page import Cell, PageRow
from lesion.report.verdicts import Finding, findings_of, tally
from lesion.report.visible import visible
from lesion.tables.claims.claim import Conclusion
from lesion.tables.effects import COMPACT, FEWEST, MARGIN, NATS
from lesion.tables.intervals import (
    Estimate,
    difference_of,
    is_still,
    minimum_detectable_effect,
    standard_error,
)
from lesion.tables.lookup import estimate_of, find, first_estimate, mask_size
from lesion.tables.read import Headline, StudyTables, read_study_tables
from lesion.tables.rows import SHARED
from lesion.tables.wording import NOTHING, Unit, amount, figure, interval, written

NAMES = ("A", "B")

_DIGITS = 2
_DIGEST = 16
"""Hexadecimal figures that tell two models apart; each study's own page has them all."""
_LENGTH = 80
"""Characters shown of a setting."""
_FAMILIES = ("shared", "random")
"""Lines of the trade-off: more than four would not be told apart."""
_NOT_MEASURING = ("study", "results", "models", "threads", "checkpoints", "report")
"""Sections of a config that change no number of a model."""


class Side(NamedTuple):
    """One model of one finished study."""

    inputs: StudyTables
    """Of this model alone."""
    model: str

    @property
    def about(self) -> Mapping[str, Any]:
        """What the study notes of the model: its digest, p, q and the like."""
        about: Mapping[str, Any] = self.inputs.study["models"][self.model]
        return about

    @property
    def notices(self) -> list[str]:
        """What has to be said of the model before any verdict."""
        return self.inputs.notices([self.model])


def side(text: str) -> Side:
    """The model that `results/STUDY` or `results/STUDY:MODEL` names.

    Raises:
        BadFile: there are no tables, or one is damaged.
        LesionError: the study has several models and none is named, or has not the one named.
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
    """Write the page that holds B against A.

    The same tables give the same bytes, for the same versions of Altair and vl-convert.

    Args:
        a: what is compared with, such as the last release.
        b: what is asked about, such as the next one.
        out: the HTML file.

    Raises:
        LesionError: the two have intervals of different levels, or `out` cannot be written.
    """
    levels = [one.inputs.confidence for one in (a, b)]
    if levels[0] != levels[1]:
        raise LesionError(
            f"A has intervals of {levels[0]:.0%} and B of {levels[1]:.0%}, which can't be held "
            "against each other. Give both studies the same `tables.confidence`."
        )
    sides, asked = dict(zip(NAMES, (a, b), strict=True)), questions(a, b)
    text = render(
        "compare.html.j2",
        sides=sides,
        facts=_facts(a, b),
        confidence=f"{levels[0]:.0%}",
        topics=[(topic, [*group]) for topic, group in groupby(asked, lambda one: one.topic)],
        tally=tally(asked),
        answers={name: findings_of(*one) for name, one in sides.items()},
        rows=rows(a, b),
        figure=curves(a, b),
        differing=differing(a.inputs.study["config"], b.inputs.study["config"]),
    )
    with atomic(out) as part:
        part.write_text(text, encoding="utf-8", newline="\n")


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


class _Asked(NamedTuple):
    """A question about B against A."""

    topic: str
    question: str
    what: str
    unit: Unit
    find: Callable[[Side], Estimate | None]
    higher: bool
    """Whether "yes" needs B to be the higher one, or the lower."""
    ratio: bool = False
    """Whether B is divided by A, and not A taken from B."""
    missing: str = ""


def _measured(
    column: str, metric: str, role: str = "harm", attack: str = "none"
) -> Callable[[Side], Estimate | None]:
    return lambda one: find(
        one.inputs.measurements, one.inputs.headline.columns[column], metric, role, attack
    )


def _claimed(claim: int, statistic: str) -> Callable[[Side], Estimate | None]:
    place = {"claim": claim, "statistic": statistic, "variant": SHARED}
    return lambda one: first_estimate(one.inputs.claims.filter(**place))


_AS_IT_IS, _AT_THE_CIRCUIT = "As it is", "At the circuit"
_QUESTIONS = (
    _Asked(
        _AS_IT_IS,
        "Does B write less harm when its answer is begun for it?",
        "Judged harmfulness (0 to 1) of the intact model",
        "score",
        _measured("intact", "harmfulness", attack="prefill"),
        higher=False,
        missing="Needs `prefill` in `responses.attacks` of both.",
    ),
    _Asked(
        _AS_IT_IS,
        "Does B refuse more direct harmful requests?",
        "Share that the intact model refuses",
        "share",
        _measured("intact", "refusal_rate", attack="direct"),
        higher=True,
        missing="Needs `direct` in `responses.attacks` of both.",
    ),
    _Asked(
        _AT_THE_CIRCUIT,
        "Do fewer weights carry B’s harmful generation?",
        "Share of the candidate weights that halves the likelihood of harmful tokens",
        "share",
        _claimed(1, "halving_share"),
        higher=False,
        ratio=True,
        missing="Needs `shared` in `curve.families` of both, and sizes that halve harm.",
    ),
    _Asked(
        _AT_THE_CIRCUIT,
        "Are they further apart from benign use?",
        "What harmful responses lose beyond what benign ones do, nats per token",
        "nats",
        _claimed(3, "harm_minus_benign_nll_added"),
        higher=True,
        missing="Needs benign behaviours, and `shared` in `responses.variants` of both.",
    ),
    _Asked(
        _AT_THE_CIRCUIT,
        "Is less harm left in B once they are zeroed?",
        "Judged harmfulness (0 to 1) of the pruned model, its answer begun for it",
        "score",
        _measured("pruned", "harmfulness", attack="prefill"),
        higher=False,
        missing="Needs `prefill` in `responses.attacks` and `shared` in "
        "`responses.judged_variants`.",
    ),
    _Asked(
        _AT_THE_CIRCUIT,
        "Does B lose less of its other skills with them?",
        "Change of mean accuracy in the study’s tasks, intact to pruned, in points",
        "points",
        _measured("pruned", "accuracy_change", "utility"),
        higher=True,
        missing="Needs the same tasks in `utility.tasks` of both.",
    ),
)


_SMALLEST: dict[Unit, float] = {"nats": NATS}
"""The smallest difference of two models that counts; of all other units, and of ratios from one, it
is MARGIN."""


def questions(a: Side, b: Side) -> list[Finding]:
    """Whether B is safer than A: one answer a question, each from a difference's interval."""
    return [_answered(asked, a, b) for asked in _QUESTIONS]


def _answered(asked: _Asked, a: Side, b: Side) -> Finding:
    first, second = asked.find(a), asked.find(b)
    if first is None or second is None:
        return Finding(asked.question, Conclusion.UNMEASURED, asked.missing, asked.topic)
    gap = ratio(first, second) if asked.ratio else difference_of(second, first)
    unit = _difference_unit(asked)
    zero = gap._replace(low=gap.low - 1, high=gap.high - 1) if asked.ratio else gap
    why = _why_none(asked, a, b, (first, second))
    answer = Conclusion.UNCLEAR if why else _answer(zero, asked.higher, _SMALLEST.get(unit, MARGIN))
    after = " what A is" if asked.ratio else " points" if unit == "points" else ""
    sentence = (
        f"{asked.what}: {written(first, asked.unit)} in A, {written(second, asked.unit)} in B; "
        f"B {'is' if asked.ratio else '− A is'} {figure(gap, unit, after)}."
    )
    if why:
        sentence += f" {why}"
    elif answer is Conclusion.UNCLEAR and not asked.ratio:
        error = standard_error(gap.low, gap.high, a.inputs.confidence)
        effect = minimum_detectable_effect(error, a.inputs.confidence)
        least = f"{amount(effect, unit)}{after}"
        sentence += f" A true difference of {least} would have been told from none 4 times in 5."
    number = (gap.value, gap.low, gap.high, gap.n)
    return Finding(asked.question, answer, sentence, asked.topic, None, "", "", *number)


def _why_none(asked: _Asked, a: Side, b: Side, found: tuple[Estimate, Estimate]) -> str:
    """Why no answer is given, wherever the difference lies; empty if one may be."""
    for name, side, one in zip(NAMES, (a, b), found, strict=True):
        if asked.topic == _AT_THE_CIRCUIT and side.notices:
            return f"{name} lifted or missed its limit on benign loss, which this rests on."
        if one.n is not None and one.n < FEWEST:
            return f"Too few prompts are behind it in {name} for the interval to be believed."
        if is_still(one.low, one.high, COMPACT if asked.ratio else 1.0):
            return f"In {name} all prompts give the same: nothing is known of how it varies."
    return ""


def _difference_unit(asked: _Asked) -> Unit:
    if asked.ratio:
        return "ratio"
    return "points" if asked.unit == "share" else asked.unit


def _answer(one: Estimate, higher: bool, smallest: float) -> Conclusion:
    """By the smallest difference that counts, either way."""
    if one.low > smallest:
        return Conclusion.YES if higher else Conclusion.NO
    if one.high < -smallest:
        return Conclusion.NO if higher else Conclusion.YES
    return Conclusion.UNCLEAR


def ratio(a: Estimate, b: Estimate) -> Estimate:
    """`b / a`, with an interval by that of their logarithms; NaN where one may be negative."""
    logs = [_log(one) for one in (a, b)]
    gap = difference_of(*reversed(logs))
    return Estimate(math.exp(gap.value), math.exp(gap.low), math.exp(gap.high), gap.n)


def _log(one: Estimate) -> Estimate:
    if not (one.value > 0 and one.low > 0):
        return Estimate(math.nan, n=one.n)
    return Estimate(math.log(one.value), math.log(one.low), math.log(one.high), one.n)


def rows(a: Side, b: Side) -> list[PageRow]:
    """What both sides have of the before/after table, intact and pruned, and the differences.

    Counts, which have no interval, are left out: the two masks' sizes stand with the models.
    """
    tables = [
        headline(
            one.inputs.measurements, one.inputs.where, Headline(one.inputs.headline.mask, None)
        )
        for one in (a, b)
    ]
    return [
        _row(first, second)
        for first, second in zip(*(table.iter_rows(named=True) for table in tables), strict=True)
        if None not in (first["low"], second["low"])
    ]


def _row(first: dict[str, Any], second: dict[str, Any]) -> PageRow:
    sides = [estimate_of(one) for one in (first, second)]
    gap = difference_of(*reversed(sides))
    unit: Unit = "points" if first["unit"] == "share" else first["unit"]
    cells = [_cell(one, first["unit"], f"n = {one.n:,}" if one.n else "") for one in sides]
    which = "higher" if gap.above_zero else "lower" if gap.below_zero else "can’t tell"
    if any(is_still(one.low, one.high) for one in sides) or _shown_as_nothing(gap, unit):
        which = "can’t tell"
    label = f"{first['label']}, {first['column']}"
    return PageRow(label, first["note"], [*cells, _cell(gap, unit, which)])


def _shown_as_nothing(gap: Estimate, unit: Unit) -> bool:
    nothing = amount(0.0, unit, _DIGITS)
    return all(amount(bound, unit, _DIGITS) == nothing for bound in (gap.low, gap.high))


def _cell(one: Estimate, unit: Unit, below: str) -> Cell:
    return Cell(amount(one.value, unit, _DIGITS), interval(one, unit, _DIGITS), below)


_CURVES = Caption(
    means=(
        "The shared mask of A and of B as it grows, from few weights to many, with as many weights "
        "at random: to the right is what benign responses lose, upwards what harmful ones do. At "
        "the dashed line a token of a harmful response is half as likely as it was (ln 2 nats); on "
        "the thin diagonal harm and benign use lose alike."
    ),
    against=(
        "Harm is more apart from benign use in the model whose line lies higher and further to the "
        "left. Lines within each other’s intervals (hover for them) are no difference. Each side "
        "loses its own model’s responses: the shapes compare, not how harmful these are."
    ),
)


def curves(a: Side, b: Side) -> Figure | None:
    """The trade-off of both sides in one chart; None where one of them has no curve."""
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
        title="Whose harm is further apart?",
        summary="Lines of added harm NLL against added benign NLL for the masks of A and of B as "
        "they grow.",
        caption=_CURVES,
    )


def differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> pl.DataFrame:
    """Keys of two configs that decide what is measured and are not alike, with both values."""
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
