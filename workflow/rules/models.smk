rule model:
    input:
        source_files("model", "model"),
    output:
        record=MADE / "models" / "{model}" / "lesion.json",
        archive=archive(MADE / "models" / "{model}"),
    log:
        MADE / "logs" / "models" / "{model}.log",
    wildcard_constraints:
        model="|".join(m for m in STUDY.models if m not in STUDY.trained) or "(?!)",
    priority: 90
    conda:
        ENV
    resources:
        mem_mb=memory("model"),
        runtime=minutes("model"),
    params:
        job=job("model"),
    message:
        "preparing the model: {wildcards.model}"
    script:
        "../scripts/model.py"


rule train:
    input:
        base=base_record,
        base_archive=base_archive,
        pairs=lambda w: [
            MADE / "pairs" / STUDY.models[w.model].base / f"{behaviour}.parquet"
            for behaviour in jobs.train_job(STUDY, dict(w)).behaviours
        ],
        files=source_files("train", "model"),
    output:
        record=MADE / "models" / "{model}" / "lesion.json",
        archive=archive(MADE / "models" / "{model}"),
        losses=MADE / "models" / "{model}" / "training.parquet",
    log:
        MADE / "logs" / "models" / "{model}.log",
    wildcard_constraints:
        model="|".join(STUDY.trained) or "(?!)",
    # Every later stage depends on the model.
    priority: 80
    conda:
        ENV
    threads: STUDY.threads
    resources:
        mem_mb=memory("train"),
        runtime=minutes("train"),
        gpu=gpus("train"),
    params:
        job=job("train"),
    message:
        "training the model: {wildcards.model}"
    script:
        "../scripts/train.py"
