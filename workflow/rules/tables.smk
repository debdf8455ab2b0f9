rule tables:
    input:
        measured=[MADE / path for _, path in plan.tables_inputs(STUDY)],
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
        models=MADE / "tables" / "models.json",
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
        job=job("tables"),
    message:
        "making tables"
    script:
        "../scripts/tables.py"


# Apart from the tables: a key that decides no number makes this stale, and no table.
rule study:
    input:
        models=rules.tables.output.models,
    output:
        study=MADE / "tables" / "study.json",
    log:
        MADE / "logs" / "tables" / "study.log",
    conda:
        ENV
    resources:
        mem_mb=memory("tables"),
        runtime=minutes("tables"),
    params:
        job=job("study"),
    message:
        "noting what the study was"
    script:
        "../scripts/study.py"
