"""Harm and utility against the number of weights zeroed: `python benchmarks/curve.py`.

After the default study, with its scores, on its test pairs. Prints, for each family, the seconds
its masks and its NLLs take, the added NLL of harmful and of benign responses at every size, and
the number of weights that halves the likelihood per token of harmful ones.
"""

import argparse
import time
from contextlib import redirect_stderr
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from lesion.io.formats import read_parquet
from lesion.masks.curve import curve_masks
from lesion.plan import jobs
from lesion.plan.outputs import curve_families
from lesion.responses import CURVE
from lesion.responses.curve import respond_family
from lesion.study import Study, load_study, read_config
from lesion.tables.curve import curve_table, halving_table
from lesion.tables.intervals import Bootstrap

FAMILIES = ["shared", "random", "unsigned", "benign-signed"]


def make_masks(study: Study, results: Path, model: str, out: Path) -> float:
    """Make the masks of every family; the seconds it took."""
    job = jobs.curve_masks_job(study, {})
    scores = {name: results / "scores" / model / name for name in job.behaviours.names}
    chosen, started = results / "masks" / model / "chosen.json", time.perf_counter()
    curve_masks(results / "models" / model, scores, chosen, out, job)
    return time.perf_counter() - started


def measure(
    study: Study, results: Path, model: str, folder: Path, family: str
) -> tuple[pl.DataFrame, float]:
    """Measure a family, loading the model; its rows, and the seconds it took."""
    job = jobs.curve_job(study, {"family": family}).model_copy(update={"completing": None})
    pairs = [results / "pairs" / model / f"{name}.parquet" for name in job.roles]
    out, started = folder / f"{family}.parquet", time.perf_counter()
    respond_family(job, results / "models" / model, folder / "masks.parquet", pairs, out, None)
    return read_parquet(out, CURVE), time.perf_counter() - started


def main() -> None:
    """Print seconds and curves."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--families", nargs="+", default=FAMILIES)
    parser.add_argument("--sizes", nargs="+", type=float, default=[2.0**n for n in range(-4, 4)])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--pairs", type=int, help="of each behaviour; all, if not given")
    settings = vars(parser.parse_args())
    study = load_study({**read_config(Path("config.yaml")), "curve": settings})
    results, model = study.folder, next(iter(study.models))
    with TemporaryDirectory() as temporary, (Path(temporary) / "log").open("w") as log:
        folder = Path(temporary)
        with redirect_stderr(log):
            seconds = make_masks(study, results, model, folder / "masks.parquet")
            print(f"masks of every family and size: {seconds:.1f} s")
            rows = []
            for family in curve_families(study):
                table, seconds = measure(study, results, model, folder, family)
                rows.append(table)
                print(f"{family}: {table.height} NLLs, {seconds:.1f} s", flush=True)
    boot = Bootstrap(study.tables.resamples, study.tables.confidence, study.seed)
    nll = pl.concat(rows)
    totals = curve_table(nll, boot).filter(pl.col("level") == "total")
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=160, float_precision=3):
        print(totals.drop("seeds", "level", "behaviour"))
        print(halving_table(nll, boot).drop("sizes", "below", "n", "benign_n"))


if __name__ == "__main__":
    main()
