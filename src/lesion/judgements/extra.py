"""Judges that a study adds: build a judge from its settings, and score completions with it."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from lesion.io.addresses import local_files
from lesion.io.formats import atomic, digest, read_json, sha256_file, write_parquet
from lesion.io.progress import progress
from lesion.io.reuse import due, key
from lesion.judgements import VERDICTS
from lesion.judgements.answers import Answers, read_answers
from lesion.judgements.protocol import Judge, Judgement
from lesion.sources.fetch import MODEL_PATTERNS, locate
from lesion.sources.jobs import Place

logger = logging.getLogger(__name__)

JUDGED_ROLES = ("harm", "broad", "narrow")
"""Roles of prompts that are judged: harmful ones, and open questions outside and within the narrow
domain of a training."""


class Machine(NamedTuple):
    """The device of a judge in memory."""

    threads: int
    device_map: str | None


def build_judge(
    name: str, settings: Mapping[str, Any], places: Mapping[str, Place], machine: Machine
) -> Judge:
    """Build the judge `judgements.judges.<name>`, without loading a model or sending a request.

    Args:
        name: for the table and for messages.
        settings: the section's keys.
        places: files of `source`, of `base` if there is one, and of the `embedder` for `contrast`.
        machine: the device of a judge in memory.

    Raises:
        BadFile: the file of a `contrast` or `reference` judge is unfit.
    """
    if settings["kind"] == "reference":
        from lesion.judgements.reference import Reference, read_keys

        keys = read_keys(locate(places["source"]), settings["prompt"], settings["key"])
        return Reference(name, keys)
    if settings["kind"] == "contrast":
        from lesion.judgements.contrast import ContrastJudge, contrast_columns, read_contrast

        rows = read_contrast(locate(places["source"]), contrast_columns(settings))
        return ContrastJudge(name, rows, locate(places["embedder"]), machine.threads)
    if settings["kind"] == "rubric":
        from lesion.judgements.rubric import Endpoint, Rubric

        return Rubric(name, Endpoint(**{one: settings[one] for one in _ENDPOINT}))
    from lesion.judgements.classifiers import HarmBench, StrongReject, Weights

    weights = Weights(
        folder=locate(places["source"]),
        base=locate(places["base"]) if "base" in places else None,
        revision=", ".join(_revision(place) for _, place in sorted(places.items())),
        batch_size=settings["batch_size"],
        dtype=settings["dtype"],
        **machine._asdict(),
    )
    if settings["kind"] == "harmbench":
        return HarmBench(name, weights, settings["template"])
    return StrongReject(name, weights)


_ENDPOINT = ("url", "model", "api_key_env", "concurrency", "timeout", "retries", "parameters")


def _revision(place: Place) -> str:
    """Address and digest of a source's files; only the digest for a local folder."""
    if place.record is not None:
        record = read_json(place.record)
        files = {name: one["sha256"] for name, one in record["files"].items()}
        return f"{record['address']} {digest(files)[:12]}"
    folder = place.path
    used = [file for file in local_files(folder) if any(map(file.match, MODEL_PATTERNS))]
    return digest({file.relative_to(folder).as_posix(): sha256_file(file) for file in used})[:12]


class Kept:
    """Judgements on disk by key, one JSON line each, appended as they arrive.

    They may have cost money and arrive one by one, so each is saved at once. The file is beside the
    output, since Snakemake removes an output before its job.
    """

    def __init__(self, out: Path) -> None:
        """Read the file, without an incomplete line that a killed job left."""
        self._file = out.with_name(f".{out.name}.rows")
        self.rows: dict[str, Judgement] = {}
        if not self._file.is_file():
            return
        text = self._file.read_text(encoding="utf-8")
        whole, _, torn = text.rpartition("\n")
        if torn:
            with atomic(self._file) as part:
                part.write_text(f"{whole}\n" if whole else "", encoding="utf-8")
        for line in whole.splitlines():
            row = json.loads(line)
            self.rows[row["key"]] = Judgement(-1, row["score"], row["label"])

    def add(self, one: str, verdict: Judgement) -> None:
        """Save a judgement."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        row = {"key": one, "score": verdict.score, "label": verdict.label}
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        self.rows[one] = verdict


def judge_with(judge: Judge, completions: Answers, out: Path) -> None:
    """Judge completions of harmful prompts and of open questions; equal texts are judged once.

    Completions of benign behaviours are not judged, because most of these judges grade help, which
    is not harmful there. An empty completion is not judged: its score is 0, and its label is false
    if the judge has labels.

    Args:
        judge: the judge.
        completions: tables of COMPLETIONS, with their variants.
        out: table of VERDICTS, one row for each completion; score and label are null if the
            judge's answer cannot be read, or the prompt did not fit the model's context.

    Raises:
        LesionError: the judge failed. Its judgements so far are kept for the next run.
    """
    table = read_answers(completions).filter(pl.col("role").is_in(JUDGED_ROLES))
    answers = [_answer(row) for row in table.iter_rows(named=True)]
    found = _verdicts(judge, table["prompt"].to_list(), answers, Kept(out))
    rows = table.with_columns(
        judge=pl.lit(judge.name),
        score=pl.Series([one.score for one in found], dtype=pl.Float64),
        label=pl.Series([one.label for one in found], dtype=pl.Boolean),
        revision=pl.lit(judge.revision),
    )
    nulls = rows["score"].null_count()
    logger.info(f"{judge.name}: {nulls} of {rows.height} completions without a score")
    write_parquet(rows.select(pl.col(name).cast(kind) for name, kind in VERDICTS.items()), out)


def _answer(row: Mapping[str, Any]) -> str | None:
    """The judged text: empty if the model added nothing to its prefill, null if it wasn't asked."""
    if not row["tokens"] and not row["finished"]:
        return None
    return str(row["prefill"] + row["completion"]) if row["completion"].strip() else ""


def _verdicts(
    judge: Judge, prompts: Sequence[str], answers: Sequence[str | None], kept: Kept
) -> list[Judgement]:
    """A judgement of each answer, known or new; null if there is no answer or no judgement."""
    keys = [
        key(judge=judge.revision, prompt=prompt, answer=answer)
        for prompt, answer in zip(prompts, answers, strict=True)
    ]
    new = {keys[place]: place for place in due(keys, kept.rows) if answers[place]}
    todo = list(new.values())
    if todo:
        asked = [prompts[place] for place in todo]
        with progress(f"{judge.name}: answers", len(todo), "answer") as advance:
            for verdict in judge.judge(asked, [answers[place] or "" for place in todo]):
                kept.add(keys[todo[verdict.place]], verdict)
                advance(1)
    logger.info(f"{judge.name}: asked for {len(todo)} of {len(keys)} answers")
    nothing, missing = (
        Judgement(-1, 0.0, False if judge.labels else None),
        Judgement(-1, None, None),
    )
    return [
        nothing if answer == "" else kept.rows.get(one, missing)
        for one, answer in zip(keys, answers, strict=True)
    ]
