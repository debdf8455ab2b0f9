"""What the report reads: the tables folder, checked once, so that nothing after has to."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from lesion.io.formats import BadFile, read_json, read_parquet

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
"""Names that may become file names."""

_COLUMNS: dict[str, dict[str, pl.DataType]] = {
    "measurements": {
        "model": pl.String(),
        "variant": pl.String(),
        "behaviour": pl.String(),
        "role": pl.String(),
        "attack": pl.String(),
        "judge": pl.String(),
        "main": pl.Boolean(),
        "metric": pl.String(),
        "value": pl.Float64(),
        "n": pl.Int64(),
        "low": pl.Float64(),
        "high": pl.Float64(),
        "p_adjusted": pl.Float64(),
        "detectable": pl.Float64(),
    },
    "claims": {
        "model": pl.String(),
        "claim": pl.Int64(),
        "name": pl.String(),
        "statistic": pl.String(),
        "variant": pl.String(),
        "value": pl.Float64(),
        "low": pl.Float64(),
        "high": pl.Float64(),
        "n": pl.Int64(),
        "threshold": pl.Float64(),
        "verdict": pl.String(),
        "why": pl.String(),
    },
    "curve": {
        "model": pl.String(),
        "family": pl.String(),
        "share": pl.Float64(),
        "weights": pl.Int64(),
        "seeds": pl.Int64(),
        "behaviour": pl.String(),
        "added": pl.Float64(),
        "low": pl.Float64(),
        "high": pl.Float64(),
        "n": pl.Int64(),
    },
    "halving": {
        "model": pl.String(),
        "family": pl.String(),
        "measure": pl.String(),
        "largest": pl.Int64(),
        "halving": pl.Float64(),
        "low": pl.Float64(),
        "high": pl.Float64(),
        "beyond": pl.Boolean(),
        "below": pl.Boolean(),
        "benign": pl.Float64(),
        "benign_low": pl.Float64(),
        "benign_high": pl.Float64(),
        "n": pl.Int64(),
    },
    "overlap": {
        "model": pl.String(),
        "a": pl.String(),
        "b": pl.String(),
        "role_a": pl.String(),
        "role_b": pl.String(),
        "size_a": pl.Int64(),
        "size_b": pl.Int64(),
        "shared": pl.Int64(),
        "jaccard": pl.Float64(),
        "expected_uniform": pl.Float64(),
        "expected_matrix": pl.Float64(),
        "expected_rows_columns": pl.Float64(),
        "enrichment_rows_columns": pl.Float64(),
        "enrichment_low": pl.Float64(),
        "enrichment_high": pl.Float64(),
        "p_rows_columns": pl.Float64(),
    },
    "where": {
        "model": pl.String(),
        "mask": pl.String(),
        "layer": pl.Int64(),
        "module": pl.String(),
        "weights": pl.Int64(),
        "candidates": pl.Int64(),
    },
    "lines": {
        "model": pl.String(),
        "mask": pl.String(),
        "layer": pl.Int64(),
        "module": pl.String(),
        "axis": pl.String(),
        "index": pl.Int64(),
        "weights": pl.Int64(),
        "share": pl.Float64(),
    },
    "sweep": {
        "model": pl.String(),
        "p": pl.Float64(),
        "q": pl.Float64(),
        "weights": pl.Int64(),
        "harm_nll": pl.Float64(),
        "benign_nll": pl.Float64(),
        "harm_nll_intact": pl.Float64(),
        "benign_nll_intact": pl.Float64(),
        "harm_pairs": pl.Int64(),
        "benign_pairs": pl.Int64(),
        "chosen": pl.Boolean(),
        "pareto": pl.Boolean(),
    },
    "judges": {
        "judge": pl.String(),
        "target": pl.String(),
        "category": pl.String(),
        "metric": pl.String(),
        "value": pl.Float64(),
        "low": pl.Float64(),
        "high": pl.Float64(),
        "n": pl.Int64(),
    },
    "pairs": {
        "model": pl.String(),
        "behaviour": pl.String(),
        "role": pl.String(),
        "split": pl.String(),
        "outcome": pl.String(),
        "pairs": pl.Int64(),
    },
    "training": {
        "model": pl.String(),
        "base": pl.String(),
        "method": pl.String(),
        "step": pl.Int64(),
        "examples": pl.Int64(),
        "loss": pl.Float64(),
        "seed": pl.Int64(),
    },
    "stages": {
        "family": pl.String(),
        "stage": pl.Int64(),
        "name": pl.String(),
        "seeds": pl.Int64(),
        "variant": pl.String(),
        "metric": pl.String(),
        "value": pl.Float64(),
        "low": pl.Float64(),
        "high": pl.Float64(),
        "n": pl.Int64(),
    },
    "retraining": {
        "model": pl.String(),
        "experiment": pl.String(),
        "arm": pl.String(),
        "seeds": pl.Int64(),
        "step": pl.Int64(),
        "examples": pl.Int64(),
        "behaviour": pl.String(),
        "role": pl.String(),
        "metric": pl.String(),
        "value": pl.Float64(),
        "low": pl.Float64(),
        "high": pl.Float64(),
        "n": pl.Int64(),
    },
    "examples": {
        "model": pl.String(),
        "variant": pl.String(),
        "behaviour": pl.String(),
        "role": pl.String(),
        "attack": pl.String(),
        "prompt": pl.String(),
        "completion": pl.String(),
        "refused": pl.Boolean(),
        "harmfulness": pl.Float64(),
        "relevance": pl.Float64(),
        "coherence": pl.Float64(),
    },
}


class Inputs(NamedTuple):
    """The result tables, of one model or of several; floats are finite or null."""

    measurements: pl.DataFrame
    claims: pl.DataFrame
    curve: pl.DataFrame
    halving: pl.DataFrame
    overlap: pl.DataFrame
    where: pl.DataFrame
    lines: pl.DataFrame
    sweep: pl.DataFrame
    judges: pl.DataFrame
    pairs: pl.DataFrame
    training: pl.DataFrame
    stages: pl.DataFrame
    retraining: pl.DataFrame
    examples: pl.DataFrame
    study: Mapping[str, Any]

    def of(self, model: str) -> "Inputs":
        """The rows of one model, with those that are the study's: its judges and its stages."""
        tables = {
            name: getattr(self, name).filter(pl.col("model") == model)
            for name, columns in _COLUMNS.items()
            if "model" in columns
        }
        return self._replace(**tables)

    def of_family(self, family: str) -> "Inputs":
        """The stages of one family of models, and the claims about them, which name it as model."""
        return self._replace(
            claims=self.claims.filter(model=family), stages=self.stages.filter(family=family)
        )

    @property
    def models(self) -> list[str]:
        """Names of the study's models, in the order of the page."""
        return sorted(self.study["models"])

    def notices(self, models: Iterable[str]) -> list[str]:
        """What has to be said of models before any verdict on them, each sentence once."""
        about = self.study["models"]
        said = [text for name in models for text in about.get(name, {}).get("notices", [])]
        return list(dict.fromkeys(said))

    @property
    def families(self) -> list[str]:
        """Names of the families of models whose stages are compared."""
        return self.stages["family"].unique(maintain_order=True).to_list()

    def models_of(self, family: str) -> list[str]:
        """Names of the models of a family's stages, in their order."""
        stages = (self.study["config"].get("stages") or {}).get(family, [])
        return [name for stage in stages for name in stage]

    @property
    def confidence(self) -> float:
        """Level of every interval, such as 0.95."""
        return float(self.study["confidence"])


