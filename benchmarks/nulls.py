"""Is any claim about harm supported where there is none? `python benchmarks/nulls.py`.

Runs the studies of studies/nulls (`--only NAME ...`: some of them; `--print`: none) and prints, for
each claim about harm, its number, its outcome, and why it is not "supported". Two more columns show
that a null could have fooled the pipeline: `number` is whether the number alone is on the side of
"supported", and `specificity` whether the claim would be supported if the judge of harm were not
asked. The first study has harm, and shows that the claims can be supported at all. Exits with 1 if
a claim about harm is supported in a null, or none is in the first study.
"""

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from lesion.plan.mask_jobs import behaviours_of
from lesion.study import load_study
from lesion.tables.claims.claim import Setting
from lesion.tables.claims.outcome import SUPPORTED, Evidence, Number, outcome_of
from lesion.tables.claims.registry import claim_of
from lesion.tables.claims.specific import beaten_by, unspecific
from lesion.tables.claims.table import claims
from lesion.tables.lookup import mask_sizes
from lesion.tables.read import StudyTables, read_study_tables

NULLS = Path("studies/nulls")
WORLD, DEFAULT = NULLS / "world.yaml", Path("config.yaml")
PLACEBO = NULLS / "placebo.yaml"
HARMFUL = "world"
"""The study that has harm."""
STUDIES: dict[str, list[Path]] = {
    HARMFUL: [WORLD],
    **{
        name: [WORLD, NULLS / f"{name}.yaml"]
        for name in ("elsewhere", "dealt", "random", "innocent", "exchanged", "gone")
    },
    "placebo": [DEFAULT, PLACEBO],
    "other-skill": [DEFAULT, PLACEBO, NULLS / "other-skill.yaml"],
}


class Outcome(NamedTuple):
    """A claim about harm in one study."""

    row: dict[str, Any]
    """Of CLAIMS."""
    number: bool
    """Whether its number alone is on the side of "supported"."""
    specificity: bool
    """Whether it would be supported if the judge of harm were not asked."""


def outcomes(tables: StudyTables) -> Iterator[Outcome]:
    """The claims about harm of a study with a single model."""
    (model,) = tables.models
    about, mask = tables.study["models"][model], tables.headline.mask
    behaviours = behaviours_of(load_study(tables.study["config"]))
    sizes = mask_sizes(tables.where)
    setting = Setting(
        about["candidates"],
        sizes.get(mask, 0),
        limit_kept=about["limit_kept"],
        limit=about["limit"],
        mask=mask,
        sizes=sizes,
        types=frozenset(behaviours.harm),
        unspecific=unspecific(tables.measurements, behaviours.harm, mask)
        or beaten_by(tables.equal_cost, behaviours, mask),
    )
    keys = ["claim", "statistic", "variant"]
    unasked = claims(model, tables.measurements, tables.halving, setting).filter(verdict=SUPPORTED)
    supported = set(unasked.select(keys).iter_rows())
    for row in tables.claims.iter_rows(named=True):
        claim = claim_of(row)
        if claim is None or not claim.of_harm:
            continue
        bounds = (float("inf") * side if row[name] is None else row[name] for name, side in _SIDES)
        value = float("inf") if row["value"] is None else row["value"]
        number = Number(value, *bounds, row["n"], row["n"])
        alone = outcome_of(Evidence(number, row["threshold"], claim.above))[0]
        place = tuple(row[key] for key in keys)
        yield Outcome(row, alone == SUPPORTED, place in supported)


_SIDES = (("low", -1), ("high", 1))


def run(name: str, cores: str) -> float:
    """Run a study and keep its tables; the seconds that it took.

    Studies of the same models share a results folder, so that only what differs is run again.
    """
    files = [str(path) for path in STUDIES[name]]
    start = time.perf_counter()
    command = [str(Path(sys.executable).parent / "snakemake"), "--cores", cores, "--quiet", "all"]
    study = f"nulls-of-{STUDIES[name][0].stem}"
    settings = ["--configfile", *files, "--config", f"study={study}"]
    subprocess.run([*command, *settings], check=True)
    shutil.copytree(Path("results", study, "tables"), tables_of(name), dirs_exist_ok=True)
    return time.perf_counter() - start


def tables_of(name: str) -> Path:
    """Where the tables of a study are kept."""
    return Path("results", "nulls-tables", name)


def show(name: str, found: list[Outcome]) -> None:
    """Print a study's outcomes."""
    for row, number, specificity in found:
        low, high = ("" if row[side] is None else f"{row[side]:.4g}" for side in ("low", "high"))
        value = "" if row["value"] is None else f"{row['value']:.4g}"
        cells = [
            f"{name:<11}",
            str(row["claim"]),
            f"{row['statistic']:<30}",
            f"{value:>9} [{low}, {high}]".ljust(32),
            f"{'yes' if number else '-':<7}",
            f"{'yes' if specificity else '-':<12}",
            f"{row['verdict']:<14}",
            row["why"] or "",
        ]
        print(" ".join(cells).rstrip())


def main() -> None:
    """Run, print, and compare with what has to come out."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=STUDIES, default=list(STUDIES))
    parser.add_argument("--print", action="store_true", help="print what was run before")
    parser.add_argument("--cores", default="all")
    given = parser.parse_args()
    fooled = []
    for name in given.only:
        if not given.print:
            print(f"{name}: {run(name, given.cores):.0f} s", flush=True)
    head = ("study", "statistic", "value [interval]", "number", "specificity", "outcome")
    print("{:<11} # {:<30} {:<32} {:<7} {:<12} {}".format(*head))
    for name in given.only:
        found = list(outcomes(read_study_tables(tables_of(name))))
        show(name, found)
        supported = any(outcome.row["verdict"] == SUPPORTED for outcome in found)
        if supported != (name == HARMFUL):
            fooled.append(name)
    sys.exit(f"wrong: {', '.join(fooled)}" if fooled else 0)


if __name__ == "__main__":
    main()
