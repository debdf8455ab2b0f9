"""Reading the outputs of the earlier stages for one model."""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from lesion.io.formats import read_parquet
from lesion.judgements import VERDICTS
from lesion.pairs.prompts import similarity
from lesion.pairs.tables import PAIRS
from lesion.responses import (
    COMPLETIONS,
    CURVE,
    CURVE_COMPLETIONS,
    NLL,
    RETRAINED,
    UNDERSTANDING,
    UTILITY,
    retrained,
)
from lesion.tables.jobs import Experiment, InputKind, TablesInput, TablesJob
from lesion.tables.metrics import REFUSAL_JUDGES
from lesion.training import TRAINING

logger = logging.getLogger(__name__)

_ANSWER = ["variant", "behaviour", "attack", "prompt"]
"""The key of a completion."""


class Gathered:
    """One model's rows, without the test prompts that resemble another harm type's train prompt."""

    def __init__(self, job: TablesJob, files: Mapping[TablesInput, Path], model: str) -> None:
        """Read the pairs, which determine the prompts that are left out.

        Args:
            job: the job's specification.
            files: the paths of its inputs.
            model: the model's name.
        """
        self.job, self.model = job, model
        self._files = {one: path for one, path in files.items() if one.model == model}
        self.pairs = pl.concat(
            [
                table.select("prompt", "split", "outcome").with_columns(
                    behaviour=pl.lit(one.behaviour),
                    role=pl.lit(job.behaviours.role(str(one.behaviour))),
                )
                for one, table in self._read("pairs", PAIRS)
            ]
        )
        self._leaked = _leaked(self.pairs.filter(role="harm"), job.near_duplicate)

    def file(self, kind: str) -> Path:
        """The file of a kind of which each model has exactly one."""
        return self._files[TablesInput.model_validate({"kind": kind, "model": self.model})]

    def nll(self) -> pl.DataFrame:
        """Variant, behaviour, role, prompt, nll, kl."""
        return self._without(self._of_variants("nll", NLL)).drop("key")

    def completions(self) -> pl.DataFrame:
        """COMPLETIONS of every variant, with look-alike prompts and explanations."""
        parts = [
            self._of_variants("completions", COMPLETIONS),
            self._of_variants("explanations", COMPLETIONS),
            *(table for _, table in self._read("curve-completions", CURVE_COMPLETIONS)),
        ]
        columns = ["variant", *COMPLETIONS]
        return self._without(pl.concat([one.select(columns) for one in parts])).drop("key")

    def judged(self) -> pl.DataFrame:
        """Completions by judge: variant, behaviour, role, attack, prompt, judge, score, label."""
        verdicts = pl.concat(
            [
                table.select(*_ANSWER, "judge", "score", "label")
                for one, table in self._read("verdicts", VERDICTS)
                if one.experiment is None
            ]
        )
        labelled = _labelled(verdicts, self.job.threshold)
        return (
            self.completions()
            .select(*_ANSWER, "role")
            .join(labelled, on=_ANSWER, how="left", maintain_order="left")
        )

    def examples(self, judged: pl.DataFrame) -> pl.DataFrame:
        """Completions with the offline judges' scores side by side."""
        # Each judge separately, since a judge of the study may have the name of a column.
        words = [
            judged.filter(judge=judge).select(*_ANSWER, **columns)
            for judge, columns in (
                ("matching", {"refused": pl.col("score") > 0.5}),
                (self.job.main, {"harmful": pl.col("label"), "harmfulness": pl.col("score")}),
                ("relevance", {"relevance": pl.col("score")}),
                ("coherence", {"coherence": pl.col("score")}),
            )
        ]
        found = (
            self.completions()
            .filter(pl.col("variant").is_in(self.job.variants))
            .select(*_ANSWER, "role", completion=pl.col("prefill") + pl.col("completion"))
        )
        for one in words:
            found = found.join(one, on=_ANSWER, how="left", validate="1:1", maintain_order="left")
        return found.select(
            *("variant", "behaviour", "role", "attack", "prompt", "completion"),
            *("refused", "harmful", "harmfulness", "relevance", "coherence"),
        )

    def tasks(self) -> pl.DataFrame | None:
        """Variant, task, item, metric, value; None if no tasks were given."""
        found = self._of_variants("utility", UTILITY)
        return found if self._has("utility") else None

    def understanding(self) -> pl.DataFrame | None:
        """Variant, measure, behaviour, pair, prompt, harmful, value; None if not measured."""
        found = self._of_variants("understanding", UNDERSTANDING)
        return self._without(found) if self._has("understanding") else None

    def curve(self) -> pl.DataFrame:
        """CURVE of every family and of the unmodified model; empty if none was measured."""
        tables = [table for _, table in self._read("curve", CURVE)]
        return self._without(pl.concat([pl.DataFrame(schema=CURVE), *tables]))

    def training(self) -> pl.DataFrame:
        """The loss curve (TRAINING) of a model that was trained here; empty for other models."""
        tables = [table for _, table in self._read("losses", TRAINING)]
        return pl.concat([pl.DataFrame(schema=TRAINING), *tables])

    def experiments(self) -> list[str]:
        """The experiments that trained this model in memory."""
        found = (one.experiment for one in self._files if one.kind == "retrained")
        return list(dict.fromkeys(filter(None, found)))

    def retrained(self, experiment: str) -> pl.DataFrame:
        """The results of trainings in memory: RETRAINED of every arm, with metric and value.

        Args:
            experiment: its name.
        """
        parts = [
            self._retrained(one, nll)
            for one, nll in self._read("retrained", RETRAINED)
            if one.experiment == experiment
        ]
        return self._without(pl.concat(parts))

    def _retrained(self, arm: TablesInput, nll: pl.DataFrame) -> pl.DataFrame:
        found = nll.rename({"nll": "value"}).with_columns(metric=pl.lit("nll"))
        tables = [
            table
            for one, table in self._read("verdicts", VERDICTS)
            if (one.experiment, one.arm) == (arm.experiment, arm.arm)
        ]
        if not tables:
            return found
        experiment = self.job.retraining[str(arm.experiment)]
        verdicts = _labelled(pl.concat(tables), self.job.threshold)
        judged = _judged_retrained(verdicts, nll, experiment, self.job.main)
        return pl.concat([found, judged.select(found.columns)])

    def _has(self, kind: InputKind) -> bool:
        return any(one.kind == kind for one in self._files)

    def _read(
        self, kind: InputKind, columns: Mapping[str, Any]
    ) -> Iterator[tuple[TablesInput, pl.DataFrame]]:
        """The tables of a kind and their descriptions, in the order of the manifest."""
        for one, path in self._files.items():
            if one.kind == kind:
                yield one, read_parquet(path, columns)

    def _of_variants(self, kind: InputKind, columns: Mapping[str, Any]) -> pl.DataFrame:
        tables = [
            table.select(*columns, variant=pl.lit(one.variant))
            for one, table in self._read(kind, columns)
        ]
        empty = pl.DataFrame(schema={**columns, "variant": pl.String})
        return pl.concat([empty, *tables])

    def _without(self, table: pl.DataFrame) -> pl.DataFrame:
        place = ["behaviour", "prompt"]
        return table.join(self._leaked, on=place, how="anti", maintain_order="left")


