rule judge:
    input:
        human_scores=judge_sources,
        embedder=embedder_inputs,
        contrasts=lambda w: [
            path
            for judge in plan.contrasts(STUDY)
            for files in own_files(judge).values()
            for path in files
        ],
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
        contrasts=lambda w: {
            judge: own_places(judge) for judge in plan.contrasts(STUDY)
        },
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
        judge=lambda w: own_inputs(w.judge),
        embedder=lambda w: extra_embedder(w, embedder_inputs, []),
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
        mem_mb=lambda w, attempt: memory(judge_law(w))(w, attempt),
        runtime=lambda w, attempt: minutes(judge_law(w))(w, attempt),
        gpu=lambda w: int(is_classifier(w)),
    params:
        places=lambda w: own_places(w.judge)
        | extra_embedder(w, lambda w: {"embedder": embedder_place(w)}, {}),
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
