rule source:
    input:
        # Local files, where they have to be copied.
        lambda w: [local(path) for path in places.copied_inputs(STUDY, w.name)],
    output:
        record=MADE / "sources" / "{name}.json",
        archive=archive(MADE / "sources" / "{name}"),
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
