"""The opening of the page: one sentence a claim, the study's power and the judge's limits. Pure."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import polars as pl

from lesion.report.judges import trust
from lesion.report.verdicts import answer_of, detectable
from lesion.tables.claims.claim import Claim
from lesion.tables.claims.outcome import CANNOT_TELL, NOT_SUPPORTED, SUPPORTED
from lesion.tables.claims.registry import PAPER, claim_of, outcome_together
from lesion.tables.lookup import estimate_of
from lesion.tables.metrics import shown_rows
from lesion.tables.read import StudyTables
from lesion.tables.wording import interval, unit_word, with_interval, with_unit

LOOKS = {NOT_SUPPORTED: "no", CANNOT_TELL: "unclear", SUPPORTED: "yes"}
"""The style of each outcome; those come first that a reader may not want to hear."""

_CODE = re.compile(r" \([^()]*`[^()]*\)")
"""What only the author of a study needs to know: the keys of its config that a warning is about."""


class ClaimSentence(NamedTuple):
    """What became of a claim of the paper, in plain words."""

    number: int
    outcome: str
    reason: str

    @property
    def says(self) -> str:
        """What the claim says, as a sentence."""
        return _sentence(PAPER[self.number])

    @property
    def look(self) -> str:
        """The name of the outcome's style."""
        return LOOKS[self.outcome]


class Opening(NamedTuple):
    """What a page says first of a model, or of the stages of a family of models."""

    name: str
    section: str
    """The id of the section with its numbers."""
    warnings: dict[int, str]
    """The warnings about it that the page has not given before, each with its number."""
    claims: list[ClaimSentence]
    unmeasured: dict[int, str]
    """The claims without a number, with what they say."""
    power: str
    """Empty for a family of models; so `judge`."""
    judge: str

    @property
    def tally(self) -> str:
        """How many claims have each outcome, in a sentence."""
        if not self.claims:
            return "No claim of the paper was measured."
        no, unclear, yes = (
            sum(claim.look == look for claim in self.claims) for look in LOOKS.values()
        )
        parts = [
            f"{yes or 'none'} {_are(yes)} supported",
            f"{no} {_are(no)} not supported" if no else "",
            f"for {unclear} the study can’t tell" if unclear else "",
        ]
        number = len(self.claims)
        return (
            f"Of the paper’s {len(PAPER)} claims, {number} {'was' if number == 1 else 'were'} "
            f"measured here: {', '.join(filter(None, parts))}."
        )


def opening_of(tables: StudyTables, model: str, section: str, given: Sequence[str]) -> Opening:
    """The opening of a model.

    Args:
        tables: of the whole study.
        model: its name.
        section: the id of its section of the page.
        given: warnings that the page states before, for all models.
    """
    own, warnings = tables.of(model), _numbered(tables, [model], given)
    measured = {*own.claims["claim"], *tables.claims.filter(scope="family")["claim"]}
    fails = bool(tables.judged_harm([model]))
    return Opening(
        model,
        section,
        {number: text for number, text in warnings.items() if number > len(given)},
        claim_sentences(own, warnings),
        {number: _sentence(says) for number, says in PAPER.items() if number not in measured},
        power_sentence(own, compliance=fails),
        judge_sentence(own, fails=fails),
    )


def family_opening(tables: StudyTables, family: str, section: str, given: Sequence[str]) -> Opening:
    """The opening of the stages of a family of models; the arguments are as in `opening_of`."""
    warnings = _numbered(tables, tables.models_of(family), given)
    claims = claim_sentences(tables.of_family(family), warnings)
    unsaid = {number: text for number, text in warnings.items() if number > len(given)}
    return Opening(f"Stages of {family}", section, unsaid, claims, {}, "", "")


def notices_of_all(tables: StudyTables) -> list[str]:
    """The warnings that hold for every model of a study of several, to be stated once."""
    first, *others = [_warnings(tables, [model]) for model in tables.models]
    return [text for text in first if others and all(text in own for own in others)]


def claim_sentences(own: StudyTables, warnings: Mapping[int, str]) -> list[ClaimSentence]:
    """One sentence for each claim that was measured, those of supported claims last.

    Args:
        own: the tables of one model or family.
        warnings: those that stand above, by number; a reason that is one of them is not repeated.
    """
    rows = [(claim, row) for row in own.claims.rows(named=True) if (claim := claim_of(row))]
    sentences = []
    for number in sorted({claim.number for claim, _ in rows}):
        of_claim = [(claim, row) for claim, row in rows if claim.number == number]
        outcome, missing = outcome_together(number, [row for _, row in of_claim])
        alike = [known for known in of_claim if known[1]["verdict"] == outcome]
        if not alike:
            reason = f"This study did not measure all that it needs: {', '.join(missing)}."
        elif outcome == SUPPORTED and len(of_claim) > 1:
            reason = (
                f"Each of its {len(of_claim)} numbers lies wholly on the side that supports the "
                "claim."
            )
        else:
            reason = _reason(*alike[0], own.headline.mask, warnings)
        sentences.append(ClaimSentence(number, outcome, reason))
    return sorted(sentences, key=lambda sentence: [*LOOKS].index(sentence.outcome))


