"""The judgements stage's two jobs: train and measure the judge; judge every completion."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import torch

from lesion.formats import read_parquet, write_parquet
from lesion.judgements import JUDGES, VERDICTS
from lesion.judgements.agreement import measure
from lesion.judgements.coherence import coherence, repetition
from lesion.judgements.embed import Embedder
from lesion.judgements.learned import LearnedJudge, train
from lesion.models.load import keep_memory
from lesion.pairs.refusal import is_refusal
from lesion.responses import COMPLETIONS


def train_judge(
    human_scores: Path, embedder: Path, judge: Path, table: Path, *, seed: int, tokens: int
) -> None:
    """Train the learned judge on all human scores; write it, and how well it does in folds.

    Args:
        human_scores: folder of the human-scored answers.
        embedder: folder of the sentence embedder.
        judge: where the trained judge goes.
        table: how well it does on whole answers, and on their first `tokens`: the human-scored
            answers are long, and the study's completions are not.
        seed: of folds, training and resampling.
        tokens: length of the study's completions.
    """
    keep_memory()
    reader = Embedder(embedder)
    whole = measure(human_scores, reader, seed, refuses=is_refusal)
    cut = measure(human_scores, reader, seed, response_tokens=tokens).with_columns(
        judge=pl.col("judge") + f", first {tokens} tokens"
    )
    write_parquet(pl.concat([whole, cut]), table)
    train(human_scores, reader, seed).save(judge)


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
    torch.set_num_threads(threads)
    keep_memory()
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
