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
        MADE / "masks" / "{model}" / "sweep" / "p{p}.parquet",
    log:
        MADE / "logs" / "masks" / "{model}" / "sweep-p{p}.log",
    benchmark:
        MADE / "benchmarks" / "masks" / "{model}" / "sweep-p{p}.tsv"
    priority: 30
    conda:
        ENV
    threads: STUDY.threads
    resources:
        mem_mb=6000,
        runtime=120,
        gpu=1,
    params:
        job=lambda w: stage(
            "sweep",
            plan.sweep_slice(STUDY, float(w.p)),
            "lesion.masks.run",
            "lesion.masks.validate",
        ),
    message:
        "trying p={wildcards.p}: {wildcards.model}"
    script:
        "../scripts/sweep.py"


rule masks:
    input:
        sweeps=[
            MADE / "masks" / "{model}" / "sweep" / f"p{p!r}.parquet"
            for p in STUDY.masks.p
        ],
        scores=score_files(
            ["harm", "benign", "refusal", "benign"],
            ["snip", "snip", "snip", "preservation"],
        ),
        model=rules.model.output.record,
    output:
        masks=[
            MADE / "masks" / "{model}" / f"{mask}.safetensors"
            for mask in STUDY.masks_made
        ],
        tables=[
            MADE / "masks" / "{model}" / name
            for name in (
                "sweep.parquet",
                "overlap.parquet",
                "where.parquet",
                "chosen.json",
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
        mem_mb=6000,
        runtime=60,
    params:
        job=lambda w: stage("masks", plan.masks_slice(STUDY), "lesion.masks.run"),
    message:
        "selecting masks: {wildcards.model}"
    script:
        "../scripts/masks.py"
