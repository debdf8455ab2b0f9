"""Stage `tables`: everything measured, as tidy parquet tables with intervals."""

TABLES = ("measurements", "overlap", "where", "sweep", "judges", "pairs", "examples")
