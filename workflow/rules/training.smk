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


use rule judgements as judge_retrained with:
    input:
        judge=rules.judge.output.judge,
        embedder=embedder_inputs,
        answers=[rules.retrain.output.completions],
    output:
        MADE
        / "judgements"
        / "{model}"
        / "retraining"
        / "{experiment}"
        / "{arm}.parquet",
    log:
        MADE / "logs" / "judgements" / "{model}" / "{experiment}-{arm}.log",
    benchmark:
        MADE / "benchmarks" / "judgements" / "{model}" / "{experiment}-{arm}.tsv"
    wildcard_constraints:
        **RETRAINED,
    params:
        embedder=embedder_place,
        variants=[None],
        threads=STUDY.threads,
        job=lambda w: stage("judgements", {}, "lesion.judgements.run"),
    message:
        "judging what {wildcards.model} answered in {wildcards.experiment}, {wildcards.arm}"


use rule extra_judge as judge_questions with:
    input:
        judge=lambda w: own_inputs(w.judge),
        embedder=lambda w: extra_embedder(w, embedder_inputs, []),
        answers=[rules.retrain.output.completions],
    output:
        MADE
        / "judgements"
        / "{model}"
        / "retraining"
        / "{experiment}"
        / "{arm}-{judge}.parquet",
    log:
        MADE / "logs" / "judgements" / "{model}" / "{experiment}-{arm}-{judge}.log",
    benchmark:
        MADE
        / "benchmarks"
        / "judgements"
        / "{model}"
        / "{experiment}-{arm}-{judge}.tsv"
    wildcard_constraints:
        **RETRAINED,
        judge="|".join(STUDY.judgements.judges) or "(?!)",
    params:
        places=lambda w: own_places(w.judge)
        | extra_embedder(w, lambda w: {"embedder": embedder_place(w)}, {}),
        variants=[None],
        job=lambda w: stage(
            "extra_judge",
            plan.extra_judge_slice(STUDY, w.judge),
            "lesion.judgements.extra",
        ),
    message:
        "judging what {wildcards.model} answered in {wildcards.experiment}, {wildcards.arm}: {wildcards.judge}"
