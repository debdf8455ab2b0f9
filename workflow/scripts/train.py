from pathlib import Path
from typing import TYPE_CHECKING

from lesion.io.logs import logged
from lesion.io.staging import staged
from lesion.plan.checks import check_prepared
from lesion.study import load_study
from lesion.training.jobs import TrainJob

if TYPE_CHECKING:
    from snakemake_types import snakemake

with logged(snakemake.log[0]), staged(snakemake):
    from lesion.training.run import train

    job = TrainJob.model_validate_json(snakemake.params.job)
    study, name = load_study(snakemake.config), snakemake.wildcards.model
    base = snakemake.input.get("base")
    train(
        job,
        Path(base).parent if base else None,
        dict(zip(job.behaviours, map(Path, snakemake.input.pairs), strict=True)),
        Path(snakemake.output.record).parent,
        # Not of the job, like the q below: how often it is saved leaves the model alone.
        save_minutes=study.trainings[name].save_minutes,
    )
    check_prepared(study, name)
