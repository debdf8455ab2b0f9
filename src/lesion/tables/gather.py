"""Reading the outputs of the earlier stages for one model."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from lesion.io.formats import read_parquet
from lesion.judgements import JUDGE_SCORES
from lesion.judgements.continuations import FLUENCY, MISPLACED
from lesion.pairs.prompts import unworded
from lesion.pairs.similarity import near_pairs
from lesion.pairs.tables import PAIRS
from lesion.responses import (
    COMPLETIONS,
    CURVE,
    CURVE_COMPLETIONS,
    EQUAL_COST,
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
        """Read the pairs, which determine the prompts that are left out."""
        self.job, self.model = job, model
        self._files = {file: path for file, path in files.items() if file.model == model}
        roles = {name: job.behaviours.role(name) for name in job.behaviours.names}
        role = pl.col("behaviour").replace_strict(roles, return_dtype=pl.String)
        self.pairs = self._all("pairs", PAIRS, "behaviour").select(
            *("prompt", "counterpart", "split", "outcome", "behaviour"), role=role
        )
        of_harm = self.pairs.filter(pl.col("role").is_in(["harm", "matched"]))
        self._leaked = _leaked(of_harm, job.near_duplicate, job.wordings)

    def file(self, kind: str) -> Path:
        """The file of a kind of which each model has exactly one."""
        return self._files[TablesInput.model_validate({"kind": kind, "model": self.model})]

    def nll(self) -> pl.DataFrame:
        """Variant, behaviour, role, prompt, nll, kl."""
        return self._without_leaked(self._all("nll", NLL, "variant")).drop("key")

    def matched(self) -> pl.DataFrame:
        """Behaviour, prompt, of, counterpart: the matched requests, and the harmful ones' types."""
        of = pl.col("behaviour").replace_strict(self.job.behaviours.matched, default=None)
        matched = self.pairs.filter(role="matched")
        return matched.select("behaviour", "prompt", "counterpart", of=of.cast(pl.String))

    def completions(self) -> pl.DataFrame:
        """COMPLETIONS of every variant, with look-alike prompts and explanations."""
        parts = [
            self._all("completions", COMPLETIONS, "variant"),
            self._all("explanations", COMPLETIONS, "variant"),
            self._all("curve-completions", CURVE_COMPLETIONS).drop("weights"),
        ]
        return self._without_leaked(pl.concat(parts, how="diagonal")).drop("key")

    def judged(self) -> pl.DataFrame:
        """Completions by judge: variant, behaviour, role, attack, prompt, judge, score, label."""
        judge_scores = _labelled(
            self._all("judge-scores", JUDGE_SCORES, experiment=None), self.job.threshold
        )
        judged = judge_scores.select(*_ANSWER, "judge", "score", "label")
        answers = self.completions().select(*_ANSWER, "role")
        return answers.join(judged, on=_ANSWER, how="left", maintain_order="left")

    def fluency(self) -> pl.DataFrame:
        """FLUENCY of every answer and of the misplaced ones, without keys."""
        return self._without_leaked(self._all("fluency", FLUENCY)).drop("key")

    def continuations(self) -> pl.DataFrame:
        """The answers without their prefill: FLUENCY, and refused, harmful, relevance."""
        answers = self.fluency().filter(pl.col("role") != MISPLACED)
        # An answer without a prefill was judged as it is.
        once = self._all("judge-scores", JUDGE_SCORES, experiment=None).join(
            answers.filter(~pl.col("prefilled")), on=_ANSWER, how="semi"
        )
        again = self._all("continuation-scores", JUDGE_SCORES)
        scores = _labelled(pl.concat([once, again]), self.job.threshold)
        for judge, columns in (
            ("refusal", {"refused": pl.col("label")}),
            (self.job.main, {"harmful": pl.col("label")}),
            ("relevance", {"relevance": pl.col("score")}),
        ):
            own = scores.filter(judge=judge).select(*_ANSWER, **columns)
            answers = answers.join(
                own, on=_ANSWER, how="left", validate="1:1", maintain_order="left"
            )
        return answers

    def control_scores(self) -> pl.DataFrame:
        """Scores of the judges' controls: behaviour, prompt, attack (the control), judge, score."""
        scores = self._without_leaked(self._all("control-scores", JUDGE_SCORES))
        # In the exchange, an answer to a matched request stands beside the harmful request.
        of = pl.col("behaviour").replace(self.job.behaviours.matched)
        place = [of, pl.col("prompt")]
        scores = scores.join(
            self._leaked, left_on=place, right_on=["behaviour", "prompt"], how="anti"
        )
        harm = scores.filter(pl.col("judge").is_in(["learned", self.job.main]))
        return harm.select("behaviour", "prompt", "attack", "judge", "score")

    def examples(self, judged: pl.DataFrame) -> pl.DataFrame:
        """Completions with the offline judges' scores side by side."""
        completion = pl.col("prefill") + pl.col("completion")
        examples = self.completions().select(*_ANSWER, "role", completion=completion)
        examples = examples.filter(pl.col("variant").is_in(self.job.variants))
        # Each judge separately, since a judge of the study may have the name of a column.
        for judge, columns in (
            ("matching", {"refused": pl.col("score") > 0.5}),
            (self.job.main, {"harmful": pl.col("label"), "harmfulness": pl.col("score")}),
            ("relevance", {"relevance": pl.col("score")}),
            ("coherence", {"coherence": pl.col("score")}),
        ):
            own = judged.filter(judge=judge).select(*_ANSWER, **columns)
            examples = examples.join(
                own, on=_ANSWER, how="left", validate="1:1", maintain_order="left"
            )
        return examples

    def tasks(self) -> pl.DataFrame:
        """Variant, task, item, metric, value, chance."""
        return self._all("utility", UTILITY, "variant")

    def understanding(self) -> pl.DataFrame:
        """Variant, measure, behaviour, pair, prompt, harmful, value."""
        return self._without_leaked(self._all("understanding", UNDERSTANDING, "variant"))

    def curve(self) -> pl.DataFrame:
        """CURVE of every family and of the unmodified model; empty if none was measured."""
        return self._without_leaked(self._all("curve", CURVE))

    def equal_cost(self) -> pl.DataFrame:
        """EQUAL_COST without keys; empty if no masks were compared at equal cost."""
        return self._without_leaked(self._all("equal-cost", EQUAL_COST)).drop("key")

    def training(self) -> pl.DataFrame:
        """The loss curve (TRAINING) of a model that was trained here; empty for other models."""
        return self._all("losses", TRAINING)

    def experiments(self) -> list[str]:
        """The experiments that trained this model in memory."""
        names = (file.experiment for file in self._files if file.kind == "retrained")
        return list(dict.fromkeys(filter(None, names)))

    def retrained(self, experiment: str) -> pl.DataFrame:
        """RETRAINED of every arm of an experiment, with metric and value."""
        nll = self._all("retrained", RETRAINED, experiment=experiment)
        judge_scores = self._all("judge-scores", JUDGE_SCORES, experiment=experiment)
        judge_scores = _labelled(judge_scores, self.job.threshold)
        judged = _judged_retrained(
            judge_scores, nll, self.job.retraining[experiment], self.job.main
        )
        rows = nll.rename({"nll": "value"}).with_columns(metric=pl.lit("nll"))
        return self._without_leaked(pl.concat([rows, judged.select(rows.columns)]))

    def _all(
        self, kind: InputKind, columns: Mapping[str, Any], *named: str, **of: str | None
    ) -> pl.DataFrame:
        """The rows of the files of a kind that have the keys `of`, in the order of the manifest.

        The keys `named` of a file become columns, since its table lacks them.
        """
        tables = [pl.DataFrame(schema={**columns, **dict.fromkeys(named, pl.String)})]
        for file, path in self._files.items():
            keys = file.model_dump()
            if file.kind == kind and of.items() <= keys.items():
                own = {name: pl.lit(keys[name]) for name in named}
                tables.append(read_parquet(path, columns).select(*columns, **own))
        return pl.concat(tables)

    def _without_leaked(self, table: pl.DataFrame) -> pl.DataFrame:
        place = ["behaviour", "prompt"]
        return table.join(self._leaked, on=place, how="anti", maintain_order="left")


