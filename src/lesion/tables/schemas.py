"""The columns of every table that the stage writes, and that others read."""

from typing import Any

import polars as pl

from lesion.judgements.measures import SCHEMA as JUDGES
from lesion.masks.overlap import OVERLAP, SHARING
from lesion.masks.sweep import SWEEP
from lesion.masks.where import CONCENTRATION, LINES, WHERE
from lesion.tables.curve import CURVES, HALVINGS
from lesion.tables.equal_cost import EQUAL_COSTS
from lesion.tables.judge_controls import JUDGE_CONTROLS
from lesion.tables.retraining import RETRAINING
from lesion.tables.rows import ESTIMATE, MEASUREMENTS
from lesion.tables.stages import STAGES
from lesion.tables.variants import VARIANTS
from lesion.training import TRAINING

FORMAT = 5
"""Version of the tables; raised when a column changes its meaning or is removed. Format 1 has no
`level`; format 2 calls the `size_ratio` of curves `share`; in format 4, `fewest` of stages counts
the prompts of the smaller side."""

CLAIMS = {
    "model": pl.String,
    "scope": pl.String,
    "experiment": pl.String,
    "claim": pl.Int64,
    "name": pl.String,
    "statistic": pl.String,
    "variant": pl.String,
    **ESTIMATE,
    "threshold": pl.Float64,
    "verdict": pl.String,
    "why": pl.String,
}
"""Outcomes of claims; `lesion.tables.columns` explains the columns."""

EXAMPLES = {
    "variant": pl.String,
    "behaviour": pl.String,
    "role": pl.String,
    "attack": pl.String,
    "prompt": pl.String,
    "completion": pl.String,
    "refused": pl.Boolean,
    "harmful": pl.Boolean,
    "harmfulness": pl.Float64,
    "relevance": pl.Float64,
    "coherence": pl.Float64,
}
"""Completions, with scores."""

COUNTS = {
    "behaviour": pl.String,
    "role": pl.String,
    "split": pl.String,
    "outcome": pl.String,
    "pairs": pl.Int64,
}
"""Numbers of pairs."""

TRIALS = {
    **{name: dtype for name, dtype in SWEEP.items() if name != "key"},
    "chosen": pl.Boolean,
    "pareto": pl.Boolean,
}
"""Every (p, q) that was tried."""

TRAININGS = {"base": pl.String, "method": pl.String, "seed": pl.Int64, **TRAINING}
"""Training losses of a model, with its base model and training method."""

_OF_MODEL: dict[str, dict[str, Any]] = {
    "variants": VARIANTS,
    "curve": CURVES,
    "halving": HALVINGS,
    "equal_cost": EQUAL_COSTS,
    "overlap": OVERLAP,
    "sharing": SHARING,
    "where": WHERE,
    "concentration": CONCENTRATION,
    "lines": LINES,
    "sweep": TRIALS,
    "judge_controls": JUDGE_CONTROLS,
    "pairs": COUNTS,
    "examples": EXAMPLES,
    "training": TRAININGS,
    "retraining": RETRAINING,
}

SCHEMAS: dict[str, dict[str, Any]] = {
    "measurements": MEASUREMENTS,
    "claims": CLAIMS,
    "judges": JUDGES,
    "stages": STAGES,
    **{name: {"model": pl.String, **columns} for name, columns in _OF_MODEL.items()},
}
"""The columns of every table of `lesion.tables.TABLES`; tables of one model start with its name."""
