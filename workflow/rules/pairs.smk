rule prompts:
    input:
        source_files("prompts", "behaviour"),
    output:
        prompts=MADE / "pairs" / "prompts" / "{behaviour}.parquet",
    log:
        MADE / "logs" / "pairs" / "prompts" / "{behaviour}.log",
    priority: 100
    conda:
        ENV
    resources:
        mem_mb=memory("prompts"),
        runtime=minutes("prompts"),
    params:
        job=job("prompts"),
    message:
        "choosing prompts: {wildcards.behaviour}"
    script:
        "../scripts/prompts.py"


rule pairs:
    input:
        prompts=rules.prompts.output.prompts,
        model=rules.model.output.record,
    output:
        pairs=MADE / "pairs" / "{model}" / "{behaviour}.parquet",
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
        job=job("pairs"),
    message:
        "writing responses: {wildcards.model}, {wildcards.behaviour}"
    script:
        "../scripts/pairs.py"


# What a model is measured on that is compared with its base: the same texts.
rule same_pairs:
    input:
        lambda w: MADE / "pairs" / STUDY.measured_on(w.model) / f"{w.behaviour}.parquet",
    output:
        MADE / "pairs" / "{model}" / "{behaviour}.parquet",
    log:
        MADE / "logs" / "pairs" / "{model}" / "{behaviour}.log",
    wildcard_constraints:
        model="|".join(BORROWING) or "(?!)",
    conda:
        ENV
    resources:
        mem_mb=memory("prompts"),
        runtime=minutes("prompts"),
    message:
        "taking over the pairs of {wildcards.model}: {wildcards.behaviour}"
    shell:
        "cp {input:q} {output:q} 2> {log:q}"
