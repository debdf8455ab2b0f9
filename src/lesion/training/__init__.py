"""Training: models made of others by fine-tuning, or from scratch; and fine-tuning in memory.

Part of the stage `models`, on a floor of its own above `pairs`: what a model is taught are pairs.
"""

import polars as pl

TRAINING = {
    "step": pl.Int64,
    "examples": pl.Int64,
    "loss": pl.Float64,
    "learning_rate": pl.Float64,
}
"""One row an optimiser step: the mean loss of its examples, before the step; `examples` so far."""
