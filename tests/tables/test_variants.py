"""What each variant is, as data."""

import polars as pl
import pytest

from lesion.masks.where import WHERE
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
        ("shared-only", "shared", "only"),
    ],
)
def test_an_arm_s_name_says_its_mask_and_when(
    name: str, mask: str | None, lesioned: str | None
) -> None:
    assert arm_of(name) == Arm(mask, lesioned)


def test_every_variant_has_its_mask_and_size() -> None:
    family, size_ratio = ["unmodified", "x", "x", "y"], [0.0, 2.0, 0.5, 1.0]
    curve = pl.DataFrame({"family": family, "size_ratio": size_ratio, "weights": [0, 18, 5, 9]})
    answered = ["unmodified", "x", "x@0.5", "x@2.0", None]
    measured = pl.DataFrame({"variant": answered}, schema_overrides={"variant": pl.String})
    where = pl.DataFrame({"mask": ["x", "x"], "weights": [4, 5], "candidates": [90, 90]})
    arms = ["unmodified", "x", "x-after", "unmodified", "z"]
    table = variants_table(["unmodified", "x"], curve, measured, arms, where)
    assert dict(table.schema) == VARIANTS
    assert table.rows() == [
        ("unmodified", "mask", None, None, None, None),
        ("x", "mask", "x", 9, 1.0, None),
        ("x@0.5", "size", "x", 5, 0.5, None),
        ("x@2.0", "size", "x", 18, 2.0, None),
        ("unmodified", "arm", None, None, None, None),
        ("x", "arm", "x", 9, 1.0, "before"),
        ("x-after", "arm", "x", 9, 1.0, "after"),
        ("z", "arm", "z", None, 1.0, "before"),
    ]
    # An arm may have the name of its mask, so the kind is a part of the key.
    assert table.select("variant", "kind").is_unique().all()
    assert not table.select("variant").is_unique().all()


def test_what_was_not_evaluated_is_no_variant() -> None:
    curve = pl.DataFrame(
        schema={"family": pl.String, "size_ratio": pl.Float64, "weights": pl.Int64}
    )
    where = pl.DataFrame(schema=WHERE)
    assert variants_table([], curve, pl.DataFrame(schema=MEASUREMENTS), [], where).is_empty()
