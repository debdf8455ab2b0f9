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
        mem_mb=memory("judge"),
        runtime=minutes("judge"),
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
        answers=[MADE / "responses" / "{model}" / path for _, path in ANSWERS],
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
        mem_mb=memory("judgements"),
        runtime=minutes("judgements"),
    params:
        embedder=embedder_place,
        variants=[variant for variant, _ in ANSWERS],
        threads=STUDY.threads,
        job=lambda w: stage("judgements", {}, "lesion.judgements.run"),
    message:
        "judging completions: {wildcards.model}"
    script:
        "../scripts/judgements.py"


rule extra_judge:
    input:
        judge=extra_judge_inputs,
        answers=[MADE / "responses" / "{model}" / path for _, path in ANSWERS],
    output:
        MADE / "judgements" / "{model}" / "{judge}.parquet",
    log:
        MADE / "logs" / "judgements" / "{model}" / "{judge}.log",
    benchmark:
        MADE / "benchmarks" / "judgements" / "{model}" / "{judge}.tsv"
    wildcard_constraints:
        # Nothing, if the study names none.
        judge="|".join(STUDY.judgements.judges) or "(?!)",
    conda:
        ENV
    threads: STUDY.threads
    resources:
        # An endpoint computes elsewhere; a classifier passes through memory once, 26 GB at most.
        mem_mb=lambda w, attempt: (
            attempt * (1000 if judge_kind(w) == "rubric" else 32000)
        ),
        runtime=lambda w, attempt: attempt * 240,
        gpu=lambda w: 0 if judge_kind(w) == "rubric" else 1,
    params:
        places=extra_judge_places,
        variants=[variant for variant, _ in ANSWERS],
        job=lambda w: stage(
            "extra_judge",
            plan.extra_judge_slice(STUDY, w.judge),
            "lesion.judgements.extra",
        ),
    message:
        "judging completions: {wildcards.model}, {wildcards.judge}"
    script:
        "../scripts/extra_judge.py"
