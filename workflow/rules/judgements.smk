rule judge:
    input:
        human_scores=judge_sources,
        embedder=embedder_inputs,
    output:
        judge=MADE / "judgements" / "judge.safetensors",
        table=MADE / "judgements" / "judges.parquet",
    log:
        MADE / "logs" / "judgements" / "judge.log",
    benchmark:
        MADE / "benchmarks" / "judgements" / "judge.tsv"
    # Needed last, and by one job: it fills a core wherever nothing else is left to do.
    priority: 5
    conda:
        ENV
    threads: STUDY.threads
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        human_scores=lambda w: source_place(
            STUDY.judgements.human_scores, "judgements.human_scores"
        ),
        embedder=embedder_place,
        job=lambda w: stage("judge", plan.judge_slice(STUDY), "lesion.judgements.run"),
    message:
        "training and measuring the judge"
    script:
        "../scripts/judge.py"


rule judgements:
    input:
        judge=rules.judge.output.judge,
        embedder=embedder_inputs,
        completions=[
            MADE / "responses" / "{model}" / variant / "completions.parquet"
            for variant in STUDY.variants
        ],
    output:
        MADE / "judgements" / "{model}.parquet",
    log:
        MADE / "logs" / "judgements" / "{model}.log",
    benchmark:
        MADE / "benchmarks" / "judgements" / "{model}.tsv"
    conda:
        ENV
    threads: STUDY.threads
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        embedder=embedder_place,
        variants=STUDY.variants,
        threads=STUDY.threads,
        job=lambda w: stage("judgements", {}, "lesion.judgements.run"),
    message:
        "judging completions: {wildcards.model}"
    script:
        "../scripts/judgements.py"
