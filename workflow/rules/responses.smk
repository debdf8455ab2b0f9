rule responses:
    input:
        mask=variant_mask,
        pairs=[
            MADE / "pairs" / "{model}" / f"{behaviour}.parquet"
            for behaviour in plan.evaluated(STUDY)
        ],
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
        mem_mb=4000,
        runtime=240,
        gpu=1,
    params:
        job=lambda w: stage(
            "responses", plan.responses_slice(STUDY, w.variant), "lesion.responses.ask"
        ),
    message:
        "asking {wildcards.model}, {wildcards.variant}"
    script:
        "../scripts/responses.py"
