"""What the report reads is what the stages before write."""

import polars as pl
import pytest

from lesion.masks.where import LINES, WHERE
from lesion.report.inputs import _COLUMNS
from lesion.tables.claims import CLAIMS
from lesion.tables.curve import CURVES, HALVINGS
from lesion.tables.retraining import RETRAINING
from lesion.tables.rows import MEASUREMENTS
from lesion.tables.stages import STAGES
from lesion_testing.retrained import LOSSES


@pytest.mark.parametrize(
    ("name", "schema"),
    [
        ("measurements", MEASUREMENTS),
        ("claims", CLAIMS),
        ("curve", CURVES),
        ("halving", HALVINGS),
        ("where", WHERE),
        ("lines", LINES),
        ("training", LOSSES),
        ("stages", STAGES),
        ("retraining", RETRAINING),
    ],
)
def test_columns_are_those_written(name: str, schema: dict[str, type[pl.DataType]]) -> None:
    # Every table but the model's own measurements and claims is given the model when gathered.
    written = {"model": pl.String, **schema}
    for column, dtype in _COLUMNS[name].items():
        assert written[column] == dtype
