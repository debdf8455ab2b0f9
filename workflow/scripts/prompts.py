from pathlib import Path

from lesion.io.logs import logged
from lesion.pairs.prompts import write_prompts
from lesion.sources.fetch import locate
from lesion.sources.jobs import Place

with logged(snakemake.log[0]):
    places = {name: locate(Place(**place)) for name, place in snakemake.params.places.items()}
    write_prompts(places, Path(snakemake.output[0]), snakemake.params.job["study"])
