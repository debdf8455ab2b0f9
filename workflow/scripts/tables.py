from pathlib import Path

from lesion.job import logged
from lesion.tables.run import Statistics, Study, run

with logged(snakemake.log[0]):
    study = snakemake.params.job["study"]
    run(
        Path(snakemake.input.judge).parents[1],
        Path(snakemake.output.study).parent,
        snakemake.params.models,
        Study(study["behaviours"], study["variants"], study["config"]),
        Statistics(**{name: study[name] for name in Statistics._fields}),
    )
