from pathlib import Path

from lesion.io.logs import logged
from lesion.masks.run import Making, run
from lesion.masks.sweep import Behaviours, Cut

with logged(snakemake.log[0]):
    study = snakemake.params.job["study"]
    run(
        Path(snakemake.input.model).parent,
        Path(snakemake.input.scores[0]).parent.parent,
        Path(snakemake.input.sweep),
        Path(snakemake.output.masks[0]).parent,
        Behaviours(**study["behaviours"]),
        Cut(**study["cut"]),
        Making(**{name: study[name] for name in Making._fields}),
    )