def read_inputs(tables: Path) -> Inputs:
    """Read every table of a study.

    Args:
        tables: the study's tables folder.

    Raises:
        BadFile: a file is missing or damaged, or lacks a column.
    """
    read = {name: _read(tables / f"{name}.parquet", columns) for name, columns in _COLUMNS.items()}
    path = tables / "study.json"
    study = read_json(path)
    missing = [key for key in ("study", "models", "confidence", "config") if key not in study]
    if missing:
        raise BadFile(f"{path}: lacks `{missing[0]}`. Delete it and run `snakemake` again.")
    _check_names(path, "a model's", study["models"])
    for table, column in (("stages", "family"), ("retraining", "experiment")):
        names = read[table][column].unique().sort()
        _check_names(tables / f"{table}.parquet", f"a valid {column}", names)
    return Inputs(**read, study=study)


def _check_names(path: Path, what: str, names: Iterable[str]) -> None:
    unsafe = [name for name in names if not _NAME.fullmatch(name)]
    if unsafe:
        raise BadFile(f"{path}: {unsafe[0]!r} is not {what} name. Run `snakemake` again.")


def _read(path: Path, columns: Mapping[str, pl.DataType]) -> pl.DataFrame:
    table = read_parquet(path)
    if not table.height:
        # A table made from no rows at all has lost its columns on the way.
        return pl.DataFrame(schema=dict(columns))
    for name in columns:
        if name not in table.columns:
            raise BadFile(
                f"{path}: lacks the column `{name}`. Delete it and run `snakemake` again."
            )
    return table.select(pl.col(name).cast(dtype) for name, dtype in columns.items()).with_columns(
        # NaN and infinity are not JSON, and no chart can place them.
        pl.when(pl.col(pl.Float64).is_finite()).then(pl.col(pl.Float64))
    )
