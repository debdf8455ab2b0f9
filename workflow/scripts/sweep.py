from itertools import product
from pathlib import Path

from lesion.io.logs import logged
from lesion.masks.select import Point
from lesion.masks.sweep import Behaviours, Cut, Trying, sweep

with logged(snakemake.log[0]):
    study = snakemake.params.job["study"]
    sweep(
        Path(snakemake.input.model).parent,
        Path(snakemake.input.scores[0]).parent.parent,
        Path(snakemake.input.pairs[0]).parent,
        Path(snakemake.output[0]),
        Behaviours(**study["behaviours"]),
        Cut(**study["cut"]),
        [Point(p, q) for p, q in product(study["p"], study["q"])],
        Trying(**{name: study[name] for name in Trying._fields}),
    )
