from pathlib import Path

from lesion.io.logs import logged
from lesion.plan import check_prepared
from lesion.sources.fetch import locate
from lesion.sources.jobs import Place
from lesion.study import load_study

with logged(snakemake.log[0]):
    from lesion.models.chat_format import ChatSettings
    from lesion.models.prepare import prepare

    study = snakemake.params.job["study"]
    folder = Path(snakemake.output.record).parent
    prepare(
        locate(Place(**snakemake.params.source)),
        folder,
        dtype=study["dtype"],
        license_=study["license"],
        chat=ChatSettings(**study["chat"]),
    )
    # Before anything is computed with it. Not of the params: another q leaves the model alone.
    check_prepared(load_study(dict(snakemake.config)), snakemake.wildcards.model)
