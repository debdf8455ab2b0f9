"""What each variant is, as data."""

import polars as pl
import pytest

from lesion.study.training import Arm, arm_of
from lesion.tables.rows import MEASUREMENTS
from lesion.tables.variants import VARIANTS, variants_table


@pytest.mark.parametrize(
    ("name", "mask", "lesioned"),
    [
        ("unmodified", None, None),
        ("shared", "shared", "before"),
        ("benign-signed-after", "benign-signed", "after"),
        ("shared-frozen", "shared", "frozen"),
    ],
)
def test_an_arm_s_name_says_its_mask_and_when(
    name: str, mask: str | None, lesioned: str | None
) -> None:
    assert arm_of(name) == Arm(mask, lesioned)


def test_every_variant_has_its_mask_and_size() -> None:
    curve = pl.DataFrame({"family": ["unmodified", "x", "x", "y"], "share": [0.0, 2.0, 0.5, 1.0]})
    answered = ["unmodified", "x", "x@0.5", "x@2.0", None]
    measured = pl.DataFrame({"variant": answered}, schema_overrides={"variant": pl.String})
    table = variants_table(
        ["unmodified", "x"], curve, measured, ["unmodified", "x-after", "unmodified"]
    )
    assert dict(table.schema) == VARIANTS
    assert table.rows() == [
        ("unmodified", "mask", None, None, None),
        ("x", "mask", "x", 1.0, None),
        ("x@0.5", "size", "x", 0.5, None),
        ("x@2.0", "size", "x", 2.0, None),
        ("unmodified", "arm", None, None, None),
        ("x-after", "arm", "x", 1.0, "after"),
    ]


def test_what_was_not_evaluated_is_no_variant() -> None:
    curve = pl.DataFrame(schema={"family": pl.String, "share": pl.Float64})
    assert variants_table([], curve, pl.DataFrame(schema=MEASUREMENTS), []).is_empty()
