from pathlib import Path
from typing import TYPE_CHECKING

from lesion.io.logs import logged
from lesion.report.figures.all import write_figures
from lesion.report.page import write_report

if TYPE_CHECKING:
    from snakemake_types import snakemake

with logged(snakemake.log[0]):
    tables = Path(snakemake.input[0]).parent
    page = Path(snakemake.output.page)
    write_report(tables, page, snakemake.params.examples)
    write_figures(tables, page.parent / "figures")
