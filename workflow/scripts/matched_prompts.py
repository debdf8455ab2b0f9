from pathlib import Path
from typing import TYPE_CHECKING

from lesion.io.logs import logged
from lesion.io.staging import staged
from lesion.pairs.jobs import MatchedPromptsJob
from lesion.pairs.matched import write_matched_prompts

if TYPE_CHECKING:
    from snakemake_types import snakemake

with logged(snakemake.log[0]), staged(snakemake):
    write_matched_prompts(
        Path(snakemake.input.harm),
        Path(snakemake.output.prompts),
        MatchedPromptsJob.model_validate_json(snakemake.params.job),
    )
