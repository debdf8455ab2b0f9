from pathlib import Path

from lesion.job import logged
from lesion.models.record import candidate_shapes
from lesion.plan import check_fractions
from lesion.sources import locate

with logged(snakemake.log[0]):
    from lesion.models.chat import ChatSettings
    from lesion.models.prepare import prepare

    study = snakemake.params.job["study"]
    folder = Path(snakemake.output.record).parent
    prepare(
        locate(snakemake.params.source),
        folder,
        dtype=study["dtype"],
        license_=study["license"],
        chat=ChatSettings(**study["chat"]),
    )
    # Before anything is computed with it. Not of the params: another q leaves the model alone.
    check_fractions(snakemake.config["masks"]["q"], candidate_shapes(folder))
