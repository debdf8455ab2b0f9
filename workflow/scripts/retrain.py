from pathlib import Path
from typing import TYPE_CHECKING

from lesion.io.logs import logged
from lesion.io.staging import staged
from lesion.responses.jobs import RetrainJob

if TYPE_CHECKING:
    from snakemake_types import snakemake

with logged(snakemake.log[0]), staged(snakemake):
    # Importing torch may fail too, and the log should say why.
    from lesion.responses.retrain import retrain

    retrain(
        RetrainJob.model_validate_json(snakemake.params.job),
        model=Path(snakemake.input.model).parent,
        masks=[Path(path) for path in snakemake.input.masks],
        pairs=[Path(path) for path in snakemake.input.pairs],
        nll=Path(snakemake.output.nll),
        completions=Path(snakemake.output.completions),
    )
