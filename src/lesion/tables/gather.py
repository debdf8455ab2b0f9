"""Reading what the stages before wrote about one model."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

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
)
from lesion.tables.metrics import REFUSAL_JUDGES
from lesion.training import TRAINING

logger = logging.getLogger(__name__)

_ANSWER = ["variant", "behaviour", "attack", "prompt"]
"""What a completion is known by."""


class Experiment(NamedTuple):
    """A training in memory: of which models, its arms, the endings of their files of verdicts, and
    the domain that was taught.
    """

    models: Sequence[str]
    arms: Sequence[str]
    verdicts: Sequence[str]
    narrow: str | None
    judge: str | None
    """Whose word on the open questions is taken."""


class Study(NamedTuple):
    """What the tables need to know of a study."""

    behaviours: Mapping[str, Sequence[str]]
    """By role."""
    variants: Sequence[str]
    judges: Sequence[str]
    """Those with a table of their own, beside the offline ones."""
    tasked: Sequence[str]
    """Variants that were given tasks."""
    understood: Sequence[str]
    """Variants that were asked about requests."""
    families: Sequence[str]
    """Families of masks measured at several sizes."""
    answering: Sequence[str]
    """Those of them whose masks were completed with, too."""
    stages: Mapping[str, Sequence[Sequence[str]]]
    """Families of training stages, each of one model or one a seed."""
    trained: Mapping[str, Mapping[str, Any]]
    """Models that were trained here, with base, method and seed."""
    retraining: Mapping[str, Experiment]
    """Trainings in memory."""
    main: str
    """The judge whose word on harm is taken where several were asked."""
    config: Mapping[str, Any]


class Gathered:
    """One model's rows, without the test prompts that resemble another harm type's train prompt."""

    def __init__(self, results: Path, model: str, study: Study, near_duplicate: float) -> None:
        """Read the pairs, which say what is left out."""
        self.responses = results / "responses" / model
        self.judgements = results / "judgements" / model
        self.study = study
        self.pairs = _pairs(results, model, study.behaviours)
        self._leaked = _leaked(self.pairs.filter(role="harm"), near_duplicate)

    def nll(self) -> pl.DataFrame:
        """Variant, behaviour, role, prompt, nll, kl."""
        return self._without(self._of("nll.parquet", NLL, self.study.variants)).drop("key")

    def completions(self) -> pl.DataFrame:
        """COMPLETIONS of every variant, with lookalikes and explanations."""
        parts = [self._of("completions.parquet", COMPLETIONS, self.study.variants)]
        if self.study.understood:
            parts.append(self._of("said.parquet", COMPLETIONS, self.study.understood))
        folder = self.responses / "curve"
        parts += [
            read_parquet(folder / f"{family}-completions.parquet", CURVE_COMPLETIONS).drop(
                "weights"
            )
            for family in self.study.answering
        ]
        columns = ["variant", *COMPLETIONS]
        return self._without(pl.concat([one.select(columns) for one in parts])).drop("key")

    def judged(self, threshold: float) -> pl.DataFrame:
        """Completions by judge: variant, behaviour, role, attack, prompt, judge, score, label.

        Args:
            threshold: harmfulness from which the learned judge's score counts as harmful.
        """
        files = [self.judgements.with_suffix(".parquet")]
        files += [self.judgements / f"{judge}.parquet" for judge in self.study.judges]
        verdicts = pl.concat(
            [
                read_parquet(path, VERDICTS).select(*_ANSWER, "judge", "score", "label")
                for path in files
            ]
        )
        return (
            self.completions()
            .select(*_ANSWER, "role")
            .join(_labelled(verdicts, threshold), on=_ANSWER, how="left", maintain_order="left")
        )

    def examples(self, judged: pl.DataFrame) -> pl.DataFrame:
        """Completions with the offline judges' scores side by side."""
        # One by one: a judge of the study's own may be called like a column.
        words = [
            judged.filter(judge=judge).select(*_ANSWER, **columns)
            for judge, columns in (
                ("matching", {"refused": pl.col("score") > 0.5}),
                (self.study.main, {"harmful": pl.col("label"), "harmfulness": pl.col("score")}),
                ("relevance", {"relevance": pl.col("score")}),
                ("coherence", {"coherence": pl.col("score")}),
            )
        ]
        found = (
            self.completions()
            .filter(pl.col("variant").is_in(self.study.variants))
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
        return (
            self._of("utility.parquet", UTILITY, self.study.tasked) if self.study.tasked else None
        )

    def understanding(self) -> pl.DataFrame | None:
        """Variant, measure, behaviour, pair, prompt, harmful, value; None if nothing was asked."""
        asked = self.study.understood
        if not asked:
            return None
        return self._without(self._of("understanding.parquet", UNDERSTANDING, asked))

    def curve(self) -> pl.DataFrame:
        """CURVE of every family, and of the intact model; empty if none was measured."""
        files = [self.responses / "curve" / f"{name}.parquet" for name in self.study.families]
        empty = pl.DataFrame(schema=CURVE)
        return self._without(pl.concat([empty, *(read_parquet(path, CURVE) for path in files)]))

    def training(self, model: str) -> pl.DataFrame:
        """The loss curve of a model that was trained here: TRAINING; empty of any other."""
        if model not in self.study.trained:
            return pl.DataFrame(schema=TRAINING)
        folder = self.responses.parents[1] / "models" / model
        return read_parquet(folder / "training.parquet", TRAINING)

    def retrained(self, experiment: str, threshold: float) -> pl.DataFrame:
        """What trainings in memory gave: RETRAINED, but metric and value, of every arm.

        Args:
            experiment: its name.
            threshold: as `judged` takes it.
        """
        one = self.study.retraining[experiment]
        place = Path("retraining") / experiment
        parts = [self._retrained(place, arm, one, threshold) for arm in one.arms]
        return self._without(pl.concat(parts))

    def _retrained(self, place: Path, arm: str, one: Experiment, threshold: float) -> pl.DataFrame:
        nll = read_parquet(self.responses / place / f"{arm}.parquet", RETRAINED)
        found = nll.rename({"nll": "value"}).with_columns(metric=pl.lit("nll"))
        if not one.verdicts:
            return found
        tables = [
            read_parquet(self.judgements / place / f"{arm}{ending}.parquet", VERDICTS)
            for ending in one.verdicts
        ]
        verdicts = _labelled(pl.concat(tables), threshold)
        judged = _judged_retrained(verdicts, nll, one, self.study.main)
        return pl.concat([found, judged.select(found.columns)])

    def _of(self, name: str, columns: Mapping[str, Any], variants: Sequence[str]) -> pl.DataFrame:
        tables = [
            read_parquet(self.responses / variant / name, columns).with_columns(
                variant=pl.lit(variant)
            )
            for variant in variants
        ]
        return pl.concat(tables)

    def _without(self, table: pl.DataFrame) -> pl.DataFrame:
        place = ["behaviour", "prompt"]
        return table.join(self._leaked, on=place, how="anti", maintain_order="left")


def _labelled(verdicts: pl.DataFrame, threshold: float) -> pl.DataFrame:
    """With a label wherever there is a score: a judge's own, or from which score on.

    The learned judge's threshold is the study's; its own label has another.
    """
    least = pl.when(pl.col("judge").is_in(REFUSAL_JUDGES)).then(0.5).otherwise(threshold)
    own = pl.col("judge") == "learned"
    label = pl.when(own | pl.col("label").is_null()).then(pl.col("score") >= least)
    return verdicts.with_columns(label=label.otherwise(pl.col("label")))


def _judged_retrained(
    verdicts: pl.DataFrame, nll: pl.DataFrame, one: Experiment, main: str
) -> pl.DataFrame:
    """Verdicts as rows of metrics: the main judge's of harm, another one's of open questions."""
    # `<arm>@<step>.<seed>`, as `lesion.responses.retrained` writes it.
    name = pl.col("variant").str.extract_groups(r"^(?<arm>.*)@(?<step>\d+)\.(?<seed>\d+)$")
    # Harm is asked for under the prefill, open questions are put as they are.
    harmful = pl.col("attack") == "prefill"
    asked = verdicts.with_columns(of=name, harmful=harmful).filter(
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
                *("behaviour", "prompt", "of"),
                role=role.otherwise(open_question),
                metric=metric,
                value=pl.col(column).cast(pl.Float64),
            ).drop_nulls("value")
        )
    seen = nll.select("arm", "seed", "step", "examples").unique(maintain_order=True)
    found = pl.concat(parts).unnest("of").with_columns(pl.col("seed", "step").cast(pl.Int64))
    return found.join(seen, on=["arm", "seed", "step"], how="left", maintain_order="left")


def _pairs(results: Path, model: str, behaviours: Mapping[str, Sequence[str]]) -> pl.DataFrame:
    tables = [
        read_parquet(results / "pairs" / model / f"{name}.parquet", PAIRS)
        .select("prompt", "split", "outcome")
        .with_columns(behaviour=pl.lit(name), role=pl.lit(role))
        for role, names in behaviours.items()
        for name in names
    ]
    return pl.concat(tables)


def _leaked(harm: pl.DataFrame, near_duplicate: float) -> pl.DataFrame:
    """Test prompts that resemble another harm type's train prompt.

    Splits are kept apart within a harm type, and each type's are made without looking at the
    others'. A transfer measured on such a prompt would be none.
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
