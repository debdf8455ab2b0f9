from pathlib import Path

from lesion.io.logs import logged
from lesion.masks.curve import Growing, curve_masks
from lesion.masks.sweep import Behaviours, Cut

with logged(snakemake.log[0]):
    study = snakemake.params.job["study"]
    curve_masks(
        Path(snakemake.input.model).parent,
        Path(snakemake.input.scores[0]).parent.parent,
        Path(snakemake.input.sweep),
        Path(snakemake.output[0]),
        Behaviours(**study["behaviours"]),
        Cut(**study["cut"]),
        Growing(**{name: study[name] for name in Growing._fields}),
    )
