"""Stage `responses`: what a variant answers, and what it finds likely; needs no torch to import."""

import polars as pl

COMPLETIONS = {
    "behaviour": pl.String,
    "role": pl.String,
    "attack": pl.String,
    "prompt": pl.String,
    "prefill": pl.String,
    "completion": pl.String,
    "tokens": pl.Int64,
    "finished": pl.Boolean,
    "key": pl.String,
}
NLL = {
    "behaviour": pl.String,
    "role": pl.String,
    "prompt": pl.String,
    "nll": pl.Float64,
    "key": pl.String,
}
