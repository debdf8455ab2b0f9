from pathlib import Path
from typing import TYPE_CHECKING

from lesion.io.logs import logged
from lesion.io.staging import staged
from lesion.pairs.jobs import PromptsJob
from lesion.pairs.prompts import write_prompts

if TYPE_CHECKING:
    from snakemake_types import snakemake

with logged(snakemake.log[0]), staged(snakemake):
    write_prompts(
        Path(snakemake.output.prompts), PromptsJob.model_validate_json(snakemake.params.job)
    )