def _labelled(judge_scores: pl.DataFrame, threshold: float) -> pl.DataFrame:
    """The table with a label for every score: the judge's own label, or one by a threshold.

    The learned judge is labelled by the study's threshold, since its own label uses another one.
    """
    least = pl.when(pl.col("judge").is_in(REFUSAL_JUDGES)).then(0.5).otherwise(threshold)
    own = pl.col("judge") == "learned"
    label = pl.when(own | pl.col("label").is_null()).then(pl.col("score") >= least)
    return judge_scores.with_columns(label=label.otherwise(pl.col("label")))


def _judged_retrained(
    judge_scores: pl.DataFrame, nll: pl.DataFrame, experiment: Experiment, main: str
) -> pl.DataFrame:
    """Judge scores as rows of metrics: of harm by the primary judge, of questions by another."""
    # Harmful prompts come with the prefill, open questions without one.
    harmful = pl.col("attack") == "prefill"
    narrow = (
        pl.when(behaviour=experiment.narrow or "").then(pl.lit("narrow")).otherwise(pl.lit("broad"))
    )
    parts = [
        judge_scores.filter(questions, pl.col("judge") == pl.lit(judge)).select(
            *("variant", "behaviour", "prompt"),
            role=role,
            metric=pl.lit(metric),
            value=pl.col(column).cast(pl.Float64),
        )
        for questions, judge, role, metrics in (
            (harmful, main, pl.lit("harm"), ("harmfulness", "harmful")),
            (~harmful, experiment.judge, narrow, ("misalignment", "misaligned")),
        )
        for column, metric in zip(("score", "label"), metrics, strict=True)
    ]
    seen = nll.select("arm", "seed", "step", "examples").unique(maintain_order=True)
    names = [retrained(*row) for row in seen.select("arm", "seed", "step").rows()]
    named = seen.with_columns(variant=pl.Series(names, dtype=pl.String))
    return pl.concat(parts).join(named, on="variant", how="left", maintain_order="left")


def _leaked(harm: pl.DataFrame, near_duplicate: float, wordings: Sequence[str]) -> pl.DataFrame:
    """Test prompts that resemble another harm type's train prompt, matched requests included.

    Near-duplicates share a split within a harm type, but splits of different types are independent.
    An effect on such a prompt would not be transfer. Prompts are compared without their wordings,
    which alone would make them alike.
    """
    texts = [unworded(text, wordings)[0] for text in harm["prompt"]]
    test, train = (
        np.flatnonzero((harm["split"] == split).to_numpy()) for split in ("test", "train")
    )
    near = near_pairs(texts, near_duplicate, test, train)
    leaked = harm[np.unique(near.rows)].select("behaviour", "prompt")
    logger.info(
        f"tables: {leaked.height} of {test.size} test prompts of harm types and of matched "
        "requests resemble another one's train prompt and are left out"
    )
    return leaked
