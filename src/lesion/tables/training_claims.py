"""The paper's claims that need training (4, 5 and 8), held against their numbers. Pure."""

from collections.abc import Iterator

import polars as pl

from lesion.masks.controls import DESCRIPTIONS
from lesion.tables.claims import (
    LIMIT_LOST,
    SUPPORTED,
    Claimed,
    Held,
    Number,
    number_of,
    table,
    verdict_of,
)
from lesion.tables.effects import MARGIN, MOST, NATS
from lesion.tables.limits import lifted
from lesion.tables.rows import INTACT

_NOT_REACHED = "In a stage benign responses lose that much at no size: it was not reached."
_NOTHING_TO_PREVENT = (
    "The training did not clearly misalign it by as much as counts: there was nothing to prevent."
)
_NOTHING_TO_BRING_BACK = (
    "What the lesion itself added is unclear or too small to count, so there is nothing to bring "
    "back."
)


def stage_claims(stages: pl.DataFrame, limit: float) -> pl.DataFrame:
    """Whether alignment compresses: every family's last stage against its first.

    Args:
        stages: a table of STAGES, of any number of families.
        limit: on benign loss, nats per token, at which separability was read.

    Returns:
        A table of CLAIMS; `model` is the family and `variant` the last stage. Where benign NLL
        never reaches the limit, separability at it is not known, and that is "can't tell".
    """
    changes = stages.filter(metric="separability_change", variant="shared")
    last = changes.filter(pl.col("stage") == pl.col("stage").max().over("family"))
    found: list[tuple[str, Claimed]] = []
    for row in last.iter_rows(named=True):
        held = Held(
            number_of(row, [row["fewest"]]),
            NATS,
            lacking=_NOT_REACHED if row["beyond"] else "",
            doubt=LIMIT_LOST if lifted(limit) else "",
        )
        claimed = (4, "alignment compresses", "separability_change", row["name"], held)
        found.append((row["family"], claimed))
    return table(found)


def retraining_claims(
    model: str, retraining: pl.DataFrame, *, limit_kept: bool = True
) -> pl.DataFrame:
    """Whether a lesion before narrow training prevents misalignment, and whether harm comes back.

    Args:
        model: its name.
        retraining: a table of RETRAINING, of any number of experiments.
        limit_kept: whether the model's shared mask keeps a limit on benign loss.

    Returns:
        A table of CLAIMS, experiment by experiment; `variant` is the arm.
    """
    doubt = "" if limit_kept else LIMIT_LOST
    found: list[tuple[str, Claimed]] = []
    for _, rows in retraining.group_by("experiment", maintain_order=True):
        # What was taught to see it spread says nothing of what was taught to bring harm back.
        spread = (rows["metric"] == "misaligned").any()
        found += [(model, one) for one in (_emergent if spread else _mechanism)(rows, doubt)]
    return table(found)


def _emergent(rows: pl.DataFrame, doubt: str) -> Iterator[Claimed]:
    statistic, statistic_beyond = "misaligned_change_by_training", "misaligned_beyond_random"
    trained = _find(rows, INTACT, statistic, "broad")
    if trained is None:
        return
    held = Held(trained, MARGIN)
    yield 5, "narrow training misaligns broadly", statistic, INTACT, held
    # What training did not do, no lesion prevents.
    lacking = "" if verdict_of(held)[0] == SUPPORTED else _NOTHING_TO_PREVENT
    arms = rows.filter(metric="misaligned_change")["arm"].unique().sort()
    # Controls are there to be compared with: of them nothing is claimed.
    for arm in (one for one in arms if _mask(one) not in DESCRIPTIONS):
        when = "afterwards" if arm.endswith("-after") else "first"
        for name, metric in (
            (f"lesioned {when}, less broad misalignment", "misaligned_change"),
            (f"lesioned {when}, more than at random", statistic_beyond),
        ):
            change = _find(rows, arm, metric, "broad")
            prevented = Held(change, -MARGIN, above=False, lacking=lacking, doubt=doubt)
            yield 5, name, metric, arm, prevented


def _mask(arm: str) -> str:
    return arm.removesuffix("-frozen").removesuffix("-after")


def _mechanism(rows: pl.DataFrame, doubt: str) -> Iterator[Claimed]:
    for arm in ("shared", "shared-frozen"):
        added = _find(rows, arm, "nll_added", "harm")
        lacking = "" if added is not None and added.low > NATS else _NOTHING_TO_BRING_BACK
        share = _find(rows, arm, "recovered_share", "harm")
        held = Held(share, MOST, lacking=lacking, doubt=doubt)
        yield 8, "a mechanism, not knowledge", "recovered_share", arm, held


def _find(rows: pl.DataFrame, arm: str, metric: str, role: str) -> Number | None:
    found = rows.filter(pl.col("value").is_not_null(), arm=arm, metric=metric, role=role)
    total = found.filter(behaviour=f"all-{role}")
    if not total.height:
        return None
    parts = found.filter(pl.col("behaviour") != f"all-{role}")["n"].to_list()
    row = total.row(0, named=True)
    return number_of(row, parts or [row["n"]])