def _labelled(verdicts: pl.DataFrame, threshold: float) -> pl.DataFrame:
    """The table with a label for every score: the judge's own label, or one by a threshold.

    The learned judge is labelled by the study's threshold, since its own label uses another one.
    """
    least = pl.when(pl.col("judge").is_in(REFUSAL_JUDGES)).then(0.5).otherwise(threshold)
    own = pl.col("judge") == "learned"
    label = pl.when(own | pl.col("label").is_null()).then(pl.col("score") >= least)
    return verdicts.with_columns(label=label.otherwise(pl.col("label")))


def _judged_retrained(
    verdicts: pl.DataFrame, nll: pl.DataFrame, one: Experiment, main: str
) -> pl.DataFrame:
    """Judge scores as rows of metrics: of harm by the primary judge, of questions by another."""
    # Harmful prompts come with the prefill, open questions without one.
    harmful = pl.col("attack") == "prefill"
    asked = verdicts.with_columns(harmful=harmful).filter(
        pl.col("judge") == pl.when("harmful").then(pl.lit(main)).otherwise(pl.lit(one.judge))
    )
    role = pl.when("harmful").then(pl.lit("harm"))
    open_question = (
        pl.when(behaviour=one.narrow or "").then(pl.lit("narrow")).otherwise(pl.lit("broad"))
    )
    parts = []
    for column, of_harm, of_question in (
        ("score", "harmfulness", "misalignment"),
        ("label", "harmful", "misaligned"),
    ):
        metric = pl.when("harmful").then(pl.lit(of_harm)).otherwise(pl.lit(of_question))
        parts.append(
            asked.select(
                *("variant", "behaviour", "prompt"),
                role=role.otherwise(open_question),
                metric=metric,
                value=pl.col(column).cast(pl.Float64),
            ).drop_nulls("value")
        )
    seen = nll.select("arm", "seed", "step", "examples").unique(maintain_order=True)
    names = [retrained(*row) for row in seen.select("arm", "seed", "step").rows()]
    named = seen.with_columns(variant=pl.Series(names, dtype=pl.String))
    return pl.concat(parts).join(named, on="variant", how="left", maintain_order="left")


def _leaked(harm: pl.DataFrame, near_duplicate: float) -> pl.DataFrame:
    """Test prompts that resemble another harm type's train prompt.

    Near-duplicates share a split within a harm type, but splits of different types are independent.
    An effect on such a prompt would not be transfer.
    """
    alike = similarity(harm["prompt"].to_list()).tocoo()
    near = alike.data >= near_duplicate
    train, test = ((harm["split"] == split).to_numpy() for split in ("train", "test"))
    rows, columns = alike.row[near], alike.col[near]
    found = harm[np.unique(rows[test[rows] & train[columns]])].select("behaviour", "prompt")
    logger.info(
        f"tables: {found.height} of {int(test.sum())} harmful test prompts resemble another harm "
        "type's train prompt and are left out"
    )
    return found
