rule compute_tables:
    input:
        measured=[MADE / path for _, path in outputs.tables_inputs(STUDY)],
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
    localrule: True
    conda:
        ENV
    resources:
        mem_mb=memory("compute_tables"),
        runtime=minutes("compute_tables"),
    params:
        job=job("compute_tables"),
    message:
        "computing the tables"
    script:
        "../scripts/compute_tables.py"


# A rule of its own: a config key that affects no number makes only this output stale.
rule study:
    input:
        models=rules.compute_tables.output.models,
    output:
        study=MADE / "tables" / "study.json",
    log:
        MADE / "logs" / "tables" / "study.log",
    localrule: True
    conda:
        ENV
    resources:
        mem_mb=memory("compute_tables"),
        runtime=minutes("compute_tables"),
    params:
        job=job("study"),
    message:
        "recording the study's configuration"
    script:
        "../scripts/study.py"
