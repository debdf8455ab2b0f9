"""The table of claims, from what was measured. Pure."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from lesion.tables.claims.claim import Facts, Setting
from lesion.tables.claims.outcome import outcome_of
from lesion.tables.claims.registry import REGISTRY
from lesion.tables.limits import lifted
from lesion.tables.rows import SHARED, UNMODIFIED
from lesion.tables.schemas import CLAIMS

_UNKNOWN = Setting(0, 0)
"""Masks of unknown sizes that keep the limit on benign loss."""


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
    rows = _rows({"model": model, "scope": "model"}, Facts(setting, measurements, halving))
    return pl.DataFrame(list(rows), schema=CLAIMS)


def stage_claims(
    stages: pl.DataFrame, limit: float, mask: str = SHARED, unspecific: Mapping[str, str] = {}
) -> pl.DataFrame:
    """The claims over the stages of every family: its last stage against its first.

    Args:
        stages: a table of STAGES, of any number of families.
        limit: on benign loss, nats per token, at which separability was read.
        mask: the study's headline mask.
        unspecific: why the effect of a family's mask may not be specific to harm, by family.

    Returns:
        A table of CLAIMS; `model` is the family and `variant` the last stage. If benign NLL never
        reaches the limit, separability is unknown and the outcome is "can't tell".
    """
    setting = Setting(0, 0, limit_kept=not lifted(limit), mask=mask)
    rows = [
        row
        for (family,), own in stages.group_by("family", maintain_order=True)
        for row in _rows(
            {"model": family, "scope": "family"},
            Facts(setting._replace(unspecific=unspecific.get(str(family), "")), rows=own),
        )
    ]
    return pl.DataFrame(rows, schema=CLAIMS)


def retraining_claims(
    model: str,
    retraining: pl.DataFrame,
    setting: Setting = _UNKNOWN,
    measurements: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """The claims about trainings in memory: misalignment that an ablation prevents, and recovery.

    Args:
        model: its name.
        retraining: a table of RETRAINING, of any number of experiments.
        setting: facts about its masks.
        measurements: its table of MEASUREMENTS, for what the arms' masks cost.

    Returns:
        A table of CLAIMS, ordered by experiment and arm; `variant` is the arm.
    """
    rows: list[dict[str, Any]] = []
    for (experiment,), own in retraining.group_by("experiment", maintain_order=True):
        keys = {"model": model, "scope": "experiment", "experiment": experiment}
        measured = pl.DataFrame() if measurements is None else measurements
        of_arms = _rows(keys, Facts(setting, measured, rows=own))
        rows += sorted(of_arms, key=lambda row: (row["variant"] != UNMODIFIED, row["variant"]))
    return pl.DataFrame(rows, schema=CLAIMS)


def _rows(keys: Mapping[str, object], facts: Facts) -> Iterator[dict[str, Any]]:
    """Rows of CLAIMS of the scope in `keys`; NaN and infinite bounds are null."""
    for claim in REGISTRY:
        for variant, evidence in claim.evidence(facts) if claim.scope == keys["scope"] else ():
            number, (outcome, why) = evidence.number, outcome_of(evidence)
            bounds = {"value": number.value, "low": number.low, "high": number.high}
            yield {
                **keys,
                "claim": claim.number,
                "name": claim.name.format(**claim.words(variant)),
                "statistic": claim.statistic,
                "variant": variant,
                **{name: bound if math.isfinite(bound) else None for name, bound in bounds.items()},
                "n": number.n,
                "threshold": evidence.threshold,
                "verdict": outcome,
                "why": why or None,
            }
