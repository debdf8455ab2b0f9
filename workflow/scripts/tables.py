from pathlib import Path
from typing import TYPE_CHECKING

from lesion.io.logs import logged
from lesion.tables.gather import Experiment, Study
from lesion.tables.run import Statistics, run

if TYPE_CHECKING:
    from snakemake_types import snakemake

with logged(snakemake.log[0]):
    study = snakemake.params.job["study"]
    parts = {name: study[name] for name in Study._fields}
    parts["retraining"] = {name: Experiment(**one) for name, one in parts["retraining"].items()}
    run(
        Path(snakemake.input.judge).parents[1],
        Path(snakemake.output.study).parent,
        snakemake.params.models,
        Study(**parts),
        Statistics(**{name: study[name] for name in Statistics._fields}),
    )
