"""Collect the measurements of every stage into `tables/`."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from lesion import __version__
from lesion.io.formats import read_json, read_parquet, write_json, write_parquet
from lesion.masks.choose import read_chosen
from lesion.masks.sweep import SWEEP
from lesion.models.record import read_record
from lesion.tables import OF_MASKS, TABLES
from lesion.tables.answers import same_answers
from lesion.tables.claims.claim import Setting
from lesion.tables.claims.table import claims, retraining_claims, stage_claims
from lesion.tables.curve import curve_table, halving_table, judged_halving_table
from lesion.tables.gather import Gathered
from lesion.tables.intervals import Bootstrap
from lesion.tables.jobs import Origin, StudyJob, TablesInput, TablesJob
from lesion.tables.limits import limit_notices
from lesion.tables.measure import Asked, measurements
from lesion.tables.read import headline_of
from lesion.tables.retraining import RETRAINING, retraining_table
from lesion.tables.schemas import FORMAT, SCHEMAS
from lesion.tables.stages import STAGES, stage_table
from lesion.tables.variants import variants_table
from lesion.training import TRAINING


def write_tables(
    job: TablesJob, files: Sequence[Path], out: Mapping[str, Path], models: Path
) -> None:
    """Write every table of TABLES, and a record of each model.

    Args:
        job: the job's specification.
        files: the input files, in the order of the job's `inputs`.
        out: the path of each table.
        models: the path of the JSON record of the models, for `write_study`.
    """
    boot = Bootstrap(job.resamples, job.confidence, job.seed)
    given = dict(zip(job.inputs, files, strict=True))
    parts: dict[str, list[pl.DataFrame]] = {
        name: [] for name in TABLES if name not in ("judges", "stages")
    }
    curves = {}
    about = {}
    for model in job.models:
        gathered = Gathered(job, given, model)
        about[model] = _about(gathered)
        curves[model] = gathered.curve()
        found = _of_model(gathered, boot, about[model])
        for name, table in found.items():
            parts[name].append(table.with_columns(model=pl.lit(model)))
    stages = _stages(job, curves, boot)
    write_parquet(stages, out["stages"])
    parts["claims"].append(stage_claims(stages, job.limit))
    for name, tables in parts.items():
        write_parquet(pl.concat(tables).select(list(SCHEMAS[name])), out[name])
    write_parquet(read_parquet(given[TablesInput(kind="judges", model=None)]), out["judges"])
    settings = {
        "format": FORMAT,
        "seed": job.seed,
        "confidence": job.confidence,
        "version": __version__,
    }
    headline = headline_of(job.variants)._asdict()
    write_json({**settings, "headline": headline, "models": about}, models)


def write_study(job: StudyJob, models: Path, out: Path) -> None:
    """Write the record of a study that lies beside its tables, with its full config.

    It is a separate job, so that a key that affects no number makes only this record stale.

    Args:
        job: the config.
        models: the record of the models that `run` wrote.
        out: the JSON file that the page and every command on the tables read.
    """
    write_json({"study": job.config["study"], **read_json(models), "config": job.config}, out)


def _stages(job: TablesJob, curves: Mapping[str, pl.DataFrame], boot: Bootstrap) -> pl.DataFrame:
    tables = [stage_table(family, job.stages, curves, boot, job.limit) for family in job.stages]
    return pl.concat([pl.DataFrame(schema=STAGES), *tables])


def _of_model(
    gathered: Gathered, boot: Bootstrap, about: dict[str, Any]
) -> dict[str, pl.DataFrame]:
    """The tables of one model; `about` receives the warnings that come before any outcome."""
    model, main = gathered.model, gathered.job.main
    judged = gathered.judged()
    asked = Asked(gathered.nll(), judged, gathered.tasks(), gathered.understanding())
    measured = measurements(model, asked, boot, main)
    curve = gathered.curve()
    prefilled = judged.filter(judge=main, role="harm", attack="prefill")
    halving = pl.concat([halving_table(curve, boot), judged_halving_table(prefilled, curve, boot)])
    retraining = pl.concat(
        [
            pl.DataFrame(schema=RETRAINING),
            *(
                retraining_table(name, gathered.retrained(name), boot)
                for name in gathered.experiments()
            ),
        ]
    )
    of_masks = {name: read_parquet(gathered.file(name)) for name in OF_MASKS}
    sweep = _sweep(gathered)
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
        "variants": variants_table(gathered.job.variants, curve, measured, retraining["arm"]),
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
        "training": _training(gathered),
        "pairs": counted.agg(pairs=pl.len().cast(pl.Int64)),
        "examples": gathered.examples(judged),
    }


def _training(gathered: Gathered) -> pl.DataFrame:
    origin = gathered.job.trained.get(gathered.model, Origin(base="", method="", seed=0))
    about = [pl.lit(value).alias(name) for name, value in origin.model_dump().items()]
    return gathered.training().select(*about, *TRAINING)


def _sweep(gathered: Gathered) -> pl.DataFrame:
    """Every (p, q) that was tried, whether it was chosen, and whether it is Pareto-optimal."""
    table = read_parquet(gathered.file("sweep"), SWEEP).with_row_index("row")
    harm, benign = table["harm_nll"].to_numpy(), table["benign_nll"].to_numpy()
    as_good = (harm[None] >= harm[:, None]) & (benign[None] <= benign[:, None])
    better = (harm[None] > harm[:, None]) | (benign[None] < benign[:, None])
    return table.with_columns(
        chosen=pl.col("row") == read_chosen(gathered.file("chosen")).row,
        pareto=pl.Series(~(as_good & better).any(1), dtype=pl.Boolean),
    ).drop("row", "key")


def _about(gathered: Gathered) -> dict[str, Any]:
    record = read_record(gathered.file("record").parent)
    chosen = read_chosen(gathered.file("chosen"))
    return {
        "architecture": record["architecture"],
        "license": record["license"],
        "chat": record["chat"],
        "digest": record["digest"],
        "candidates": sum(math.prod(shape) for _, shape in record["candidates"]),
        "p": chosen.p,
        "q": chosen.q,
        "limit": chosen.limit,
    }
