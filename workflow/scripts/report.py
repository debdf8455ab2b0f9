from pathlib import Path

from lesion.io.logs import logged
from lesion.report.figures.all import write_figures
from lesion.report.page import write_report

with logged(snakemake.log[0]):
    tables = Path(snakemake.input[0]).parent
    page = Path(snakemake.output.page)
    write_report(tables, page, snakemake.params.examples)
    write_figures(tables, page.parent / "figures")
