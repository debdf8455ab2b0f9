rule responses:
    input:
        mask=variant_mask,
        pairs=[
            MADE / "pairs" / "{model}" / f"{behaviour}.parquet"
            for behaviour in plan.measured(STUDY)
        ],
        templates=template_inputs,
        model=rules.model.output.record,
    output:
        completions=MADE / "responses" / "{model}" / "{variant}" / "completions.parquet",
        nll=MADE / "responses" / "{model}" / "{variant}" / "nll.parquet",
    log:
        MADE / "logs" / "responses" / "{model}" / "{variant}.log",
    benchmark:
        MADE / "benchmarks" / "responses" / "{model}" / "{variant}.tsv"
    # `intact` needs no mask, and fills the cores while masks are made.
    priority: lambda w: 20 if w.variant == "intact" else 10
    conda:
        ENV
    threads: STUDY.threads
    resources:
        mem_mb=memory("responses"),
        runtime=minutes("responses"),
        gpu=gpus("responses"),
    params:
        templates=template_places,
        job=lambda w: stage(
            "responses", plan.responses_slice(STUDY, w.variant), "lesion.responses.ask"
        ),
    message:
        "asking {wildcards.model}, {wildcards.variant}"
    script:
        "../scripts/responses.py"


rule curve:
    input:
        masks=rules.curve_masks.output.masks,
        pairs=[
            MADE / "pairs" / "{model}" / f"{behaviour}.parquet"
            for behaviour in plan.evaluated(STUDY)
        ],
        model=rules.model.output.record,
    output:
        nll=MADE / "responses" / "{model}" / "curve" / "{family}.parquet",
        completions=(
            MADE / "responses" / "{model}" / "curve" / "{family}-completions.parquet"
            if STUDY.curve.completions
            else []
        ),
    log:
        MADE / "logs" / "curve" / "{model}" / "{family}.log",
    benchmark:
        MADE / "benchmarks" / "curve" / "{model}" / "{family}.tsv"
    wildcard_constraints:
        # Nothing, if no family is asked for; and no `<family>-completions`.
        family="|".join(plan.curve_families(STUDY)) or "(?!)",
    priority: 10
    conda:
        ENV
    threads: STUDY.threads
    resources:
        mem_mb=memory("curve"),
        runtime=minutes("curve"),
        gpu=gpus("curve"),
    params:
        job=lambda w: stage(
            "curve", plan.curve_slice(STUDY, w.family), "lesion.responses.curve"
        ),
    message:
        "asking {wildcards.model}, {wildcards.family} of every size"
    script:
        "../scripts/curve.py"


rule understanding:
    input:
        mask=variant_mask,
        reference=intact_understanding,
        twins=twins_inputs,
        pairs=[
            MADE / "pairs" / "{model}" / f"{behaviour}.parquet"
            for behaviour in STUDY.of_role("harm")
        ],
        model=rules.model.output.record,
    output:
        understanding=MADE
        / "responses"
        / "{model}"
        / "{variant}"
        / "understanding.parquet",
        said=MADE / "responses" / "{model}" / "{variant}" / "said.parquet",
    log:
        MADE / "logs" / "understanding" / "{model}" / "{variant}.log",
    benchmark:
        MADE / "benchmarks" / "understanding" / "{model}" / "{variant}.tsv"
    # All other variants wait for `intact`.
    priority: lambda w: 19 if w.variant == "intact" else 9
    conda:
        ENV
    threads: STUDY.threads
    resources:
        mem_mb=memory("responses"),
        runtime=minutes("responses"),
        gpu=gpus("responses"),
    params:
        twins=lambda w: source_place(STUDY.understanding.twins, "understanding.twins"),
        job=lambda w: stage(
            "understanding",
            plan.understanding_slice(STUDY, w.variant),
            "lesion.responses.understanding",
        ),
    message:
        "asking what {wildcards.model}, {wildcards.variant}, understands"
    script:
        "../scripts/understanding.py"


rule utility:
    input:
        mask=variant_mask,
        model=rules.model.output.record,
    output:
        MADE / "responses" / "{model}" / "{variant}" / "utility.parquet",
    log:
        MADE / "logs" / "utility" / "{model}" / "{variant}.log",
    benchmark:
        MADE / "benchmarks" / "utility" / "{model}" / "{variant}.tsv"
    priority: lambda w: 20 if w.variant == "intact" else 10
    conda:
        ENV
    threads: STUDY.threads
    resources:
        mem_mb=memory("responses"),
        runtime=minutes("responses"),
        gpu=gpus("responses"),
    params:
        job=lambda w: stage(
            "utility",
            plan.utility_slice(STUDY, w.variant),
            "lesion.responses.utility",
        ),
    message:
        "examining {wildcards.model}, {wildcards.variant}"
    script:
        "../scripts/utility.py"
