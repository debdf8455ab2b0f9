rule sweep:
    input:
        scores=score_files(["harm", "benign"], ["snip", "preservation"]),
        pairs=[
            MADE / "pairs" / "{model}" / f"{behaviour}.parquet"
            for role in ("harm", "benign")
            for behaviour in STUDY.of_role(role)
        ],
        model=rules.model.output.record,
    output:
        MADE / "masks" / "{model}" / "sweep.parquet",
    log:
        MADE / "logs" / "masks" / "{model}" / "sweep.log",
    benchmark:
        MADE / "benchmarks" / "masks" / "{model}" / "sweep.tsv"
    priority: 30
    conda:
        ENV
    threads: STUDY.threads
    resources:
        mem_mb=memory("sweep"),
        runtime=minutes("sweep"),
        gpu=gpus("sweep"),
    params:
        job=lambda w: stage(
            "sweep",
            plan.sweep_slice(STUDY),
            "lesion.masks.sweep",
            "lesion.masks.validate",
        ),
    message:
        "trying p and q: {wildcards.model}"
    script:
        "../scripts/sweep.py"


rule masks:
    input:
        sweep=rules.sweep.output[0],
        scores=score_files(
            ["harm", "benign", "refusal", "benign"],
            ["snip", "snip", "snip", "preservation"],
        ),
        norms=[
            SCORES / behaviour / NORMS
            for behaviour in STUDY.of_role("harm")
            if plan.wants_norms(STUDY)
        ],
        model=rules.model.output.record,
    output:
        masks=[
            MADE / "masks" / "{model}" / f"{mask}.safetensors"
            for mask in STUDY.masks_made
        ],
        tables=[
            MADE / "masks" / "{model}" / name
            for name in (
                "chosen.json",
                *(f"{table}.parquet" for table in OF_MASKS),
            )
        ],
    log:
        MADE / "logs" / "masks" / "{model}" / "masks.log",
    benchmark:
        MADE / "benchmarks" / "masks" / "{model}" / "masks.tsv"
    priority: 30
    conda:
        ENV
    resources:
        mem_mb=memory("masks"),
        runtime=minutes("masks"),
    params:
        job=lambda w: stage("masks", plan.masks_slice(STUDY), "lesion.masks.run"),
    message:
        "selecting masks: {wildcards.model}"
    script:
        "../scripts/masks.py"


rule curve_masks:
    input:
        sweep=rules.sweep.output[0],
        scores=score_files(
            ["harm", "benign", "refusal", "benign"],
            ["snip", "snip", "snip", "preservation"],
        ),
        norms=[
            SCORES / behaviour / NORMS
            for behaviour in STUDY.of_role("harm")
            if plan.wants_norms(STUDY)
        ],
        model=rules.model.output.record,
    output:
        MADE / "masks" / "{model}" / "curve.parquet",
    log:
        MADE / "logs" / "masks" / "{model}" / "curve.log",
    benchmark:
        MADE / "benchmarks" / "masks" / "{model}" / "curve.tsv"
    priority: 20
    conda:
        ENV
    resources:
        mem_mb=memory("masks"),
        runtime=minutes("masks"),
    params:
        job=lambda w: stage(
            "curve_masks", plan.curve_masks_slice(STUDY), "lesion.masks.curve"
        ),
    message:
        "selecting masks of every size: {wildcards.model}"
    script:
        "../scripts/curve_masks.py"
