from pathlib import Path

from lesion.checkpoints import write_card
from lesion.io.logs import logged
from lesion.report.markdown import before_after

with logged(snakemake.log[0]):
    tables = Path(snakemake.input.study).parent
    table = before_after(tables, snakemake.wildcards.model, snakemake.wildcards.mask)
    write_card(Path(snakemake.input.record).parent, table)
