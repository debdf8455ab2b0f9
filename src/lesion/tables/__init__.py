"""Stage `tables`: everything measured, as tidy parquet tables with intervals."""

OF_MASKS = ("overlap", "sharing", "where", "concentration", "lines")
"""Tables of the masks stage that are copied unchanged for each model."""
TABLES = (
    *("measurements", "variants", "claims", "curve", "halving", "equal_cost"),
    *OF_MASKS,
    *("sweep", "judges", "judge_controls", "pairs", "examples"),
    *("training", "stages", "retraining"),
)
