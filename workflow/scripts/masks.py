from pathlib import Path

from lesion.job import logged
from lesion.masks.run import Behaviours, Cut, run

with logged(snakemake.log[0]):
    study = snakemake.params.job["study"]
    run(
        Path(snakemake.input.model).parent,
        Path(snakemake.input.scores[0]).parent.parent,
        [Path(path) for path in snakemake.input.sweeps],
        Path(snakemake.output.masks[0]).parent,
        Behaviours(**study["behaviours"]),
        Cut(study["rule"], study["at_least"]),
        max_benign_increase=study["max_benign_increase"],
        seed=study["seed"],
    )
