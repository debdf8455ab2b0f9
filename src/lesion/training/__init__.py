"""Training of models by fine-tuning or from scratch, and fine-tuning in memory.

It is part of the stage `models`, but of a layer above `pairs`, because it trains on pairs.
"""

import polars as pl

TRAINING = {"step": pl.Int64, "examples": pl.Int64, "loss": pl.Float64, "learning_rate": pl.Float64}
"""One row for each optimiser step: the mean loss of its examples before the step, and the number of
`examples` up to and including it."""
