"""Training: models made of others by fine-tuning, or from scratch; and fine-tuning in memory.

It belongs to the stage `models`, but to a layer above `pairs`, because it trains on pairs.
"""

import polars as pl

TRAINING = {
    "step": pl.Int64,
    "examples": pl.Int64,
    "loss": pl.Float64,
    "learning_rate": pl.Float64,
}
"""One row for each optimiser step: its examples' mean loss before the step, and all `examples`
so far."""
