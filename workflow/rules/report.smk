# Name of each figure's file, its caption, and of which model or family of models it is.
FIGURES = [
    *(
        (f"{model}-{name}", name, model)
        for model in STUDY.models
        for name in figure_names()
    ),
    *(
        (f"{model}-{kind}-{experiment}", "retraining", model)
        for experiment, one in STUDY.retraining.items()
        for model in STUDY.retrained(experiment)
        for kind in ("retraining", *(["misaligned"] if one.questions else []))
    ),
    *((f"{family}-stages", "stages", family) for family in STUDY.training_stages),
    *([("training", "training", "all")] if STUDY.trained else []),
]


rule report:
    input:
        rules.tables.output,
    output:
        page=report(
            MADE / "report" / "index.html",
            caption="../report/page.rst",
            category="Audit",
            labels={"page": "the whole audit"},
        ),
        figures=[
            report(
                MADE / "report" / "figures" / f"{name}.svg",
                caption=f"../report/{caption}.rst",
                category="Figures",
                labels={"figure": caption, "model": model},
            )
            for name, caption, model in FIGURES
        ],
        # The same for slides and word processors.
        pictures=[MADE / "report" / "figures" / f"{name}.png" for name, _, _ in FIGURES],
    log:
        MADE / "logs" / "report.log",
    benchmark:
        MADE / "benchmarks" / "report.tsv"
    conda:
        ENV
    resources:
        mem_mb=memory("tables"),
        runtime=minutes("tables"),
    params:
        examples=STUDY.report.examples,
        job=lambda w: stage("report", {}, "lesion.report.page"),
    message:
        "writing the report"
    script:
        "../scripts/report.py"
