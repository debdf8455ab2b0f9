"""Scoring of completions by a further judge of a study."""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from lesion.io.formats import atomic, write_parquet
from lesion.io.progress import progress
from lesion.io.reuse import due, key
from lesion.judgements import JUDGE_SCORES, read_answers
from lesion.judgements.jobs import JudgeResponsesExtraJob
from lesion.judgements.kinds import build_judge
from lesion.judgements.protocol import Judge, Judgement
from lesion.responses import WAS_RUN

logger = logging.getLogger(__name__)

JUDGED_ROLES = ("harm", "broad", "narrow", "control")
"""Roles of prompts that are judged: harmful ones, open questions outside and within the narrow
domain of a training, and the controls of the judges (`lesion.judgements.controls`)."""


class SavedJudgements:
    """Judgements on disk by key, appended as JSON lines as they arrive.

    Each judgement is saved at once, because it may have cost money. The file is next to the output,
    because Snakemake deletes the output itself before the job runs.
    """

    def __init__(self, out: Path) -> None:
        """Read the file, and drop an incomplete last line, which a killed job may have left."""
        self._file = out.with_name(f".{out.name}.rows")
        self.rows: dict[str, Judgement] = {}
        if not self._file.is_file():
            return
        text = self._file.read_text(encoding="utf-8")
        lines, _, incomplete = text.rpartition("\n")
        if incomplete:
            with atomic(self._file) as part:
                part.write_text(f"{lines}\n" if lines else "", encoding="utf-8")
        for line in lines.splitlines():
            row = json.loads(line)
            self.rows[row["key"]] = Judgement(-1, row["score"], row["label"])

    def add(self, name: str, judgement: Judgement) -> None:
        """Save a judgement by its key."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        row = {"key": name, "score": judgement.score, "label": judgement.label}
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        self.rows[name] = judgement


def judge_more(job: JudgeResponsesExtraJob, answers: Sequence[Path], out: Path) -> None:
    """Judge completions by a further judge of the study (see `judge_with`).

    Args:
        job: the judge.
        answers: tables of COMPLETIONS, in the order of the job's `variants`.
        out: table of JUDGE_SCORES.

    Raises:
        BadFile: a file that the judge needs is unusable.
    """
    judge = build_judge(job.name, job.judge, job.places, job.device)
    judge_with(judge, zip(job.variants, answers, strict=True), out)


def judge_with(judge: Judge, completions: Iterable[tuple[str | None, Path]], out: Path) -> None:
    """Judge completions of harmful prompts and of open questions; equal texts are judged once.

    Completions of benign behaviours are not judged, because most of these judges score helpfulness,
    which is harmless there. An empty completion is not sent to the judge: its score is 0, and its
    label is false if the judge has labels.

    Args:
        judge: the judge.
        completions: tables of COMPLETIONS, with their variants.
        out: table of JUDGE_SCORES, one row for each completion; score and label are null if the
            judge's answer cannot be parsed, or the prompt exceeded the model's context.

    Raises:
        LesionError: the judge failed. Its judgements so far are kept for the next run.
    """
    table = read_answers(completions).filter(pl.col("role").is_in(JUDGED_ROLES))
    texts = table.with_columns(was_run=WAS_RUN).iter_rows(named=True)
    prompts, answers = table["prompt"].to_list(), list(map(_answer, texts))
    keys = [
        key(judge=judge.revision, prompt=prompt, answer=answer)
        for prompt, answer in zip(prompts, answers, strict=True)
    ]
    saved = SavedJudgements(out)
    todo = [index for index in due(keys, saved.rows) if answers[index]]
    if todo:
        questions = [prompts[index] for index in todo]
        with progress(f"{judge.name}: answers", len(todo), "answer") as advance:
            for judgement in judge.judge(questions, [answers[index] or "" for index in todo]):
                saved.add(keys[todo[judgement.position]], judgement)
                advance(1)
    logger.info(f"{judge.name}: judged {len(todo)} of {len(keys)} answers")
    empty = Judgement(-1, 0.0, False if judge.labels else None)
    missing = Judgement(-1, None, None)
    judgements = [
        empty if answer == "" else saved.rows.get(name, missing)
        for name, answer in zip(keys, answers, strict=True)
    ]
    rows = table.with_columns(
        judge=pl.lit(judge.name),
        score=pl.Series([judgement.score for judgement in judgements], dtype=pl.Float64),
        label=pl.Series([judgement.label for judgement in judgements], dtype=pl.Boolean),
        revision=pl.lit(judge.revision),
    )
    nulls = rows["score"].null_count()
    logger.info(f"{judge.name}: {nulls} of {rows.height} completions have no score")
    write_parquet(rows.select(pl.col(name).cast(kind) for name, kind in JUDGE_SCORES.items()), out)


def _answer(row: Mapping[str, Any]) -> str | None:
    """The text to judge: empty if the model added nothing to its prefill, None if it did not run
    the prompt.
    """
    if not row["was_run"]:
        return None
    return str(row["prefill"] + row["completion"]) if row["completion"].strip() else ""
