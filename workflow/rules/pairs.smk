rule prompts:
    input:
        prompt_inputs,
    output:
        MADE / "pairs" / "prompts" / "{behaviour}.parquet",
    log:
        MADE / "logs" / "pairs" / "prompts-{behaviour}.log",
    priority: 100
    conda:
        ENV
    resources:
        mem_mb=memory("prompts"),
        runtime=minutes("prompts"),
    params:
        places=prompt_places,
        job=lambda w: stage(
            "prompts", plan.prompts_slice(STUDY, w.behaviour), "lesion.pairs.prompts"
        ),
    message:
        "choosing prompts: {wildcards.behaviour}"
    script:
        "../scripts/prompts.py"


rule pairs:
    input:
        prompts=rules.prompts.output[0],
        model=rules.model.output.record,
    output:
        MADE / "pairs" / "{model}" / "{behaviour}.parquet",
    log:
        MADE / "logs" / "pairs" / "{model}" / "{behaviour}.log",
    benchmark:
        MADE / "benchmarks" / "pairs" / "{model}" / "{behaviour}.tsv"
    wildcard_constraints:
        model="|".join(m for m in STUDY.models if m not in BORROWING) or "(?!)",
    priority: 50
    conda:
        ENV
    threads: STUDY.threads
    resources:
        mem_mb=memory("pairs"),
        runtime=minutes("pairs"),
        gpu=gpus("pairs"),
    params:
        job=lambda w: stage(
            "pairs", plan.pairs_slice(STUDY, w.behaviour), "lesion.pairs.respond"
        ),
    message:
        "writing responses: {wildcards.model}, {wildcards.behaviour}"
    script:
        "../scripts/pairs.py"
