rule tables:
    input:
        judgements=[MADE / "judgements" / f"{model}.parquet" for model in STUDY.models],
        judge=rules.judge.output.table,
        responses=[
            MADE / "responses" / model / variant / name
            for model in STUDY.models
            for variant in STUDY.variants
            for name in ("completions.parquet", "nll.parquet")
        ],
        further=[
            MADE / place
            for model in STUDY.models
            for place in further_measurements(model)
        ],
        masks=[
            MADE / "masks" / model / name
            for model in STUDY.models
            for name in (
                "sweep.parquet",
                "chosen.json",
                *(f"{table}.parquet" for table in OF_MASKS),
            )
        ],
        pairs=[
            MADE / "pairs" / model / f"{behaviour}.parquet"
            for model in STUDY.models
            for behaviour in STUDY.behaviours
        ],
        models=[MADE / "models" / model / "lesion.json" for model in STUDY.models],
        losses=[MADE / "models" / model / "training.parquet" for model in STUDY.trained],
    output:
        tables=[
            report(
                MADE / "tables" / f"{name}.parquet",
                caption=f"../report/{name}.rst",
                category="Tables",
                labels={"table": name},
            )
            for name in TABLES
        ],
        study=MADE / "tables" / "study.json",
    log:
        MADE / "logs" / "tables.log",
    benchmark:
        MADE / "benchmarks" / "tables.tsv"
    conda:
        ENV
    resources:
        mem_mb=memory("tables"),
        runtime=minutes("tables"),
    params:
        models=list(STUDY.models),
        job=lambda w: stage("tables", plan.tables_slice(STUDY), "lesion.tables.run"),
    message:
        "making tables"
    script:
        "../scripts/tables.py"