def power_sentence(own: StudyTables, *, compliance: bool) -> str:
    """The smallest changes that a study of this size detects.

    Args:
        own: one model's tables.
        compliance: whether judged harm may only be compliance, and is called that.
    """
    least = []
    for row in own.claims.rows(named=True):
        claim, effect = claim_of(row), detectable(row, own.measurements)
        if claim and effect is not None and (label := _label(claim, compliance=compliance)):
            least.append(f"“{label}” by {with_unit(effect, claim.unit)}")
    if not least:
        return "The tables do not say which changes this study could have seen."
    return (
        "The study detects changes of at least this size with a probability of 80% (minimum "
        f"detectable effect): {'; '.join(least)}. It may have missed smaller ones."
    )


def judge_sentence(own: StudyTables, *, fails: bool) -> str:
    """What the judge of harm sees in this study, and what it cannot see.

    Args:
        own: one model's tables.
        fails: whether judged harm may only be compliance.
    """
    config = own.study["config"]
    judge = (config.get("judgements") or {}).get("primary", "learned")
    tokens = (config.get("responses") or {}).get("max_new_tokens")
    failed = own.judge_controls.filter(pl.col("passed").not_(), judge=judge)
    if not fails:
        sees = "In this study’s own tests it told harmful answers from harmless ones."
    elif failed.is_empty():
        sees = (
            "It was not tested enough here whether it tells harmful answers from harmless ones, so "
            "no claim uses its scores."
        )
    else:
        sees = (
            "In this study’s own tests it saw whether a request was answered, but not whether the "
            "answer was harmful, so no claim uses its scores."
        )
    return (
        f"The judge is a program that reads each answer and scores it from 0 to 1. {sees} It "
        f"cannot see whether instructions would work. {trust(own.judges, judge, tokens)}"
    )


def _warnings(tables: StudyTables, models: Sequence[str]) -> list[str]:
    return [_CODE.sub("", notice) for notice in tables.notices(models)]


def _numbered(tables: StudyTables, models: Sequence[str], given: Sequence[str]) -> dict[int, str]:
    """All warnings about models by their numbers, of which the first are those given before."""
    return dict(enumerate(dict.fromkeys([*given, *_warnings(tables, models)]), 1))


def _reason(claim: Claim, row: Mapping[str, Any], mask: str, warnings: Mapping[int, str]) -> str:
    """The one reason for an outcome, as a sentence."""
    estimate = estimate_of(row)
    number = f"{with_interval(estimate, claim.unit)}{unit_word(claim.unit)}"
    if row["verdict"] == SUPPORTED:
        side = "above" if claim.above else "below"
        limit = with_unit(row["threshold"], claim.unit)
        return f"Its number, {number}, lies wholly {side} {limit}, on the side that supports it."
    if row["verdict"] == NOT_SUPPORTED:
        answer = answer_of(claim, row)
        return f"{claim.question_about(row['variant'], mask)} {answer.capitalize()}: {number}."
    if row["why"]:
        first = _CODE.sub("", re.split(r"(?<=\.)\s+(?=[A-Z])", row["why"])[0])
        above = (number for number, text in warnings.items() if first in text)
        return next((f"Warning {number} gives the reason." for number in above), first)
    if math.isnan(estimate.low) or math.isnan(estimate.high):
        return "Its number is too uncertain: the interval is unbounded on one side."
    return (
        f"Its number is too uncertain: the interval {interval(estimate, claim.unit)} includes "
        f"{with_unit(row['threshold'], claim.unit)}, the smallest effect that counts."
    )


def _label(claim: Claim, *, compliance: bool) -> str:
    """The name in the before/after table of what a statistic is the change of, if it has one."""
    metric = re.sub("_(change|added)$", "", claim.statistic)
    key = (metric, claim.role, claim.attack)
    labels = (
        row.named(compliance)[0]
        for measured, row in shown_rows()
        if (measured.name, row.role, row.attack) == key
    )
    return next(labels, "")


def _are(count: int) -> str:
    return "is" if count < 2 else "are"


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
