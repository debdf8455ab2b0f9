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
    conda:
        ENV
    resources:
        mem_mb=1000,
        runtime=60,
    params:
        job=lambda w: stage(
            "checkpoint", plan.checkpoint_slice(STUDY, w.model), "lesion.checkpoints"
        ),
    message:
        "writing the checkpoint {wildcards.model} without {wildcards.mask}"
    script:
        "../scripts/checkpoint.py"
