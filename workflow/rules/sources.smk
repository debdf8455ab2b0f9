rule source:
    output:
        record=MADE / "sources" / "{name}.json",
    log:
        MADE / "logs" / "sources" / "{name}.log",
    priority: 100
    localrule: True
    conda:
        ENV
    resources:
        mem_mb=memory("source"),
        runtime=minutes("source"),
    params:
        job=job("source"),
    message:
        "fetching the source: {wildcards.name}"
    script:
        "../scripts/source.py"
