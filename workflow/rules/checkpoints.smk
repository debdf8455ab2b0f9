rule checkpoint:
    input:
        mask=MADE / "masks" / "{model}" / "{mask}.safetensors",
        model=rules.model.output.record,
    output:
        record=MADE / "checkpoints" / "{model}" / "{mask}" / "lesion.json",
    log:
        MADE / "logs" / "checkpoints" / "{model}" / "{mask}.log",
    benchmark:
        MADE / "benchmarks" / "checkpoints" / "{model}" / "{mask}.tsv"
    # Before what is measured with the mask: what can't be written is said before more is paid for.
    priority: 35
    conda:
        ENV
    resources:
        mem_mb=memory("checkpoint"),
        runtime=minutes("checkpoint"),
    params:
        job=job("checkpoint"),
    message:
        "writing the checkpoint {wildcards.model} without {wildcards.mask}"
    script:
        "../scripts/checkpoint.py"


# Of its own, after the tables: a checkpoint need not wait for what is measured, nor be written
# again when it changes.
rule card:
    input:
        record=rules.checkpoint.output.record,
        tables=[MADE / "tables" / f"{name}.parquet" for name in TABLES],
        study=MADE / "tables" / "study.json",
    output:
        card=MADE / "checkpoints" / "{model}" / "{mask}" / "README.md",
    log:
        MADE / "logs" / "checkpoints" / "{model}" / "{mask}.card.log",
    benchmark:
        MADE / "benchmarks" / "checkpoints" / "{model}" / "{mask}.card.tsv"
    conda:
        ENV
    resources:
        mem_mb=memory("tables"),
        runtime=minutes("tables"),
    params:
        job=job("card"),
    message:
        "writing the card of {wildcards.model} without {wildcards.mask}"
    script:
        "../scripts/card.py"
