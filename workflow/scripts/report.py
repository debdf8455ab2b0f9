from pathlib import Path
from typing import TYPE_CHECKING

from lesion.io.logs import logged
from lesion.io.staging import staged
from lesion.report.figures.all import write_figures
from lesion.report.page import write_report
from lesion.tables.jobs import ReportJob

if TYPE_CHECKING:
    from snakemake_types import snakemake

with logged(snakemake.log[0]), staged(snakemake):
    job = ReportJob.model_validate_json(snakemake.params.job)
    tables = Path(snakemake.input.study).parent
    write_report(tables, Path(snakemake.output.page), job.examples)
    write_figures(tables, Path(snakemake.output.figures[0]).parent)
