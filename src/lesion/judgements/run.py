"""The jobs of the offline judges: train them and measure their agreement; judge completions."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import torch

from lesion.io.formats import sha256_file, write_parquet
from lesion.judgements import JUDGES, LABELLED, read_answers
from lesion.judgements.agreement import agreement_table
from lesion.judgements.coherence import coherence, repetition
from lesion.judgements.embed import Embedder
from lesion.judgements.jobs import ContrastFiles, JudgeResponsesJob, TrainJudgeJob
from lesion.judgements.kinds.contrast import measure_contrast, read_contrast
from lesion.judgements.learned import SEED, LearnedJudge, train_learned
from lesion.judgements.measures import THRESHOLD
from lesion.models.load import keep_memory
from lesion.pairs.refusal import is_refusal, phrases_digest
from lesion.responses import WAS_RUN
from lesion.sources.fetch import locate

logger = logging.getLogger(__name__)


def train_judge(job: TrainJudgeJob, judge: Path, table: Path) -> None:
    """Train the learned judges on all human scores, and say how far they agree with people.

    Args:
        job: the training data. Judges that are trained on the study's own files are measured too;
            the jobs that judge with them train them.
        judge: output file of the trained judges.
        table: output table of their agreement on full answers and on the first tokens of these.
    """
    keep_memory()
    human_scores, embedder = locate(job.human_scores), Embedder(locate(job.embedder))
    measured = agreement_table(human_scores, embedder, job.tokens)
    further = measure_files(job.contrasts, embedder, job.seed, job.tokens)
    write_parquet(pl.concat([measured, *further]), table)
    train_learned(human_scores, embedder, SEED).save(judge)


def measure_files(
    judges: Mapping[str, ContrastFiles], embedder: Embedder, seed: int, tokens: int
) -> list[pl.DataFrame]:
    """The tables that `measure_contrast` gives for each contrast judge of a study."""
    tables = []
    for name, files in judges.items():
        rows = read_contrast(locate(files.source), files.judge)
        elsewhere = read_contrast(locate(files.elsewhere), files.judge) if files.elsewhere else None
        target = files.judge.label
        tables.append(measure_contrast(name, rows, embedder, seed, target, elsewhere, tokens))
    return tables


def judge_completions(
    job: JudgeResponsesJob, judge: Path, answers: Sequence[Path], out: Path
) -> None:
    """Judge the completions of every variant; equal texts are judged once.

    Args:
        job: the variants of the completions.
        judge: the file that `train_judge` wrote.
        answers: tables of COMPLETIONS, in the order of the job's `variants`.
        out: table of JUDGE_SCORES, with a row for each completion and judge; the score is null if
            the prompt exceeded the model's context.
    """
    torch.set_num_threads(job.threads)
    keep_memory()
    table = read_answers(zip(job.variants, answers, strict=True)).with_columns(
        answer=pl.col("prefill") + pl.col("completion")
    )
    texts = table.select("prompt", "answer", "completion").unique(maintain_order=True)
    # Empty if the model added nothing to the prefill.
    responses = [
        answer if completion.strip() else ""
        for answer, completion in texts.select("answer", "completion").iter_rows()
    ]
    learned = LearnedJudge.load(judge, Embedder(locate(job.embedder)))
    scores = learned.score(texts["prompt"].to_list(), responses)
    repeated = np.array([repetition(text) for text in texts["answer"]])
    judged = texts.with_columns(
        matching=pl.Series(map(float, map(is_refusal, texts["answer"])), dtype=pl.Float64),
        refusal=pl.Series(learned.refusal(responses)),
        learned=pl.Series(scores.harmful),
        relevance=pl.Series(scores.relevance),
        coherence=pl.Series(coherence(scores.relevance, repeated)),
    )
    logger.info(f"judgements: {table.height} completions, {texts.height} of them distinct")
    wide = table.join(judged, on=["prompt", "answer", "completion"], maintain_order="left")
    keys = ["variant", "behaviour", "attack", "prompt"]
    long = wide.unpivot(
        list(JUDGES),
        index=[*keys, "tokens", "finished"],
        variable_name="judge",
        value_name="score",
    )
    matching = pl.col("judge") == "matching"
    judge_scores = long.with_columns(score=pl.when(WAS_RUN).then("score")).select(
        *keys,
        *("judge", "score"),
        label=pl.when(pl.col("judge").is_in(LABELLED)).then(pl.col("score") >= THRESHOLD),
        revision=pl.when(matching)
        .then(pl.lit(phrases_digest()))
        .otherwise(pl.lit(sha256_file(judge))),
    )
    write_parquet(judge_scores, out)
