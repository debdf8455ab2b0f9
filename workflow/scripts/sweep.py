from pathlib import Path

from lesion.job import logged
from lesion.masks.run import Behaviours, Cut, sweep

with logged(snakemake.log[0]):
    study = snakemake.params.job["study"]
    sweep(
        Path(snakemake.input.model).parent,
        Path(snakemake.input.scores[0]).parent.parent,
        Path(snakemake.input.pairs[0]).parent,
        Path(snakemake.output[0]),
        Behaviours(**study["behaviours"]),
        Cut(study["rule"], study["at_least"]),
        study["p"],
        study["q"],
        dtype=study["dtype"],
        batch_tokens=study["batch_tokens"],
        threads=study["threads"],
    )
