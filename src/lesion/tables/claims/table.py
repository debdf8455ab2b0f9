"""The table of claims, from what was measured. Pure."""

import math
from collections.abc import Iterable, Iterator

import polars as pl

from lesion.tables.claims.claim import Claim, Facts, Setting
from lesion.tables.claims.outcome import Evidence, outcome_of
from lesion.tables.claims.registry import REGISTRY
from lesion.tables.limits import lifted
from lesion.tables.rows import SHARED, UNMODIFIED
from lesion.tables.schemas import CLAIMS

_Found = tuple[str, Claim, str | None, Evidence]
"""Model, claim, variant, and the evidence for it."""


def claims(
    model: str, measurements: pl.DataFrame, halving: pl.DataFrame, setting: Setting
) -> pl.DataFrame:
    """Every claim that the study's measurements of one model have a number for.

    Args:
        model: its name.
        measurements: the model's table of MEASUREMENTS.
        halving: the model's table of HALVINGS.
        setting: facts about its headline mask.

    Returns:
        A table of CLAIMS; a claim without a measurement has no row.
    """
    return _table(_of_scope("model", model, Facts(setting, measurements, halving)))


def stage_claims(stages: pl.DataFrame, limit: float, mask: str = SHARED) -> pl.DataFrame:
    """The claims over the stages of every family: its last stage against its first.

    Args:
        stages: a table of STAGES, of any number of families.
        limit: on benign loss, nats per token, at which separability was read.
        mask: the study's headline mask.

    Returns:
        A table of CLAIMS; `model` is the family and `variant` the last stage. If benign NLL never
        reaches the limit, separability is unknown and the outcome is "can't tell".
    """
    setting = Setting(0, 0, limit_kept=not lifted(limit), mask=mask)
    return _table(
        one
        for (family,), rows in stages.group_by("family", maintain_order=True)
        for one in _of_scope("family", str(family), Facts(setting, rows=rows))
    )


def retraining_claims(
    model: str, retraining: pl.DataFrame, *, limit_kept: bool = True, mask: str = SHARED
) -> pl.DataFrame:
    """The claims about trainings in memory: misalignment that an ablation prevents, and recovery.

    Args:
        model: its name.
        retraining: a table of RETRAINING, of any number of experiments.
        limit_kept: whether the model's headline mask keeps a limit on benign loss.
        mask: the study's headline mask.

    Returns:
        A table of CLAIMS, ordered by experiment and arm; `variant` is the arm.
    """
    setting = Setting(0, 0, limit_kept=limit_kept, mask=mask)
    return _table(
        one
        for _, rows in retraining.group_by("experiment", maintain_order=True)
        for one in sorted(
            _of_scope("experiment", model, Facts(setting, rows=rows)),
            key=lambda found: (found[2] != UNMODIFIED, found[2] or ""),
        )
    )


def _of_scope(scope: str, model: str, facts: Facts) -> Iterator[_Found]:
    for claim in REGISTRY:
        if claim.scope == scope:
            for variant, evidence in claim.evidence(facts):
                yield model, claim, variant, evidence


def _table(rows: Iterable[_Found]) -> pl.DataFrame:
    return pl.DataFrame([_row(*one) for one in rows], schema=CLAIMS, orient="row")


def _row(model: str, claim: Claim, variant: str | None, evidence: Evidence) -> tuple[object, ...]:
    """A row of CLAIMS; NaN and infinite bounds become null."""
    place = (claim.number, claim.name.format(**claim.words(variant)), claim.statistic, variant)
    one = evidence.number
    numbers = (value if math.isfinite(value) else None for value in one[:3])
    outcome, why = outcome_of(evidence)
    return (model, *place, *numbers, one.n, evidence.threshold, outcome, why or None)
