rule retrain:
    input:
        masks=lambda w: [
            MADE / "masks" / w.model / f"{mask}.safetensors"
            for mask in plan.retrain_masks(STUDY, w.experiment, w.arm)
        ],
        pairs=[
            MADE / "pairs" / "{model}" / f"{behaviour}.parquet"
            for behaviour in plan.evaluated(STUDY)
        ],
        questions=question_inputs,
        model=rules.model.output.record,
    output:
        nll=MADE
        / "responses"
        / "{model}"
        / "retraining"
        / "{experiment}"
        / "{arm}.parquet",
        # For the judges alone: of a model that was trained to do harm only numbers are kept.
        completions=temp(
            MADE
            / "responses"
            / "{model}"
            / "retraining"
            / "{experiment}"
            / "{arm}-completions.parquet"
        ),
    log:
        MADE / "logs" / "retraining" / "{model}" / "{experiment}" / "{arm}.log",
    benchmark:
        MADE / "benchmarks" / "retraining" / "{model}" / "{experiment}-{arm}.tsv"
    wildcard_constraints:
        **RETRAINED,
    priority: 12
    conda:
        ENV
    threads: STUDY.threads
    resources:
        mem_mb=memory("train"),
        runtime=minutes("train"),
        gpu=gpus("train"),
    params:
        questions=question_place,
        masks=lambda w: plan.retrain_masks(STUDY, w.experiment, w.arm),
        job=lambda w: stage(
            "retrain",
            plan.retrain_slice(STUDY, w.experiment, w.arm),
            "lesion.responses.retrain",
        ),
    message:
        "training {wildcards.model} in memory: {wildcards.experiment}, {wildcards.arm}"
    script:
        "../scripts/retrain.py"


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
