FIGURES = outputs.figures(STUDY)


rule report:
    input:
        tables=rules.compute_tables.output.tables,
        study=rules.study.output.study,
    output:
        page=report(
            MADE / "report" / "index.html",
            caption="../report/page.rst",
            category="Audit",
            labels={"page": "the whole audit"},
        ),
        figures=[
            report(
                MADE / "report" / "figures" / f"{figure.name}.svg",
                caption=f"../report/{figure.kind}.rst",
                category="Figures",
                labels={"figure": figure.kind, "model": figure.of},
            )
            for figure in FIGURES
        ],
        # The same figures as PNG, for slides and word processors.
        pictures=[
            MADE / "report" / "figures" / f"{figure.name}.png" for figure in FIGURES
        ],
    log:
        MADE / "logs" / "report.log",
    localrule: True
    conda:
        ENV
    resources:
        mem_mb=memory("compute_tables"),
        runtime=minutes("compute_tables"),
    params:
        job=job("report"),
    message:
        "writing the report"
    script:
        "../scripts/report.py"
