rule train:
    input:
        base=base_record,
        pairs=lambda w: [
            MADE / "pairs" / STUDY.models[w.model].base / f"{behaviour}.parquet"
            for behaviour in plan.lesson_behaviours(STUDY, w.model)
        ],
        files=training_inputs,
    output:
        record=MADE / "models" / "{model}" / "lesion.json",
        losses=MADE / "models" / "{model}" / "training.parquet",
    log:
        MADE / "logs" / "training" / "{model}.log",
    benchmark:
        MADE / "benchmarks" / "training" / "{model}.tsv"
    wildcard_constraints:
        model="|".join(STUDY.trained) or "(?!)",
    # Everything of a later stage waits for it.
    priority: 80
    conda:
        ENV
    threads: STUDY.threads
    resources:
        mem_mb=memory("train"),
        runtime=minutes("train"),
        gpu=gpus("train"),
    params:
        files=training_places,
        behaviours=lambda w: plan.lesson_behaviours(STUDY, w.model),
        job=lambda w: stage(
            "train", plan.train_slice(STUDY, w.model), "lesion.training.run"
        ),
    message:
        "training {wildcards.model}"
    script:
        "../scripts/train.py"


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
