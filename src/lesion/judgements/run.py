"""The jobs of the offline judges: train them and measure their agreement; judge completions."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import torch

from lesion.io.formats import sha256_file, write_parquet
from lesion.judgements import JUDGES, LABELLED
from lesion.judgements.agreement import measure
from lesion.judgements.answers import read_answers
from lesion.judgements.coherence import coherence, repetition
from lesion.judgements.contrast import contrast_columns, measure_contrast, read_contrast
from lesion.judgements.embed import Embedder
from lesion.judgements.jobs import ContrastFiles, JudgeJob, JudgementsJob
from lesion.judgements.learned import LearnedJudge, train_learned
from lesion.judgements.measures import THRESHOLD
from lesion.models.load import keep_memory
from lesion.pairs.refusal import is_published_refusal, is_refusal, phrases_digest
from lesion.sources.fetch import locate

logger = logging.getLogger(__name__)


def train_judge(job: JudgeJob, judge: Path, table: Path) -> None:
    """Train the learned judges on all human scores, and cross-validate them.

    Args:
        job: the training data. Judges that are trained on the study's own files are measured too;
            the jobs that judge with them train them.
        judge: output file of the trained judges.
        table: output table of their agreement on full answers and on the first tokens of these.

    Raises:
        BadFile: a folder or file of the training data is unusable.
    """
    keep_memory()
    human_scores, reader = locate(job.human_scores), Embedder(locate(job.embedder))
    matchers = {
        "refusal-matching": is_refusal,
        "refusal-matching-advbench": is_published_refusal,
    }
    found = measure(human_scores, reader, job.seed, matchers=matchers, tokens=job.tokens)
    further = measure_files(job.contrasts, reader, job.seed, job.tokens)
    write_parquet(pl.concat([found, *further]), table)
    train_learned(human_scores, reader, job.seed).save(judge)


def measure_files(
    judges: Mapping[str, ContrastFiles], embedder: Embedder, seed: int, tokens: int
) -> list[pl.DataFrame]:
    """The tables that `measure_contrast` gives for each contrast judge of a study.

    Raises:
        BadFile: see `read_contrast`.
    """
    return [
        measure_contrast(
            name,
            read_contrast(locate(one.source), contrast_columns(one.judge)),
            embedder,
            seed,
            target=one.judge.label,
            elsewhere=(
                read_contrast(locate(one.elsewhere), contrast_columns(one.judge))
                if one.elsewhere
                else None
            ),
            tokens=tokens,
        )
        for name, one in judges.items()
    ]


def judge_completions(job: JudgementsJob, judge: Path, answers: Sequence[Path], out: Path) -> None:
    """Judge the completions of every variant; equal texts are judged once.

    Args:
        job: the variants of the completions.
        judge: the file that `train_judge` wrote.
        answers: tables of COMPLETIONS, in the order of the job's `variants`.
        out: table of VERDICTS, with a row for each completion and judge; the score is null if the
            prompt exceeded the model's context.
    """
    given = list(zip(job.variants, answers, strict=True))
    torch.set_num_threads(job.threads)
    keep_memory()
    table = read_answers(given).with_columns(answer=pl.col("prefill") + pl.col("completion"))
    texts = table.select("prompt", "answer", "completion").unique(maintain_order=True)
    learned = LearnedJudge.load(judge, locate(job.embedder))
    judged_texts = _judged_texts(texts)
    scores = learned.score(texts["prompt"].to_list(), judged_texts)
    repeated = [repetition(text) for text in texts["answer"]]
    judged = texts.with_columns(
        matching=pl.Series([float(is_refusal(text)) for text in texts["answer"]]),
        refusal=pl.Series(learned.refusal(judged_texts)),
        learned=pl.Series(scores.harmful),
        relevance=pl.Series(scores.relevance),
        coherence=pl.Series(coherence(scores.relevance, np.array(repeated))),
    )
    logger.info(f"judgements: {table.height} completions, {texts.height} of them distinct")
    wide = table.join(judged, on=["prompt", "answer", "completion"], maintain_order="left")
    place = ["variant", "behaviour", "attack", "prompt"]
    long = wide.unpivot(
        list(JUDGES),
        index=[*place, "tokens", "finished"],
        variable_name="judge",
        value_name="score",
    )
    write_parquet(_verdicts(long, sha256_file(judge)), out)


def _verdicts(scored: pl.DataFrame, revision: str) -> pl.DataFrame:
    """Add labels for judges with a threshold; remove the scores of prompts that were not run."""
    asked = pl.col("finished") | (pl.col("tokens") > 0)
    matching = pl.col("judge") == "matching"
    return scored.with_columns(score=pl.when(asked).then("score")).select(
        *("variant", "behaviour", "attack", "prompt", "judge", "score"),
        label=pl.when(pl.col("judge").is_in(LABELLED)).then(pl.col("score") >= THRESHOLD),
        revision=pl.when(matching).then(pl.lit(phrases_digest())).otherwise(pl.lit(revision)),
    )


def _judged_texts(texts: pl.DataFrame) -> Sequence[str]:
    """The answers with their prefill; empty if the model added nothing to the prefill."""
    return [
        row["answer"] if row["completion"].strip() else "" for row in texts.iter_rows(named=True)
    ]
