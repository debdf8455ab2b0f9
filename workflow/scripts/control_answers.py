from pathlib import Path
from typing import TYPE_CHECKING

from lesion.io.logs import logged
from lesion.io.staging import staged
from lesion.judgements.controls import write_control_answers
from lesion.judgements.jobs import ControlAnswersJob

if TYPE_CHECKING:
    from snakemake_types import snakemake

with logged(snakemake.log[0]), staged(snakemake):
    write_control_answers(
        ControlAnswersJob.model_validate_json(snakemake.params.job),
        pairs=[Path(path) for path in snakemake.input.pairs],
        out=Path(snakemake.output.answers),
    )
