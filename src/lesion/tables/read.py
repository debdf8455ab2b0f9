"""Reading the tables of a finished study; they are checked here and nowhere else."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from lesion.io.formats import BadFile, read_json, read_parquet
from lesion.study.types import NAME, headline_mask
from lesion.tables.rows import RANDOM, UNMODIFIED
from lesion.tables.schemas import FORMAT, SCHEMAS


class Headline(NamedTuple):
    """The masks that the page compares with the unmodified model, side by side."""

    mask: str
    control: str | None
    """The control that zeroes as many random weights as the shared mask has."""

    @property
    def columns(self) -> dict[str, str]:
        """The variant of each column, by the name of the column."""
        control = {} if self.control is None else {"random": self.control}
        return {"unmodified": UNMODIFIED, "ablated": self.mask, **control}


def headline_of(variants: Sequence[str]) -> Headline:
    """The shared mask and its random control, or else the first mask that was evaluated."""
    return Headline(headline_mask(variants), RANDOM if RANDOM in variants else None)


class StudyTables(NamedTuple):
    """The result tables, of one model or of several; floats are finite or null."""

    measurements: pl.DataFrame
    variants: pl.DataFrame
    claims: pl.DataFrame
    curve: pl.DataFrame
    equal_cost: pl.DataFrame
    halving: pl.DataFrame
    overlap: pl.DataFrame
    where: pl.DataFrame
    lines: pl.DataFrame
    sweep: pl.DataFrame
    judges: pl.DataFrame
    judge_controls: pl.DataFrame
    pairs: pl.DataFrame
    training: pl.DataFrame
    stages: pl.DataFrame
    retraining: pl.DataFrame
    examples: pl.DataFrame
    study: Mapping[str, Any]

    @property
    def headline(self) -> Headline:
        """The masks of the page's columns."""
        return Headline(**self.study["headline"])

    def of(self, model: str) -> "StudyTables":
        """The rows of one model, with the study's own tables: its judges and its stages."""
        tables = {
            name: getattr(self, name).filter(pl.col("model") == model)
            for name in _READ
            if "model" in SCHEMAS[name]
        }
        of_model = tables["claims"].filter(pl.col("scope") != "family")
        return self._replace(**tables | {"claims": of_model})

    def of_family(self, family: str) -> "StudyTables":
        """The stages of one family of models, and the claims about them."""
        return self._replace(
            claims=self.claims.filter(scope="family", model=family),
            stages=self.stages.filter(family=family),
        )

    @property
    def models(self) -> list[str]:
        """Names of the study's models, in the order of the page."""
        return models_in_order(self.study)

    def notices(self, models: Iterable[str]) -> list[str]:
        """The warnings about models that come before any outcome, each sentence once."""
        about = self.study["models"]
        notices = [text for name in models for text in about.get(name, {}).get("notices", [])]
        return list(dict.fromkeys(notices))

    def judged_harm(self, models: Iterable[str]) -> list[str]:
        """Why judged harm may only be compliance, for each model of which that is not ruled out."""
        about = self.study["models"]
        reasons = [about.get(name, {}).get("judged_harm", "") for name in models]
        return list(dict.fromkeys(filter(None, reasons)))

    @property
    def families(self) -> list[str]:
        """Names of the families of models whose stages are compared."""
        return self.stages["family"].unique(maintain_order=True).to_list()

    def models_of(self, family: str) -> list[str]:
        """Names of the models of a family's stages, in their order."""
        stages = (self.study["config"].get("training_stages") or {}).get(family, [])
        return [name for stage in stages for name in stage]

    @property
    def confidence(self) -> float:
        """Level of every interval, such as 0.95."""
        return float(self.study["confidence"])


_READ = [name for name in StudyTables._fields if name in SCHEMAS]


def read_study_record(tables: Path) -> dict[str, Any]:
    """The content of `study.json`, the record of a study in its tables folder.

    Raises:
        BadFile: the file is missing or damaged, or of another version.
    """
    path = tables / "study.json"
    study: dict[str, Any] = read_json(path)
    if study.get("format") != FORMAT:
        raise BadFile(f"{path}: is of another version of lesion. Run `snakemake` again.")
    for key in ("study", "models", "confidence", "config", "headline"):
        if key not in study:
            raise BadFile(f"{path}: lacks `{key}`. Delete it and run `snakemake` again.")
    return study


def models_in_order(study: Mapping[str, Any]) -> list[str]:
    """The models of a study's record in the order in which its config names them, if known."""
    order = study.get("model_order", [])
    places = {name: place for place, name in enumerate(order)}
    return sorted(study["models"], key=lambda name: (places.get(name, len(order)), name))


def read_study_tables(tables: Path) -> StudyTables:
    """Read every table in a study's tables folder.

    Raises:
        BadFile: a file is missing or damaged, or lacks a column.
    """
    path = tables / "study.json"
    study = read_study_record(tables)
    read = {name: _read(tables / f"{name}.parquet", SCHEMAS[name]) for name in _READ}
    _check_names(path, "a model's", study["models"])
    for table, column in (("stages", "family"), ("retraining", "experiment")):
        names = read[table][column].unique().sort()
        _check_names(tables / f"{table}.parquet", f"a valid {column}", names)
    return StudyTables(**read, study=study)


def _check_names(path: Path, what: str, names: Iterable[str]) -> None:
    unsafe = [name for name in names if not NAME.fullmatch(name)]
    if unsafe:
        raise BadFile(f"{path}: {unsafe[0]!r} is not {what} name. Run `snakemake` again.")


def _read(path: Path, columns: Mapping[str, Any]) -> pl.DataFrame:
    table = read_parquet(path)
    for name in columns:
        if name not in table.columns:
            raise BadFile(
                f"{path}: lacks the column `{name}`. Delete it and run `snakemake` again."
            )
    return table.select(pl.col(name).cast(dtype) for name, dtype in columns.items()).with_columns(
        # NaN and infinity are not JSON, and no chart can place them.
        pl.when(pl.col(pl.Float64).is_finite()).then(pl.col(pl.Float64))
    )
