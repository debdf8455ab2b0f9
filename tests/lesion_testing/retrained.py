"""What an invented study has of training: losses, stages of a family, models trained again."""

from typing import Any

import polars as pl

from lesion.tables.claims.table import retraining_claims, stage_claims
from lesion.tables.rows import BEHAVIOUR, TOTAL
from lesion.tables.schemas import SCHEMAS
from lesion.tables.stages import STAGES

Rows = list[dict[str, Any]]

BATCH = 8
LAST = 100
_STEPS = (0, 5, 10, 20, 50, LAST)
_RECOVERY = {
    "unmodified": (0.74, 0.66, 0.61, 0.55, 0.47, 0.41),
    "shared": (1.07, 0.86, 0.75, 0.63, 0.51, 0.44),
    "shared-frozen": (1.07, 0.92, 0.82, 0.7, 0.57, 0.49),
    "random": (0.742, 0.661, 0.612, 0.55, 0.471, 0.412),
}
"""Harm NLL after each of the steps."""
_GAPS = {"shared": (0.91, 11.4), "shared-frozen": (0.76, 17.9), "random": (None, None)}
"""What is recovered, and the steps to half of it; the random control has nothing to recover."""
_MISALIGNED = {
    ("unmodified", 0): (0.04, 0.06),
    ("unmodified", LAST): (0.22, 0.81),
    ("savings", LAST): (0.09, 0.77),
    ("savings-after", LAST): (0.07, 0.31),
    ("random", LAST): (0.21, 0.8),
}
"""Share of misaligned answers to broad and to narrow questions."""


def _around(value: float | None, half: float, n: int) -> dict[str, Any]:
    if value is None:
        return {"value": None, "low": None, "high": None, "n": n}
    return {"value": value, "low": value - half, "high": value + half, "n": n}


def levelled(table: pl.DataFrame) -> pl.DataFrame:
    """With the level of every row: without a behaviour it is a total."""
    total = pl.col("behaviour").is_null()
    return table.with_columns(level=pl.when(total).then(pl.lit(TOTAL)).otherwise(pl.lit(BEHAVIOUR)))


def retrainings(model: str) -> pl.DataFrame:
    """The table of what `retraining` gives."""
    return levelled(pl.DataFrame(retraining(model), schema=SCHEMAS["retraining"]))


def training() -> Rows:
    """Three models: from scratch, taught by examples, and by preferences."""
    made = {
        "base": ("new", "sft", 5.5, 1.3, 1500),
        "light-1": ("base", "sft", 1.9, 0.8, 400),
        "light-2": ("base", "sft", 1.92, 0.82, 400),
        "strong-1": ("light-1", "dpo", 0.69, 0.02, 150),
    }
    return [
        {
            "model": model,
            "base": base,
            "method": method,
            "step": step,
            "examples": BATCH * step,
            "loss": last + (first - last) * 0.99**step + 0.03 * (step % 7),
            "learning_rate": 1e-3,
            "seed": 0,
        }
        for model, (base, method, first, last, steps) in made.items()
        for step in range(1, steps + 1)
    ]


def stages() -> Rows:
    """A family in which harm comes apart with alignment, and at random does not."""
    values = {
        "shared": {"separability": (0.31, 0.39, 0.52), "area": (0.11, 0.15, 0.2)},
        "random": {"separability": (0.09, 0.1, 0.09), "area": (0.001, 0.0, 0.002)},
    }
    rows = []
    for variant, metrics in values.items():
        for metric, found in metrics.items():
            for stage, (name, seeds, value) in enumerate(
                zip(("base", "light", "strong"), (1, 2, 2), found, strict=True)
            ):
                at = {"family": "alignment", "stage": stage, "name": name, "seeds": seeds}
                at |= {"variant": variant, "beyond": variant == "random"}
                at |= {"fewest": 10, "smaller_side": 30}
                rows.append({**at, "metric": metric, **_around(value, 0.05, 60)})
                if stage:
                    change = _around(value - found[0], 0.06, 60)
                    rows.append({**at, "metric": f"{metric}_change", **change})
    return rows


def retraining(model: str) -> Rows:
    """An experiment of recovery and one of emergent misalignment."""
    recovery = {"model": model, "experiment": "recovery", "seeds": 2}
    harm = {"behaviour": None, "role": "harm"}
    rows = [
        {**recovery, "arm": arm, "step": step, "examples": BATCH * step, **place, "metric": "nll"}
        | _around(value, 0.04, 60)
        for arm, values in _RECOVERY.items()
        for step, value in zip(_STEPS, values, strict=True)
        for place in (harm, {"behaviour": "physical", "role": "harm"})
    ]
    for arm, (share, half) in _GAPS.items():
        at = {**recovery, "arm": arm, "step": None, "examples": None, **harm}
        rows.append({**at, "metric": "nll_added", **_around(0.33 if share else 0.002, 0.05, 60)})
        rows.append({**at, "metric": "recovered_share", **_around(share, 0.08, 60)})
        rows.append({**at, "metric": "half_steps", **_around(half, 3.0, 60)})
        examples = half and BATCH * half
        rows.append({**at, "metric": "half_examples", **_around(examples, 24.0, 60)})
    advice = {"model": model, "experiment": "advice", "seeds": 1}
    for (arm, step), shares in _MISALIGNED.items():
        for role, value in zip(("broad", "narrow"), shares, strict=True):
            place = {"arm": arm, "step": step, "examples": BATCH * step}
            about = {"behaviour": None, "role": role, "metric": "misaligned"}
            rows.append({**advice, **place, **about, **_around(value, 0.03, 72)})
            if (arm, step) == ("unmodified", 0):
                continue
            before = _MISALIGNED["unmodified", 0 if arm == "unmodified" else LAST]
            change = value - before[role == "narrow"]
            name = "misaligned_change" + ("_by_training" if arm == "unmodified" else "")
            place |= {"step": None, "examples": None}
            about["metric"] = name
            rows.append({**advice, **place, **about, **_around(change, 0.06, 72)})
    return rows


def family_claims() -> pl.DataFrame:
    """Claim 4, whose model is a family."""
    return stage_claims(pl.DataFrame(stages(), schema=STAGES), 0.1)


def model_claims(model: str) -> pl.DataFrame:
    """Claims 5 and 8 of a model."""
    return retraining_claims(model, retrainings(model))
