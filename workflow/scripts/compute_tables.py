from pathlib import Path
from typing import TYPE_CHECKING

from lesion.io.logs import logged
from lesion.io.staging import staged
from lesion.tables import TABLES
from lesion.tables.jobs import TablesJob
from lesion.tables.run import write_tables

if TYPE_CHECKING:
    from snakemake_types import snakemake

with logged(snakemake.log[0]), staged(snakemake):
    write_tables(
        TablesJob.model_validate_json(snakemake.params.job),
        files=[Path(path) for path in snakemake.input.measured],
        out=dict(zip(TABLES, map(Path, snakemake.output.tables), strict=True)),
        models=Path(snakemake.output.models),
    )
