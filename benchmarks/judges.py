"""How far to trust the judges: `python benchmarks/judges.py`.

Trains and measures them on the sources that the default study fetched, with the judge that learns
from studies/advice, and prints the main rows of the table with the seconds of processor time it
took. `--write` puts the learned judges' agreement into the package, where studies read it.
"""

import argparse
import time
from pathlib import Path

import polars as pl
import torch

from lesion.io.formats import write_parquet
from lesion.judgements.agreement import MATCHERS, measure, measured_file
from lesion.judgements.embed import Embedder
from lesion.judgements.jobs import ContrastFiles
from lesion.judgements.learned import SEED, train_learned
from lesion.judgements.run import measure_files
from lesion.sources.fetch import locate
from lesion.sources.jobs import SourceLocation
from lesion.study import load_study, read_config
from lesion.study.judges import ContrastSection

_MEANS = ("true_positive_mean", "true_negative_mean")
_METRICS = (
    *("auroc", "kappa", "ece", "brier", *_MEANS),
    *("shuffled_mean", "off_topic_mean", "repetition_mean"),
)
_ADVICE = Path(__file__).parents[1] / "studies" / "advice"
_CONTRASTS = {
    "contrast": ContrastFiles(
        judge=ContrastSection(kind="contrast", source="answers", label="reckless"),
        source=SourceLocation(path=_ADVICE / "contrast.jsonl"),
        elsewhere=SourceLocation(path=_ADVICE / "measured.jsonl"),
    )
}


def main() -> None:
    """Print agreement, calibration and controls, of all and by category."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, default=Path("config.yaml"))
    parser.add_argument("--write", action="store_true", help="put the table into the package")
    arguments = parser.parse_args()
    config = arguments.config
    study = load_study(read_config(config), str(config))
    sources = Path(study.results) / study.study / "sources"
    human_scores, folder = (
        locate(SourceLocation(path=sources / name, record=sources / f"{name}.json"))
        for name in (study.judgements.human_scores, study.judgements.embedder)
    )
    tokens = study.responses.max_new_tokens
    torch.set_num_threads(1)
    started = time.process_time()
    embedder = Embedder(folder)
    measured = measure(human_scores, embedder, SEED, matchers=MATCHERS, tokens=tokens)
    agreement = pl.concat([measured, *measure_files(_CONTRASTS, embedder, study.seed, tokens)])
    train_learned(human_scores, embedder, SEED)
    seconds = time.process_time() - started
    if arguments.write:
        file = measured_file(human_scores, embedder, tokens)
        write_parquet(measured, file)
        print(f"written: {file.name}")
    for target in agreement["target"].unique(maintain_order=True):
        for name, metrics in (
            ("all", _METRICS),
            ("by category", ("auroc", "kappa", "brier", *_MEANS)),
        ):
            chosen = (pl.col("category") == "all") == (name == "all")
            rows = agreement.filter(chosen, pl.col("metric").is_in(metrics), target=target)
            if rows.height:
                print(f"{target}, {name}")
                print(_wide(rows))
    print(f"{seconds:.0f} s of processor time")


def _wide(rows: pl.DataFrame) -> pl.DataFrame:
    number = pl.col("value").round(3).cast(pl.String)
    interval = pl.format("{} ({}–{})", number, pl.col("low").round(2), pl.col("high").round(2))
    return rows.with_columns(value=interval).pivot(
        "metric", index=["judge", "category"], values="value"
    )


if __name__ == "__main__":
    with pl.Config(tbl_rows=200, tbl_cols=20, fmt_str_lengths=60, tbl_width_chars=240):
        main()
