rule prompts:
    input:
        source_files("prompts", "behaviour"),
    output:
        prompts=MADE / "pairs" / "prompts" / "{behaviour}.parquet",
    log:
        MADE / "logs" / "pairs" / "prompts" / "{behaviour}.log",
    wildcard_constraints:
        behaviour="|".join(b for b in STUDY.behaviours if b not in MATCHED),
    priority: 100
    localrule: True
    conda:
        ENV
    resources:
        mem_mb=memory("prompts"),
        runtime=minutes("prompts"),
    params:
        job=job("prompts"),
    message:
        "choosing and splitting prompts: {wildcards.behaviour}"
    script:
        "../scripts/prompts.py"


rule matched_prompts:
    input:
        source_files("matched_prompts", "behaviour"),
        harm=lambda w: MADE / "pairs" / "prompts" / f"{MATCHED[w.behaviour]}.parquet",
    output:
        prompts=MADE / "pairs" / "prompts" / "{behaviour}.parquet",
    log:
        MADE / "logs" / "pairs" / "prompts" / "{behaviour}.log",
    wildcard_constraints:
        behaviour="|".join(MATCHED) or "(?!)",
    priority: 100
    localrule: True
    conda:
        ENV
    resources:
        mem_mb=memory("prompts"),
        runtime=minutes("prompts"),
    params:
        job=job("matched_prompts"),
    message:
        "choosing matched requests: {wildcards.behaviour}"
    script:
        "../scripts/matched_prompts.py"


rule generate_pairs:
    input:
        prompts=rules.prompts.output.prompts,
        model=rules.model.output.record,
        archive=rules.model.output.archive,
    output:
        pairs=MADE / "pairs" / "{model}" / "{behaviour}.parquet",
    log:
        MADE / "logs" / "pairs" / "{model}" / "{behaviour}.log",
    wildcard_constraints:
        model="|".join(m for m in STUDY.models if m not in BORROWING) or "(?!)",
    priority: 50
    conda:
        ENV
    threads: STUDY.threads
    resources:
        mem_mb=memory("generate_pairs"),
        runtime=minutes("generate_pairs"),
        gpu=gpus("generate_pairs"),
    params:
        job=job("generate_pairs"),
    message:
        "generating responses: {wildcards.model}, {wildcards.behaviour}"
    script:
        "../scripts/generate_pairs.py"


# A model that is compared with another one is measured on the other's pairs, which are copied.
rule same_pairs:
    input:
        lambda w: MADE / "pairs" / STUDY.measured_on(w.model) / f"{w.behaviour}.parquet",
    output:
        MADE / "pairs" / "{model}" / "{behaviour}.parquet",
    log:
        MADE / "logs" / "pairs" / "{model}" / "{behaviour}.log",
    wildcard_constraints:
        model="|".join(BORROWING) or "(?!)",
    localrule: True
    conda:
        ENV
    resources:
        mem_mb=memory("prompts"),
        runtime=minutes("prompts"),
    message:
        "copying the reference model's pairs: {wildcards.model}, {wildcards.behaviour}"
    shell:
        "cp {input:q} {output:q} 2> {log:q}"
