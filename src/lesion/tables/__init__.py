"""Stage `tables`: everything measured, as tidy parquet tables with intervals."""

OF_MASKS = ("overlap", "sharing", "where", "concentration", "lines")
"""Tables of the masks stage that are passed on as they are, model by model."""
TABLES = (
    *("measurements", "variants", "claims", "curve", "halving"),
    *OF_MASKS,
    *("sweep", "judges", "pairs", "examples"),
    *("training", "stages", "retraining"),
)
