rule checkpoint:
    input:
        mask=MADE / "masks" / "{model}" / "{mask}.safetensors",
        model=rules.model.output.record,
        archive=rules.model.output.archive,
    output:
        record=MADE / "checkpoints" / "{model}" / "{mask}" / "lesion.json",
        origin=MADE / "checkpoints" / "{model}" / "{mask}" / "reproduce" / "lesion.json",
        archive=archive(MADE / "checkpoints" / "{model}" / "{mask}"),
    log:
        MADE / "logs" / "checkpoints" / "{model}" / "{mask}.log",
    # Runs before the measurements with the mask: a checkpoint that cannot be written then stops
    # the study before expensive jobs have run.
    priority: 35
    conda:
        ENV
    resources:
        mem_mb=memory("checkpoint"),
        runtime=minutes("checkpoint"),
    params:
        job=job("checkpoint"),
    message:
        "writing the pruned checkpoint: {wildcards.model}, {wildcards.mask}"
    script:
        "../scripts/checkpoint.py"


# A rule of its own that runs after the tables: the checkpoint does not wait for the measurements,
# and is not rewritten when they change.
rule card:
    input:
        record=rules.checkpoint.output.record,
        origin=rules.checkpoint.output.origin,
        tables=[MADE / "tables" / f"{name}.parquet" for name in TABLES],
        study=MADE / "tables" / "study.json",
    output:
        card=MADE / "checkpoints" / "{model}" / "{mask}" / outputs.CARD,
    log:
        MADE / "logs" / "checkpoints" / "{model}" / "{mask}.card.log",
    localrule: True
    conda:
        ENV
    resources:
        mem_mb=memory("compute_tables"),
        runtime=minutes("compute_tables"),
    params:
        job=job("card"),
    message:
        "writing the model card: {wildcards.model}, {wildcards.mask}"
    script:
        "../scripts/card.py"
