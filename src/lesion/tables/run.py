"""Collect the measurements of every stage into `tables/`."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from lesion import __version__
from lesion.io.formats import read_json, read_parquet, write_json, write_parquet
from lesion.masks.choose import read_chosen
from lesion.masks.sweep import SWEEP
from lesion.models.record import parse_record
from lesion.study.controls import BUILT_CONTROLS, controls_among
from lesion.tables import OF_MASKS, TABLES
from lesion.tables.answer_outcomes import answer_outcomes, nll_limit
from lesion.tables.claims.claim import LIMIT_LOST, Setting
from lesion.tables.claims.specific import beaten_by, not_judged_harmful, unlike_pairs, unspecific
from lesion.tables.claims.table import claims, retraining_claims, stage_claims
from lesion.tables.curve import curve_table, halving_table, judged_halving_table
from lesion.tables.equal_cost import equal_cost_table
from lesion.tables.gather import Gathered
from lesion.tables.intervals import Bootstrap
from lesion.tables.jobs import Origin, Stage, StudyJob, TablesInput, TablesJob
from lesion.tables.judge_controls import judge_control_table, judged_compliance, untold_types
from lesion.tables.limits import limit_notices
from lesion.tables.lookup import mask_sizes
from lesion.tables.measure import (
    PromptNumbers,
    measurements,
    same_answers,
    unscored,
    unscored_arms,
)
from lesion.tables.read import headline_of
from lesion.tables.retraining import RETRAINING, retraining_table
from lesion.tables.rows import UNMODIFIED
from lesion.tables.schemas import FORMAT, SCHEMAS
from lesion.tables.stages import STAGES, stage_table
from lesion.tables.variants import variants_table


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
    headline = headline_of(job.variants)
    parts: dict[str, list[pl.DataFrame]] = {name: [] for name in TABLES}
    curves, about = {}, {}
    for model in job.models:
        gathered = Gathered(job, given, model)
        about[model] = _about(gathered)
        curves[model] = gathered.curve()
        own = _of_model(gathered, curves[model], boot, headline.mask, about[model])
        for name, table in own.items():
            parts[name].append(table.with_columns(model=pl.lit(model)))
    for family, of_family in job.stages.items():
        parts["stages"].append(stage_table(family, of_family, curves, boot, job.limit))
    of_stages = pl.concat([pl.DataFrame(schema=STAGES), *parts["stages"]])
    of_ends = {family: reasons_of_ends(stages, about) for family, stages in job.stages.items()}
    parts["claims"].append(stage_claims(of_stages, job.limit, headline.mask, of_ends))
    parts["judges"].append(read_parquet(given[TablesInput(kind="judges", model=None)]))
    for name, tables in parts.items():
        empty = pl.DataFrame(schema=SCHEMAS[name])
        write_parquet(
            pl.concat([empty, *(table.select(empty.columns) for table in tables)]), out[name]
        )
    settings = {"seed": job.seed, "confidence": job.confidence, "headline": headline._asdict()}
    version = {"format": FORMAT, "version": __version__}
    write_json({**version, **settings, "models": about}, models)


def reasons_of_ends(stages: Sequence[Stage], about: Mapping[str, Mapping[str, Any]]) -> str:
    """Why nothing about harm can be claimed of a family's first and last stage; empty if it can.

    Args:
        stages: of the family, in order.
        about: the record of each model.
    """
    models = [about[model] for stage in (stages[0], stages[-1]) for model in stage.models]
    lost = ["" if own["limit_kept"] else LIMIT_LOST for own in models]
    return " ".join(dict.fromkeys(filter(None, [own["unspecific"] for own in models] + lost)))


def write_study(job: StudyJob, models: Path, out: Path) -> None:
    """Write the record of a study that lies beside its tables, with its full config.

    It is a separate job, so that a key that affects no number makes only this record stale.
    `write_tables` wrote `models`; the page and every command on the tables read `out`.
    """
    # JSON files have sorted keys, so the order in which the config names its models is recorded.
    order = {"model_order": [*job.config["models"]]}
    study = {"study": job.config["study"], "config": job.config}
    write_json({**read_json(models), **study, **order}, out)


def _of_model(
    gathered: Gathered, curve: pl.DataFrame, boot: Bootstrap, mask: str, about: dict[str, Any]
) -> dict[str, pl.DataFrame]:
    """The tables of one model; `about` receives the warnings that come before any outcome."""
    job, model, judged = gathered.job, gathered.model, gathered.judged()
    limit = nll_limit(gathered.fluency())
    about["incoherent_nll"] = limit if math.isfinite(limit) else None
    numbers = PromptNumbers(
        gathered.nll(),
        judged,
        gathered.tasks(),
        gathered.understanding(),
        gathered.matched(),
        answer_outcomes(gathered.continuations(), limit),
    )
    measured = measurements(model, numbers, boot, job.main, mask)
    prefilled = judged.filter(judge=job.main, role="harm", attack="prefill")
    halving = pl.concat([halving_table(curve, boot), judged_halving_table(prefilled, curve, boot)])
    experiments = {name: gathered.retrained(name) for name in gathered.experiments()}
    retrained = [retraining_table(name, rows, boot) for name, rows in experiments.items()]
    retraining = pl.concat([pl.DataFrame(schema=RETRAINING), *retrained])
    of_masks = {name: read_parquet(gathered.file(name)) for name in OF_MASKS}
    sweep = _sweep(gathered)
    of_judges = gathered.control_scores(), gathered.matched(), boot
    controls = judge_control_table(*of_judges)
    judged_harm = not measured.filter(metric="harmfulness").is_empty()
    about["judged_harm"] = judged_compliance(controls, job.main) if judged_harm else ""
    missed = limit_notices(sweep, about["limit"], measured, mask)
    equal_cost = equal_cost_table(
        gathered.equal_cost(),
        numbers.nll.filter(variant=UNMODIFIED),
        gathered.matched(),
        boot,
    )
    why = (
        unspecific(measured, job.behaviours.harm, mask)
        or beaten_by(equal_cost, job.behaviours, mask)
        or not_judged_harmful(controls, job.main, untold_types(*of_judges, job.main))
        or unlike_pairs(gathered.matched(), job.wordings)
    )
    if job.ablation != "zero":
        why = (
            f"The variants' weights were not set to zero (`responses.ablation: {job.ablation}`), "
            f"and the claims are about zeroing them. {why}"
        ).rstrip()
    about["unspecific"] = why
    about["unscored"] = unscored(
        judged.filter(pl.col("variant").is_in([UNMODIFIED, mask])), job.main
    )
    about["limit_kept"] = not missed
    unspecific_notice = f"{why} No claim about harm is supported." if why else ""
    about["notices"] = [*filter(None, [about["judged_harm"], *missed, unspecific_notice])]
    sizes = mask_sizes(of_masks["where"])
    setting = Setting(
        about["candidates"],
        sizes.get(mask, 0),
        limit_kept=not missed,
        limit=job.limit,
        same=same_answers(gathered.completions()),
        mask=mask,
        sizes=sizes,
        controls=frozenset({*BUILT_CONTROLS, *controls_among(sizes, job.behaviours.names)}),
        types=frozenset(job.behaviours.harm),
        unscored=about["unscored"],
        unscored_arms={
            (name, arm): share
            for name, rows in experiments.items()
            for arm, share in unscored_arms(rows).items()
        },
        unspecific=why,
        judged_harm=about["judged_harm"],
    )
    of_training = retraining_claims(model, retraining, setting, measured)
    origin = job.trained.get(model, Origin(base="", method="", seed=0))
    pairs = gathered.pairs.group_by("behaviour", "role", "split", "outcome", maintain_order=True)
    return {
        "measurements": measured,
        "variants": variants_table(
            job.variants, curve, measured, retraining["arm"], of_masks["where"]
        ),
        "claims": pl.concat([claims(model, measured, halving, setting), of_training]),
        "curve": curve_table(curve, boot),
        "equal_cost": equal_cost,
        "halving": halving,
        **of_masks,
        "retraining": retraining,
        "sweep": sweep,
        "training": gathered.training().with_columns(
            base=pl.lit(origin.base),
            method=pl.lit(origin.method),
            seed=pl.lit(origin.seed, pl.Int64),
        ),
        "pairs": pairs.agg(pairs=pl.len().cast(pl.Int64)),
        "judge_controls": controls,
        "examples": gathered.examples(judged),
    }


def _sweep(gathered: Gathered) -> pl.DataFrame:
    """Every (p, q) that was tried, whether it was chosen, and whether it is Pareto-optimal."""
    table = read_parquet(gathered.file("sweep"), SWEEP).with_row_index("row")
    harm, benign = table["harm_nll"].to_numpy(), table["benign_nll"].to_numpy()
    # Nothing is better than NaN, nor as good.
    known = ~(np.isnan(harm) | np.isnan(benign))
    as_good = (harm[None] >= harm[:, None]) & (benign[None] <= benign[:, None])
    better = (harm[None] > harm[:, None]) | (benign[None] < benign[:, None])
    return table.with_columns(
        chosen=pl.col("row") == read_chosen(gathered.file("chosen")).row,
        pareto=pl.Series(~(as_good & better).any(1) & known, dtype=pl.Boolean),
    ).drop("row", "key")


def _about(gathered: Gathered) -> dict[str, Any]:
    record = parse_record(gathered.file("record"))
    chosen = read_chosen(gathered.file("chosen"))
    kept = ("architecture", "license", "chat", "digest")
    about: dict[str, Any] = {name: record[name] for name in kept}
    about["candidates"] = sum(math.prod(shape) for _, shape in record["candidates"])
    names = ("p", "q", "contrast", "limit")
    return {**about, **{name: getattr(chosen, name) for name in names}}
