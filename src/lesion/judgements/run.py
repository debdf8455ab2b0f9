"""The judgements stage's two jobs: train and measure the judge; judge every completion."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from lesion.formats import read_parquet, write_parquet
from lesion.judgements.agreement import measure
from lesion.judgements.coherence import coherence, repetition
from lesion.judgements.learned import LearnedJudge, train
from lesion.pairs.refusal import is_refusal
from lesion.responses import COMPLETIONS

VERDICTS = {
    "variant": pl.String,
    "behaviour": pl.String,
    "attack": pl.String,
    "prompt": pl.String,
    "judge": pl.String,
    "score": pl.Float64,
}
JUDGES = ("matching", "learned", "relevance", "coherence")


def train_judge(human_scores: Path, embedder: Path, judge: Path, table: Path, seed: int) -> None:
    """Train the learned judge on all human scores; write it, and how well it does in folds."""
    write_parquet(measure(human_scores, embedder, seed, refuses=is_refusal), table)
    train(human_scores, embedder, seed).save(judge)


def judge_completions(
    completions: Mapping[str, Path], judge: Path, embedder: Path, out: Path, threads: int
) -> None:
    """Judge the completions of every variant; equal texts are judged once.

    Args:
        completions: table of COMPLETIONS by variant.
        judge: what `train_judge` wrote.
        embedder: folder of the sentence embedder.
        out: table of VERDICTS, one row a completion and judge, scores in [0, 1].
        threads: processor threads.
    """
    import torch

    torch.set_num_threads(threads)
    tables = [
        read_parquet(path, COMPLETIONS).with_columns(variant=pl.lit(variant))
        for variant, path in completions.items()
    ]
    table = pl.concat(tables).with_columns(answer=pl.col("prefill") + pl.col("completion"))
    texts = table.select("prompt", "answer", "completion").unique(maintain_order=True)
    learned = LearnedJudge.load(judge, embedder)
    scores = learned.score(texts["prompt"].to_list(), _given(texts))
    repeated = [repetition(text) for text in texts["answer"]]
    judged = texts.with_columns(
        matching=pl.Series([float(is_refusal(text)) for text in texts["answer"]]),
        learned=pl.Series(scores.harmful),
        relevance=pl.Series(scores.relevance),
        coherence=pl.Series(coherence(scores.relevance, np.array(repeated))),
    )
    print(f"judgements: {texts.height} different of {table.height} completions", file=sys.stderr)
    wide = table.join(judged, on=["prompt", "answer", "completion"], maintain_order="left")
    place = ["variant", "behaviour", "attack", "prompt"]
    long = wide.unpivot(list(JUDGES), index=place, variable_name="judge", value_name="score")
    write_parquet(long.cast(VERDICTS), out)  # type: ignore[arg-type]


def _given(texts: pl.DataFrame) -> Sequence[str]:
    """The answers, empty where the model added nothing to its prefill."""
    return [
        row["answer"] if row["completion"].strip() else "" for row in texts.iter_rows(named=True)
    ]
