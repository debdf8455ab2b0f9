from pathlib import Path

from lesion.job import logged
from lesion.tables.gather import Study
from lesion.tables.run import Statistics, run

with logged(snakemake.log[0]):
    study = snakemake.params.job["study"]
    run(
        Path(snakemake.input.judge).parents[1],
        Path(snakemake.output.study).parent,
        snakemake.params.models,
        Study(**{name: study[name] for name in Study._fields}),
        Statistics(**{name: study[name] for name in Statistics._fields}),
    )
