from pathlib import Path

from lesion.checkpoints import write_checkpoint
from lesion.io.logs import logged

with logged(snakemake.log[0]):
    study = snakemake.params.job["study"]
    write_checkpoint(
        Path(snakemake.input.model).parent,
        Path(snakemake.input.mask),
        Path(snakemake.output.record).parent,
        base=study["base"],
        license_=study["license"],
        command="snakemake --cores all --configfile study.yaml",
        study=dict(snakemake.config),
        # The rule `card` writes it, when there are measurements to show.
        card=False,
    )
