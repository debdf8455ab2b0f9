rule train_judge:
    input:
        files=source_files("train_judge"),
    output:
        judge=MADE / "judgements" / "judge.safetensors",
        table=MADE / "judgements" / "judges.parquet",
    log:
        MADE / "logs" / "judgements" / "judge.log",
    # Its output is needed late and by one rule only, so it runs when a core would be idle.
    priority: 5
    conda:
        ENV
    threads: STUDY.threads
    resources:
        mem_mb=memory("train_judge"),
        runtime=minutes("train_judge"),
    params:
        job=job("train_judge"),
    message:
        "training the offline judges and measuring their agreement with people"
    script:
        "../scripts/train_judge.py"


rule control_answers:
    input:
        pairs=[
            MADE / "pairs" / "{model}" / f"{behaviour}.parquet"
            for behaviour in outputs.judge_controls(STUDY)
        ],
    output:
        answers=MADE / "responses" / "{model}" / f"{outputs.CONTROL_ANSWERS}.parquet",
    log:
        MADE / "logs" / "responses" / "{model}" / f"{outputs.CONTROL_ANSWERS}.log",
    localrule: True
    conda:
        ENV
    resources:
        mem_mb=memory("prompts"),
        runtime=minutes("prompts"),
    params:
        job=job("control_answers"),
    message:
        "collecting answers to test the judges of harm on: {wildcards.model}"
    script:
        "../scripts/control_answers.py"


# The unmodified model's likelihood of every answer, and the answers without their prefill.
rule continuations:
    input:
        answers=lambda w: [MADE / "responses" / path for _, path in JUDGED[w.model]],
        pairs=[
            MADE / "pairs" / "{model}" / f"{behaviour}.parquet"
            for behaviour in STUDY.of_role("benign")
        ],
        model=rules.model.output.record,
        archive=rules.model.output.archive,
    output:
        fluency=MADE / "responses" / "{model}" / "fluency.parquet",
        continuations=MADE
        / "responses"
        / "{model}"
        / f"{outputs.CONTINUATIONS}.parquet",
    log:
        MADE / "logs" / "responses" / "{model}" / f"{outputs.CONTINUATIONS}.log",
    # With what follows, the longest chain of jobs that is left when all answers are there.
    priority: 18
    conda:
        ENV
    threads: STUDY.threads
    resources:
        mem_mb=memory("continuations"),
        runtime=minutes("continuations"),
        gpu=gpus("continuations"),
    params:
        job=job("continuations"),
    message:
        "measuring the fluency of every answer: {wildcards.model}"
    script:
        "../scripts/continuations.py"


rule judge_responses:
    input:
        judge=rules.train_judge.output.judge,
        files=source_files("judge_responses"),
        answers=judged_answers,
    output:
        judge_scores=MADE
        / "judgements"
        / outputs.judge_scores_path("learned", "{answers}"),
    log:
        MADE / "logs" / "judgements" / "{answers}.log",
    wildcard_constraints:
        answers="|".join(JUDGED),
    conda:
        ENV
    threads: STUDY.threads
    resources:
        mem_mb=memory("judge_responses"),
        runtime=minutes("judge_responses"),
    params:
        job=job("judge_responses"),
    message:
        "judging completions by the offline judges: {wildcards.answers}"
    script:
        "../scripts/judge_responses.py"


rule judge_responses_extra:
    input:
        files=source_files("judge_responses_extra", "judge"),
        answers=judged_answers,
    output:
        judge_scores=MADE
        / "judgements"
        / outputs.judge_scores_path("{judge}", "{answers}"),
    log:
        MADE / "logs" / "judgements" / "{answers}" / "{judge}.log",
    wildcard_constraints:
        answers="|".join(JUDGED),
        # `(?!)` matches nothing, for a study without further judges.
        judge="|".join(STUDY.judgements.judges) or "(?!)",
    conda:
        ENV
    threads: STUDY.threads
    resources:
        mem_mb=lambda w, attempt: memory(resources.judge_formula(STUDY, w.judge))(
            w, attempt
        ),
        runtime=lambda w, attempt: minutes(resources.judge_formula(STUDY, w.judge))(
            w, attempt
        ),
        gpu=lambda w: gpus(resources.judge_formula(STUDY, w.judge))(w),
    params:
        job=job("judge_responses_extra"),
    message:
        "judging completions by {wildcards.judge}: {wildcards.answers}"
    script:
        "../scripts/judge_responses_extra.py"
