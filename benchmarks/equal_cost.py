"""What masks do that cost the same on benign text: `python benchmarks/equal_cost.py RESULTS…`.

Each RESULTS is the results folder of a study with `equal_cost.masks`, such as
`studies/validity.yaml`; several are other draws of the same data. Prints, for each limit on benign
loss and each mask, the mean over the draws of its size, of what it adds to harmful, matched and
benign answers (nats per token, test split) and of its specificity, and in how many draws `shared`
adds clearly more to harmful answers (the whole interval above zero, paired by prompt).
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from lesion.io.formats import read_parquet
from lesion.tables.equal_cost import EQUAL_COSTS

_LESS = "harm_added_less_than_shared"
_METRICS = ("harm_added", "matched_added", "benign_added", "specificity", _LESS)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table of all draws."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path, nargs="+", help="results folders, one for each draw")
    given = parser.parse_args(arguments)
    schema = {**EQUAL_COSTS, "model": pl.String}
    tables = [
        read_parquet(folder / "tables" / "equal_cost.parquet", schema).with_columns(draw=number)
        for number, folder in enumerate(given.results)
    ]
    table = pl.concat(tables)
    columns = ("weights", "harmful", "matched", "benign", "specificity")
    print(f"{'mask':<28} {'limit':>5}", *(f"{name:>20}" for name in (*columns, "shared adds more")))
    keys = ["model", "limit", "mask"]
    for (_, limit, mask), own in table.sort(keys).group_by(keys, maintain_order=True):
        sizes = own.unique("draw", maintain_order=True)["weights"]
        cells = [f"{float(sizes.to_numpy().mean()):,.0f}"]
        for metric in _METRICS[:-1]:
            rows = own.filter(metric=metric)
            cells.append(_cell(rows))
        less = own.filter(metric=_LESS)
        clear = less.filter(pl.col("low") > 0).height
        cells.append(f"{_cell(less)} {clear}/{less.height}" if less.height else "")
        reached = "" if own["reached"].all() else " (not reached)"
        print(f"{mask + reached:<28} {limit:>5g}", *(f"{cell:>20}" for cell in cells))


def _cell(rows: pl.DataFrame) -> str:
    """The mean value, with the interval of the only draw or the range over several."""
    if rows.is_empty():
        return ""
    value = float(rows["value"].to_numpy().mean())
    if rows.height == 1:
        low, high = rows["low"][0], rows["high"][0]
    else:
        low, high = rows["value"].min(), rows["value"].max()
    return f"{value:.3f} [{low:.2f}, {high:.2f}]"


if __name__ == "__main__":
    main()
