import numpy as np
import pytest

from lesion.masks.where import (
    CONCENTRATION,
    LINES,
    WHERE,
    concentration_table,
    gini,
    top_lines,
    top_share,
    where_table,
)
from lesion.models.layout import FlatIndices, Layout

UP, DOWN = "model.layers.0.mlp.up_proj.weight", "model.layers.3.mlp.down_proj.weight"
LAYOUT = Layout.of({UP: (4, 3), DOWN: (2, 300)})
EMPTY = np.empty(0, np.int64)


def _places(*cells: tuple[int, int, int]) -> FlatIndices:
    """Flat places of (matrix, row, column)."""
    flat = [LAYOUT.offsets[m] + row * LAYOUT.shapes[m][1] + column for m, row, column in cells]
    return np.sort(np.array(flat, np.int64))


MASK = _places((0, 1, 0), (0, 1, 1), (0, 1, 2), (0, 3, 2), (1, 0, 7))


def test_where_counts_every_matrix() -> None:
    table = where_table({"one": MASK, "none": EMPTY}, LAYOUT)
    assert table.schema == WHERE
    assert table.rows() == [
        ("one", 0, "mlp.up_proj", 4, 12),
        ("one", 3, "mlp.down_proj", 1, 600),
        ("none", 0, "mlp.up_proj", 0, 12),
        ("none", 3, "mlp.down_proj", 0, 600),
    ]


def test_concentration_by_hand() -> None:
    table = concentration_table({"one": MASK, "none": EMPTY}, LAYOUT)
    assert table.schema == CONCENTRATION
    up, down = table.rows(named=True)
    assert (up["mask"], up["layer"], up["module"], up["weights"]) == ("one", 0, "mlp.up_proj", 4)
    assert (up["rows"], up["columns"], up["rows_touched"], up["columns_touched"]) == (4, 3, 2, 3)
    assert (up["rows_top_share"], up["columns_top_share"]) == (3 / 4, 2 / 4)
    assert (down["rows_gini"], down["columns_gini"]) == pytest.approx((1 / 2, 299 / 300))


def test_a_matrix_not_touched_is_left_out() -> None:
    table = concentration_table({"one": MASK[:4]}, LAYOUT)
    assert table["module"].to_list() == ["mlp.up_proj"]
    assert concentration_table({}, LAYOUT).schema == CONCENTRATION


def test_stored_axes_are_swapped_where_rows_are_inputs() -> None:
    turned = LAYOUT._replace(transposed=frozenset({UP}))
    plain, swapped = (
        concentration_table({"one": MASK}, one).row(0, named=True) for one in (LAYOUT, turned)
    )
    assert (swapped["rows"], swapped["columns"]) == (3, 4)
    for what in ("touched", "top_share", "gini"):
        assert swapped[f"rows_{what}"] == plain[f"columns_{what}"]
        assert swapped[f"columns_{what}"] == plain[f"rows_{what}"]
    fullest = top_lines({"one": MASK}, turned, most=1)
    assert fullest.select("axis", "index", "weights").rows() == [("row", 2, 2), ("column", 1, 3)]


def test_top_lines_by_hand() -> None:
    table = top_lines({"one": MASK, "none": EMPTY}, LAYOUT, most=2)
    assert table.schema == LINES
    assert table.rows() == [
        ("one", 0, "mlp.up_proj", "row", 1, 3, 3 / 5),
        ("one", 0, "mlp.up_proj", "row", 3, 1, 1 / 5),
        ("one", 0, "mlp.up_proj", "column", 2, 2, 2 / 5),
        ("one", 0, "mlp.up_proj", "column", 0, 1, 1 / 5),
    ]


def test_all_top_lines_add_up_to_the_mask() -> None:
    generator = np.random.default_rng(0)
    mask = np.sort(generator.choice(LAYOUT.size, 200, replace=False))
    table = top_lines({"one": mask}, LAYOUT, most=10_000)
    for axis in ("row", "column"):
        lines = table.filter(axis=axis)
        assert lines["weights"].sum() == mask.size
        assert lines["share"].sum() == pytest.approx(1)
        assert lines["weights"].is_sorted(descending=True)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [([5, 5, 5, 5], 0), ([0, 0, 0, 8], 3 / 4), ([8, 0, 0, 0], 3 / 4), ([1, 3], 1 / 4), ([7], 0)],
)
def test_gini(counts: list[int], expected: float) -> None:
    assert gini(np.array(counts)) == pytest.approx(expected)


def test_gini_is_the_mean_difference_of_two_over_twice_the_mean() -> None:
    counts = np.random.default_rng(0).poisson(2, 50)
    differences = np.abs(counts[:, None] - counts).mean()
    assert gini(counts) == pytest.approx(differences / (2 * counts.mean()))


def test_top_share_takes_one_in_a_hundred_and_at_least_one() -> None:
    assert top_share(np.array([1, 2, 7])) == 7 / 10
    many = np.ones(250, np.int64)
    many[[3, 200, 249]] = [10, 30, 20]
    assert top_share(many) == 50 / many.sum()
