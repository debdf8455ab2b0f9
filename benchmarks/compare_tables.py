"""Says every difference between two tables folders of one study, row by row, by key.

    python benchmarks/compare_tables.py results/before/tables results/after/tables

For a change that should leave every value as it is. Exits with 1 if there is a difference.
"""

import sys
from pathlib import Path

import polars as pl

from lesion.io.formats import read_json

KEYS = {
    "measurements": ("model", "variant", "level", "behaviour", "role", "attack", "judge", "metric"),
    "variants": ("model", "variant", "kind"),
    "claims": ("model", "claim", "statistic", "variant", "name"),
    "curve": ("model", "family", "size_ratio", "level", "behaviour", "role"),
    "halving": ("model", "family", "measure"),
    "overlap": ("model", "a", "b"),
    "sharing": ("model", "p", "q", "at_least"),
    "where": ("model", "mask", "layer", "module"),
    "concentration": ("model", "mask", "layer", "module"),
    "lines": ("model", "mask", "layer", "module", "axis", "index"),
    "sweep": ("model", "p", "q", "contrast"),
    "equal_cost": ("model", "mask", "limit", "metric"),
    "judge_controls": ("model", "judge", "control", "statistic"),
    "judges": ("judge", "target", "category", "metric"),
    "pairs": ("model", "behaviour", "role", "split", "outcome"),
    "examples": ("model", "variant", "behaviour", "role", "attack", "prompt"),
    "training": ("model", "step"),
    "stages": ("family", "stage", "variant", "metric"),
    "retraining": ("model", "experiment", "arm", "step", "level", "behaviour", "role", "metric"),
}
_SHOWN = 5


def main(before: Path, after: Path) -> int:
    names = sorted({path.stem for folder in (before, after) for path in folder.glob("*.parquet")})
    differences = [line for name in names for line in compare(name, before, after)]
    studies = [_flat(read_json(folder / "study.json")) for folder in (before, after)]
    for key in sorted({*studies[0], *studies[1]}):
        first, second = (study.get(key) for study in studies)
        if first != second:
            differences.append(f"study.json: {key}: {first!r} != {second!r}")
    print(*differences, f"{len(names)} tables, {len(differences)} differences", sep="\n")
    return 1 if differences else 0


def compare(name: str, before: Path, after: Path) -> list[str]:
    """The differences of one table, as lines."""
    paths = [folder / f"{name}.parquet" for folder in (before, after)]
    missing = [path for path in paths if not path.exists()]
    if missing:
        return [f"{name}: {missing[0]} is missing"]
    old, new = (modern(pl.read_parquet(path)) for path in paths)
    lines = [
        f"{name}: only {which} has the column `{column}`"
        for which, table, other in (("the first", old, new), ("the second", new, old))
        for column in table.columns
        if column not in other.columns
    ]
    key = [column for column in KEYS.get(name, ()) if column in old.columns and column in new]
    if not key:
        return [*lines, f"{name}: no key is known of it"]
    for which, table in (("first", old), ("second", new)):
        if table.select(key).is_duplicated().any():
            lines.append(f"{name}: a key occurs twice in the {which}")
    for which, table, other in (("first", old, new), ("second", new, old)):
        alone = table.join(other, on=key, how="anti", nulls_equal=True)
        if alone.height:
            lines.append(f"{name}: {alone.height} rows only in the {which}")
            lines += [f"  {row}" for row in alone.select(key).head(_SHOWN).rows()]
    both = old.join(new, on=key, how="inner", nulls_equal=True, suffix=" (after)")
    for column in old.columns:
        if column in new.columns and column not in key:
            other = f"{column} (after)"
            changed = both.filter(~pl.col(column).eq_missing(pl.col(other)))
            if changed.height:
                lines.append(f"{name}: `{column}` differs in {changed.height} rows")
                lines += [
                    f"  {row}" for row in changed.select(*key, column, other).head(_SHOWN).rows()
                ]
    return lines


def modern(table: pl.DataFrame) -> pl.DataFrame:
    """A table of format 1 or 2 with the keys of format 3; any other as it is.

    In format 1, totals were behaviours called `all-<role>`, the harm types' own masks a variant
    `own-masks`, and the unmodified model `intact`. In both, the size ratio of curves was `share`.
    """
    if {"family", "share"} <= set(table.columns):
        table = table.rename({"share": "size_ratio"})
    table = table.rename(lambda name: name.replace("_intact", "_unmodified"))
    for column in {"variant", "arm", "family"} & set(table.columns):
        table = table.with_columns(pl.col(column).replace("intact", "unmodified"))
    if "variant" in table.columns:
        table = table.with_columns(
            variant=pl.when(pl.col("variant") != "own-masks").then("variant")
        )
    if "level" in table.columns or not {"behaviour", "role"} <= set(table.columns):
        return table
    total = pl.col("behaviour") == "all-" + pl.col("role")
    return table.with_columns(
        level=pl.when(total).then(pl.lit("total")).otherwise(pl.lit("behaviour")),
        behaviour=pl.when(~total).then("behaviour"),
    )


def _flat(value: object, key: str = "") -> dict[str, object]:
    if not isinstance(value, dict):
        return {key: value}
    return {
        name: leaf
        for inner, item in value.items()
        for name, leaf in _flat(item, f"{key}.{inner}" if key else str(inner)).items()
    }


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
