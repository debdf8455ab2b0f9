rule model:
    input:
        lambda w: source_inputs(model_source(w), f"models.{w.model}.source"),
    output:
        record=MADE / "models" / "{model}" / "lesion.json",
    log:
        MADE / "logs" / "models" / "{model}.log",
    benchmark:
        MADE / "benchmarks" / "models" / "{model}.tsv"
    wildcard_constraints:
        model="|".join(m for m in STUDY.models if m not in STUDY.trained) or "(?!)",
    priority: 90
    conda:
        ENV
    resources:
        mem_mb=memory("model"),
        runtime=minutes("model"),
    params:
        source=lambda w: source_place(model_source(w), f"models.{w.model}.source"),
        job=lambda w: stage(
            "model", plan.model_slice(STUDY, w.model), "lesion.models.prepare"
        ),
    message:
        "preparing {wildcards.model}"
    script:
        "../scripts/model.py"
