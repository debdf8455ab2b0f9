from pathlib import Path

from lesion.io.logs import logged

with logged(snakemake.log[0]):
    from lesion.pairs.respond import Decoding, respond

    study = snakemake.params.job["study"]
    respond(
        Path(snakemake.input.prompts),
        Path(snakemake.input.model).parent,
        Path(snakemake.output[0]),
        study["behaviour"],
        study["role"],
        Decoding(**{name: study[name] for name in Decoding._fields}),
    )
