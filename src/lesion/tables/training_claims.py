"""The paper's claims that need training (4, 5 and 8), held against their numbers. Pure."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from lesion.masks.controls import MADE
from lesion.tables.claims import CLAIMS, MOST, SUPPORTED, Claimed, Held, as_row
from lesion.tables.intervals import Estimate
from lesion.tables.rows import INTACT


def stage_claims(stages: pl.DataFrame) -> pl.DataFrame:
    """Whether alignment compresses: every family's last stage against its first.

    Args:
        stages: a table of STAGES, of any number of families.

    Returns:
        A table of CLAIMS; `model` is the family and `variant` the last stage. Where benign NLL
        never reaches the limit, separability at it is not known, and that is "can't tell".
    """
    changes = stages.filter(metric="separability_change", variant="shared")
    last = changes.filter(pl.col("stage") == pl.col("stage").max().over("family"))
    found: list[tuple[str, Claimed]] = []
    for row in last.iter_rows(named=True):
        held = Held(_estimate(row), 0.0, tells=not row["beyond"])
        claimed = (4, "alignment compresses", "separability_change", row["name"], held)
        found.append((row["family"], claimed))
    return _table(found)


def retraining_claims(model: str, retraining: pl.DataFrame) -> pl.DataFrame:
    """Whether a lesion before narrow training prevents misalignment, and whether harm comes back.

    Args:
        model: its name.
        retraining: a table of RETRAINING, of any number of experiments.

    Returns:
        A table of CLAIMS, experiment by experiment; `variant` is the arm.
    """
    found: list[tuple[str, Claimed]] = []
    for _, table in retraining.group_by("experiment", maintain_order=True):
        # What was taught to see it spread says nothing of what was taught to bring harm back.
        spread = (table["metric"] == "misaligned").any()
        found += [(model, one) for one in (_emergent if spread else _mechanism)(table)]
    return _table(found)


def _emergent(table: pl.DataFrame) -> Iterator[Claimed]:
    statistic, statistic_beyond = "misaligned_change_by_training", "misaligned_beyond_random"
    trained = _find(table, INTACT, statistic, "broad")
    if trained is None:
        return
    held = Held(trained, 0.0)
    yield 5, "narrow training misaligns broadly", statistic, INTACT, held
    # What training did not do, no lesion prevents.
    tells = as_row(held)[-1] == SUPPORTED
    arms = table.filter(metric="misaligned_change")["arm"].unique().sort()
    # Controls are there to be compared with: of them nothing is claimed.
    for arm in (one for one in arms if _mask(one) not in MADE):
        when = "afterwards" if arm.endswith("-after") else "first"
        change = _find(table, arm, "misaligned_change", "broad")
        prevented = Held(change, 0.0, above=False, tells=tells)
        name = f"lesioned {when}, less broad misalignment"
        yield 5, name, "misaligned_change", arm, prevented
        beyond = Held(_find(table, arm, statistic_beyond, "broad"), 0.0, above=False, tells=tells)
        yield 5, f"lesioned {when}, more than at random", statistic_beyond, arm, beyond


def _mask(arm: str) -> str:
    return arm.removesuffix("-frozen").removesuffix("-after")


def _mechanism(table: pl.DataFrame) -> Iterator[Claimed]:
    for arm in ("shared", "shared-frozen"):
        share = _find(table, arm, "recovered_share", "harm")
        yield 8, "a mechanism, not knowledge", "recovered_share", arm, Held(share, MOST)


def _find(table: pl.DataFrame, arm: str, metric: str, role: str) -> Estimate | None:
    found = table.filter(arm=arm, metric=metric, behaviour=f"all-{role}", role=role)
    known = found.filter(pl.col("value").is_not_null())
    return _estimate(known.row(0, named=True)) if known.height else None


def _estimate(row: Mapping[str, Any]) -> Estimate:
    """A bound that is not known is NaN, of which no verdict is made."""
    value, low, high = (
        math.nan if row[one] is None else row[one] for one in ("value", "low", "high")
    )
    return Estimate(value, low, high, row["n"])


def _table(found: list[tuple[str, Claimed]]) -> pl.DataFrame:
    rows = [
        (model, claim, name, statistic, variant, *as_row(held))
        for model, (claim, name, statistic, variant, held) in found
        if held.estimate is not None
    ]
    return pl.DataFrame(rows, schema=CLAIMS, orient="row")
