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
                MADE / "report" / "figures" / f"{model}-{name}.svg",
                caption=f"../report/{name}.rst",
                category="Figures",
                labels={"figure": name, "model": model},
            )
            for model in STUDY.models
            for name in figure_names()
        ],
        # The same for slides and word processors.
        pictures=[
            MADE / "report" / "figures" / f"{model}-{name}.png"
            for model in STUDY.models
            for name in figure_names()
        ],
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
