rule source:
    output:
        record=MADE / "sources" / "{name}.json",
    log:
        MADE / "logs" / "sources" / "{name}.log",
    priority: 100
    conda:
        ENV
    resources:
        mem_mb=memory("source"),
        runtime=minutes("source"),
    params:
        folder=lambda w: str(MADE / "sources" / w.name),
        job=lambda w: stage(
            "source", plan.source_slice(STUDY, w.name), "lesion.sources"
        ),
    message:
        "fetching {wildcards.name}"
    script:
        "../scripts/source.py"
