"""The study's questions, each with its answer from the table of claims and a sentence. Pure.

Thresholds and reasons are read from that table, so that the page and the table agree.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple

import polars as pl

from lesion.tables.claims.claim import Claim, Conclusion
from lesion.tables.claims.outcome import CANNOT_TELL, NOT_SUPPORTED, SUPPORTED
from lesion.tables.claims.registry import REGISTRY, claim_of
from lesion.tables.intervals import Estimate
from lesion.tables.lookup import estimate_of, measurement
from lesion.tables.read import StudyTables
from lesion.tables.wording import with_unit


class Finding(NamedTuple):
    """A question, its answer, and the sentence with the number, its interval and n."""

    question: str
    answer: Conclusion
    sentence: str
    topic: str = ""
    claim: int | None = None
    """The claim's number in the list of the paper's claims."""
    statistic: str = ""
    variant: str | None = ""
    number: Estimate | None = None
    """None if it was not measured."""


def findings_of(tables: StudyTables, model: str) -> list[Finding]:
    """The findings of one model, one for each question, in the page's order.

    A question for which nothing was measured has a finding too, if its claim says what it needs.
    """
    own, mask = tables.of(model), tables.headline.mask
    findings = []
    for claim in REGISTRY:
        if claim.scope == "model":
            rows = [row for row in own.claims.rows(named=True) if claim.matches(row)]
            variant = claim.variant_of(mask)
            key = (claim.topic, claim.number, claim.statistic, variant)
            question, needs = claim.question_about(variant, mask), claim.needed(mask)
            unmeasured = Finding(question, Conclusion.UNMEASURED, needs, *key)
            findings += [_finding(claim, row, own) for row in rows] or [unmeasured]
    return [*findings, *_answered(own, "experiment")]


def family_findings(tables: StudyTables, family: str) -> list[Finding]:
    """The findings over the stages of a family of models."""
    return _answered(tables.of_family(family), "family")


def tally(findings: Sequence[Finding]) -> list[tuple[Conclusion, int]]:
    """The number of questions with each answer, in the order of `Conclusion`, without zeros."""
    answers = [finding.answer for finding in findings]
    return [(answer, answers.count(answer)) for answer in Conclusion if answer in answers]


def by_topic(findings: Sequence[Finding]) -> list[tuple[str, list[Finding]]]:
    """The findings of each topic, in their order."""
    return [(topic, [*group]) for topic, group in groupby(findings, attrgetter("topic"))]


def detectable(row: dict[str, Any], measurements: pl.DataFrame) -> float | None:
    """The minimum detectable effect of a row of CLAIMS; None if its number is no measurement."""
    claim = claim_of(row)
    if claim is None or claim.scope != "model":
        return None
    key = (row["variant"], claim.statistic, claim.role, claim.attack)
    measured = measurement(measurements, *key)
    return None if measured is None or measured["value"] is None else measured["detectable"]


def answer_of(claim: Claim, row: Mapping[str, Any]) -> Conclusion:
    """The answer to a claim's question that a row of CLAIMS gives."""
    outcomes = {SUPPORTED: claim.supported, NOT_SUPPORTED: Conclusion.NO}
    answer = outcomes.get(row["verdict"], Conclusion.UNCLEAR)
    if answer is Conclusion.NO and estimate_of(row).low > abs(row["threshold"]):
        return claim.opposite
    return answer


def _answered(own: StudyTables, scope: str) -> list[Finding]:
    known = [(claim_of(row), row) for row in own.claims.filter(scope=scope).rows(named=True)]
    return [_finding(claim, row, own) for claim, row in known if claim]


def _finding(claim: Claim, row: dict[str, Any], own: StudyTables) -> Finding:
    topic = claim.topic
    if claim.scope == "experiment":
        own = own._replace(retraining=own.retraining.filter(experiment=row["experiment"]))
        topic = f"{topic}: {row['experiment']}"
    estimate = estimate_of(row)
    bound = with_unit(abs(row["threshold"]), claim.unit)
    text = claim.text(estimate, own, row["variant"])
    sentence = f"{text} {claim.rule.format(bound)}".rstrip()
    if row["verdict"] == CANNOT_TELL:
        sentence = f"{sentence} {_why_unclear(claim, row, own)}"
    question = claim.question_about(row["variant"], own.headline.mask)
    key = (topic, claim.number, claim.statistic, row["variant"])
    return Finding(question, answer_of(claim, row), sentence, *key, estimate)


def _why_unclear(claim: Claim, row: dict[str, Any], own: StudyTables) -> str:
    if row["why"]:
        return str(row["why"])
    estimate = estimate_of(row)
    if math.isnan(estimate.low) or math.isnan(estimate.high):
        return "The interval is unbounded on one side."
    included = f"The interval includes {with_unit(row['threshold'], claim.unit)}"
    least = detectable(row, own.measurements)
    if least is None:
        return f"{included}."
    effect = with_unit(least, claim.unit)
    return f"{included}; the minimum detectable effect is {effect} (80% power)."
