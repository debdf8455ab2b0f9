rule sweep:
    input:
        indices=score_indices(["harm", "matched", "benign"]),
        scores=score_files(
            ["harm", "matched", "benign", "matched", "benign"],
            ["snip", "snip", "snip", "preservation", "preservation"],
        ),
        pairs=[
            MADE / "pairs" / "{model}" / f"{behaviour}.parquet"
            for role in ("harm", "matched", "benign")
            for behaviour in STUDY.of_role(role)
        ],
        model=rules.model.output.record,
        archive=rules.model.output.archive,
    output:
        sweep=MADE / "masks" / "{model}" / "sweep.parquet",
    log:
        MADE / "logs" / "masks" / "{model}" / "sweep.log",
    priority: 30
    conda:
        ENV
    threads: STUDY.threads
    resources:
        mem_mb=memory("sweep"),
        runtime=minutes("sweep"),
        gpu=gpus("sweep"),
    params:
        job=job("sweep"),
    message:
        "measuring the shared mask at every (p, q): {wildcards.model}"
    script:
        "../scripts/sweep.py"


# Every later stage reads the chosen (p, q) from this rule's output.
rule choose:
    input:
        sweep=rules.sweep.output.sweep,
    output:
        chosen=MADE / "masks" / "{model}" / "chosen.json",
    log:
        MADE / "logs" / "masks" / "{model}" / "choose.log",
    priority: 30
    localrule: True
    conda:
        ENV
    resources:
        mem_mb=memory("choose"),
        runtime=minutes("choose"),
    params:
        job=job("choose"),
    message:
        "choosing (p, q): {wildcards.model}"
    script:
        "../scripts/choose.py"


rule select_masks:
    input:
        chosen=rules.choose.output.chosen,
        indices=score_indices(["harm", "matched", "benign", "refusal"]),
        scores=score_files(
            ["harm", "matched", "benign", "refusal", "matched", "benign"],
            ["snip"] * 4 + ["preservation"] * 2,
        ),
        norms=[
            SCORES / behaviour / NORMS
            for behaviour in STUDY.of_role("harm")
            if outputs.wants_norms(STUDY)
        ],
        model=rules.model.output.record,
        archive=rules.model.output.archive,
    output:
        masks=[
            MADE / "masks" / "{model}" / f"{mask}.safetensors"
            for mask in STUDY.mask_names
        ],
        tables=[MADE / "masks" / "{model}" / f"{table}.parquet" for table in OF_MASKS],
    log:
        MADE / "logs" / "masks" / "{model}" / "masks.log",
    priority: 30
    conda:
        ENV
    threads: readers
    resources:
        mem_mb=memory("select_masks"),
        runtime=minutes("select_masks"),
    params:
        job=job("select_masks"),
    message:
        "selecting masks: {wildcards.model}"
    script:
        "../scripts/select_masks.py"


# It reads no chosen (p, q), so it is made once, whatever masks are tried.
rule refusal_mask:
    input:
        indices=score_indices(["refusal", "benign"]),
        scores=score_files(
            ["refusal", "benign"],
            [
                "snip" if STUDY.responses.refusal_ablation.signed else "preservation",
                "preservation",
            ],
        ),
        model=rules.model.output.record,
        archive=rules.model.output.archive,
    output:
        mask=MADE / "masks" / "{model}" / f"{REFUSAL_MASK}.safetensors",
    log:
        MADE / "logs" / "masks" / "{model}" / f"{REFUSAL_MASK}.log",
    priority: 30
    conda:
        ENV
    threads: readers
    resources:
        mem_mb=memory("select_masks"),
        runtime=minutes("select_masks"),
    params:
        job=job("refusal_mask"),
    message:
        "selecting the weights of refusal: {wildcards.model}"
    script:
        "../scripts/refusal_mask.py"


rule curve_masks:
    input:
        chosen=rules.choose.output.chosen,
        indices=score_indices(["harm", "matched", "benign", "refusal"]),
        scores=score_files(
            ["harm", "matched", "benign", "refusal", "matched", "benign"],
            ["snip"] * 4 + ["preservation"] * 2,
        ),
        norms=[
            SCORES / behaviour / NORMS
            for behaviour in STUDY.of_role("harm")
            if outputs.wants_norms(STUDY)
        ],
        model=rules.model.output.record,
        archive=rules.model.output.archive,
    output:
        masks=MADE / "masks" / "{model}" / "curve.parquet",
    log:
        MADE / "logs" / "masks" / "{model}" / "curve.log",
    priority: 20
    conda:
        ENV
    threads: readers
    resources:
        mem_mb=memory("select_masks"),
        runtime=minutes("select_masks"),
    params:
        job=job("curve_masks"),
    message:
        "selecting masks of every size for the curves: {wildcards.model}"
    script:
        "../scripts/curve_masks.py"


rule equal_cost_masks:
    input:
        chosen=rules.choose.output.chosen,
        indices=score_indices(["harm", "matched", "benign", "refusal"]),
        scores=score_files(
            ["harm", "matched", "benign", "refusal", "matched", "benign"],
            ["snip"] * 4 + ["preservation"] * 2,
        ),
        norms=[
            SCORES / behaviour / NORMS
            for behaviour in STUDY.of_role("harm")
            if outputs.wants_norms(STUDY)
        ],
        pairs=[
            MADE / "pairs" / "{model}" / f"{behaviour}.parquet"
            for behaviour in STUDY.of_role("benign")
        ],
        model=rules.model.output.record,
        archive=rules.model.output.archive,
    output:
        masks=MADE / "masks" / "{model}" / "equal-cost.parquet",
    log:
        MADE / "logs" / "masks" / "{model}" / "equal-cost.log",
    priority: 20
    conda:
        ENV
    threads: STUDY.threads
    resources:
        mem_mb=memory("equal_cost_masks"),
        runtime=minutes("equal_cost_masks"),
        gpu=gpus("equal_cost_masks"),
    params:
        job=job("equal_cost_masks"),
    message:
        "growing masks until they cost the same: {wildcards.model}"
    script:
        "../scripts/equal_cost_masks.py"
