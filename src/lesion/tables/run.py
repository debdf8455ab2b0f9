"""Gather what every stage measured into `tables/`."""

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from lesion import __version__
from lesion.formats import read_json, read_parquet, write_json, write_parquet
from lesion.judgements import VERDICTS
from lesion.masks.sweep import SWEEP
from lesion.models.record import read_record
from lesion.pairs.prompts import similarity
from lesion.pairs.tables import PAIRS
from lesion.responses import COMPLETIONS, NLL
from lesion.tables import OF_MASKS, TABLES
from lesion.tables.intervals import Bootstrap
from lesion.tables.measure import measurements


class Statistics(NamedTuple):
    """How the tables are made."""

    resamples: int
    confidence: float
    seed: int
    threshold: float
    near_duplicate: float


class Study(NamedTuple):
    """What the tables need to know of a study: behaviours by role, variants, its whole config."""

    behaviours: Mapping[str, Sequence[str]]
    variants: Sequence[str]
    config: Mapping[str, Any]


def run(results: Path, out: Path, models: Sequence[str], study: Study, how: Statistics) -> None:
    """Write every table of TABLES, and `study.json`, into `out`.

    Args:
        results: the study's results folder, with every earlier stage done.
        out: folder of the tables.
        models: the study's models.
        study: its behaviours, variants and config.
        how: statistics.
    """
    parts: dict[str, list[pl.DataFrame]] = {name: [] for name in TABLES if name != "judges"}
    about = {}
    for model in models:
        found = _of_model(results, model, study, how)
        for name, table in found.items():
            parts[name].append(_tagged(table, model))
        about[model] = _about(results, model)
    for name, tables in parts.items():
        write_parquet(pl.concat(tables), out / f"{name}.parquet")
    write_parquet(read_parquet(results / "judgements" / "judges.parquet"), out / "judges.parquet")
    settings = {"study": study.config["study"], "seed": how.seed, "confidence": how.confidence}
    write_json(
        {**settings, "version": __version__, "config": study.config, "models": about},
        out / "study.json",
    )


def _tagged(table: pl.DataFrame, model: str) -> pl.DataFrame:
    rest = [name for name in table.columns if name != "model"]
    return table.with_columns(model=pl.lit(model)).select("model", *rest)


def _of_model(results: Path, model: str, study: Study, how: Statistics) -> dict[str, pl.DataFrame]:
    pairs = _pairs(results, model, study.behaviours)
    leaked = _leaked(pairs.filter(pl.col("role") == "harm"), how)
    nll = _without(_variants(results, model, study, "nll.parquet", NLL), leaked)
    judged = _without(_judged(results, model, study, how.threshold), leaked)
    boot = Bootstrap(how.resamples, how.confidence, how.seed)
    masks = results / "masks" / model
    chosen = read_json(masks / "chosen.json")
    sweep = read_parquet(masks / "sweep.parquet", SWEEP).with_columns(
        chosen=(pl.col("p") == chosen["p"]) & (pl.col("q") == chosen["q"])
    )
    return {
        "measurements": measurements(model, nll, judged, boot),
        **{name: read_parquet(masks / f"{name}.parquet") for name in OF_MASKS},
        "sweep": sweep.drop("key"),
        "pairs": pairs.group_by("behaviour", "role", "split", "outcome", maintain_order=True).agg(
            pairs=pl.len().cast(pl.Int64)
        ),
        "examples": judged.drop("harmful"),
    }


def _pairs(results: Path, model: str, behaviours: Mapping[str, Sequence[str]]) -> pl.DataFrame:
    tables = [
        read_parquet(results / "pairs" / model / f"{name}.parquet", PAIRS)
        .select("prompt", "split", "outcome")
        .with_columns(behaviour=pl.lit(name), role=pl.lit(role))
        for role, names in behaviours.items()
        for name in names
    ]
    return pl.concat(tables)


def _leaked(harm: pl.DataFrame, how: Statistics) -> pl.DataFrame:
    """Test prompts that resemble another harm type's train prompt.

    Splits are kept apart within a harm type, and each type's are made without looking at the
    others'. A transfer measured on such a prompt would be none.
    """
    alike = similarity(harm["prompt"].to_list()).tocoo()
    near = alike.data >= how.near_duplicate
    train, test = ((harm["split"] == split).to_numpy() for split in ("train", "test"))
    rows, columns = alike.row[near], alike.col[near]
    found = harm[np.unique(rows[test[rows] & train[columns]])].select("behaviour", "prompt")
    print(
        f"tables: {found.height} of {int(test.sum())} harmful test prompts resemble another harm "
        "type's train prompt and are left out",
        file=sys.stderr,
    )
    return found


def _without(table: pl.DataFrame, leaked: pl.DataFrame) -> pl.DataFrame:
    return table.join(leaked, on=["behaviour", "prompt"], how="anti", maintain_order="left")


def _variants(
    results: Path, model: str, study: Study, name: str, columns: Mapping[str, Any]
) -> pl.DataFrame:
    tables = [
        read_parquet(results / "responses" / model / variant / name, columns).with_columns(
            variant=pl.lit(variant)
        )
        for variant in study.variants
    ]
    return pl.concat(tables).drop("key")


def _judged(results: Path, model: str, study: Study, threshold: float) -> pl.DataFrame:
    """Completions with their verdicts side by side."""
    verdicts = read_parquet(results / "judgements" / f"{model}.parquet", VERDICTS)
    place = ["variant", "behaviour", "attack", "prompt"]
    wide = verdicts.pivot("judge", index=place, values="score", maintain_order=True)
    completions = _variants(results, model, study, "completions.parquet", COMPLETIONS)
    return (
        completions.join(wide, on=place, how="left", validate="1:1", maintain_order="left")
        .with_columns(
            refused=pl.col("matching") > 0.5,
            harmful=pl.col("learned") >= threshold,
            completion=pl.col("prefill") + pl.col("completion"),
        )
        .rename({"learned": "harmfulness"})
        .select(
            "variant",
            "behaviour",
            "role",
            "attack",
            "prompt",
            "completion",
            "refused",
            "harmful",
            "harmfulness",
            "relevance",
            "coherence",
        )
    )


def _about(results: Path, model: str) -> dict[str, Any]:
    record = read_record(results / "models" / model)
    return {
        "architecture": record["architecture"],
        "license": record["license"],
        "digest": record["digest"],
        "candidates": sum(math.prod(shape) for _, shape in record["candidates"]),
        **read_json(results / "masks" / model / "chosen.json"),
    }
