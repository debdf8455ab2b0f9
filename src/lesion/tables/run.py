"""Gather what every stage measured into `tables/`."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from lesion import __version__
from lesion.io.formats import read_json, read_parquet, write_json, write_parquet
from lesion.masks.sweep import SWEEP
from lesion.models.record import read_record
from lesion.tables import OF_MASKS, TABLES
from lesion.tables.answers import same_answers
from lesion.tables.claims.claim import Setting
from lesion.tables.claims.table import claims, retraining_claims, stage_claims
from lesion.tables.curve import curve_table, halving_table, judged_halving_table
from lesion.tables.gather import Gathered, Study
from lesion.tables.intervals import Bootstrap
from lesion.tables.limits import limit_notices
from lesion.tables.measure import Asked, measurements
from lesion.tables.read import headline_of
from lesion.tables.retraining import RETRAINING, retraining_table
from lesion.tables.schemas import SCHEMAS
from lesion.tables.stages import STAGES, stage_table
from lesion.training import TRAINING


class Statistics(NamedTuple):
    """How the tables are made."""

    resamples: int
    confidence: float
    seed: int
    threshold: float
    near_duplicate: float
    limit: float
    """Added benign NLL, nats per token, at which stages of training are compared."""


def run(results: Path, out: Path, models: Sequence[str], study: Study, how: Statistics) -> None:
    """Write every table of TABLES, and `study.json`, into `out`.

    Args:
        results: the study's results folder, with every earlier stage done.
        out: folder of the tables.
        models: the study's models.
        study: its behaviours, variants and config.
        how: statistics.
    """
    boot = Bootstrap(how.resamples, how.confidence, how.seed)
    parts: dict[str, list[pl.DataFrame]] = {
        name: [] for name in TABLES if name not in ("judges", "stages")
    }
    curves = {}
    about = {}
    for model in models:
        about[model] = _about(results, model)
        gathered = Gathered(results, model, study, how.near_duplicate)
        curves[model] = gathered.curve()
        found = _of_model(results, model, gathered, how, about[model])
        for name, table in found.items():
            parts[name].append(table.with_columns(model=pl.lit(model)))
    stages = _stages(study, curves, boot, how.limit)
    write_parquet(stages, out / "stages.parquet")
    parts["claims"].append(stage_claims(stages, how.limit))
    for name, tables in parts.items():
        write_parquet(pl.concat(tables).select(list(SCHEMAS[name])), out / f"{name}.parquet")
    write_parquet(read_parquet(results / "judgements" / "judges.parquet"), out / "judges.parquet")
    settings = {"study": study.config["study"], "seed": how.seed, "confidence": how.confidence}
    write_json(
        {
            **settings,
            "version": __version__,
            "headline": headline_of(study.variants)._asdict(),
            "config": study.config,
            "models": about,
        },
        out / "study.json",
    )


def _stages(
    study: Study, curves: Mapping[str, pl.DataFrame], boot: Bootstrap, limit: float
) -> pl.DataFrame:
    tables = [stage_table(family, study.stages, curves, boot, limit) for family in study.stages]
    return pl.concat([pl.DataFrame(schema=STAGES), *tables])


def _of_model(
    results: Path, model: str, gathered: Gathered, how: Statistics, about: dict[str, Any]
) -> dict[str, pl.DataFrame]:
    """The tables of one model; `about` gets what has to be said before its verdicts."""
    study = gathered.study
    judged = gathered.judged(how.threshold)
    asked = Asked(gathered.nll(), judged, gathered.tasks(), gathered.understanding())
    boot = Bootstrap(how.resamples, how.confidence, how.seed)
    measured = measurements(model, asked, boot, study.main)
    curve = gathered.curve()
    prefilled = judged.filter(judge=study.main, role="harm", attack="prefill")
    halving = pl.concat([halving_table(curve, boot), judged_halving_table(prefilled, curve, boot)])
    retraining = pl.concat(
        [
            pl.DataFrame(schema=RETRAINING),
            *(
                retraining_table(name, gathered.retrained(name, how.threshold), boot)
                for name, one in study.retraining.items()
                if model in one.models
            ),
        ]
    )
    masks = results / "masks" / model
    of_masks = {name: read_parquet(masks / f"{name}.parquet") for name in OF_MASKS}
    sweep = _sweep(masks)
    about["notices"] = limit_notices(sweep, about["limit"], measured)
    setting = Setting(
        about["candidates"],
        int(of_masks["where"].filter(mask="shared")["weights"].sum()),
        limit_kept=not about["notices"],
        same=same_answers(gathered.completions()),
    )
    counted = gathered.pairs.group_by("behaviour", "role", "split", "outcome", maintain_order=True)
    return {
        "measurements": measured,
        "claims": pl.concat(
            [
                claims(model, measured, halving, setting),
                retraining_claims(model, retraining, limit_kept=setting.limit_kept),
            ]
        ),
        "curve": curve_table(curve, boot),
        "halving": halving,
        **of_masks,
        "retraining": retraining,
        "sweep": sweep,
        "training": _training(gathered, model),
        "pairs": counted.agg(pairs=pl.len().cast(pl.Int64)),
        "examples": gathered.examples(judged),
    }


def _training(gathered: Gathered, model: str) -> pl.DataFrame:
    about = gathered.study.trained.get(model, {"base": "", "method": "", "seed": 0})
    made = [pl.lit(value).alias(name) for name, value in about.items()]
    return gathered.training(model).select(*made, *TRAINING)


def _sweep(masks: Path) -> pl.DataFrame:
    """The trials of (p, q): which was chosen, and which no other beats on both sides."""
    table = read_parquet(masks / "sweep.parquet", SWEEP)
    chosen = read_json(masks / "chosen.json")
    harm, benign = table["harm_nll"].to_numpy(), table["benign_nll"].to_numpy()
    as_good = (harm[None] >= harm[:, None]) & (benign[None] <= benign[:, None])
    better = (harm[None] > harm[:, None]) | (benign[None] < benign[:, None])
    return table.with_columns(
        chosen=(pl.col("p") == chosen["p"]) & (pl.col("q") == chosen["q"]),
        pareto=pl.Series(~(as_good & better).any(1), dtype=pl.Boolean),
    ).drop("key")


def _about(results: Path, model: str) -> dict[str, Any]:
    record = read_record(results / "models" / model)
    return {
        "architecture": record["architecture"],
        "license": record["license"],
        "chat": record["chat"],
        "digest": record["digest"],
        "candidates": sum(math.prod(shape) for _, shape in record["candidates"]),
        **read_json(results / "masks" / model / "chosen.json"),
    }
