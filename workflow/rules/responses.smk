rule variant_responses:
    input:
        mask=variant_mask,
        ablation=refusal_mask,
        pairs=[
            MADE / "pairs" / "{model}" / f"{behaviour}.parquet"
            for behaviour in outputs.nll_behaviours(STUDY)
        ],
        templates=source_files("variant_responses"),
        model=rules.model.output.record,
        archive=rules.model.output.archive,
    output:
        completions=MADE / "responses" / "{model}" / "{variant}" / "completions.parquet",
        nll=MADE / "responses" / "{model}" / "{variant}" / "nll.parquet",
    log:
        MADE / "logs" / "responses" / "{model}" / "{variant}.log",
    # `unmodified` needs no mask, so it runs while masks are being selected. Then come variants
    # whose answers are judged, because the judges wait for all of them.
    priority:
        lambda w: (
            20
            if w.variant == "unmodified"
            else 18 if w.variant in STUDY.judged_variants else 10
        )
    conda:
        ENV
    threads: STUDY.threads
    resources:
        mem_mb=memory("variant_responses"),
        runtime=minutes("variant_responses"),
        gpu=gpus("variant_responses"),
    params:
        job=job("variant_responses"),
    message:
        "generating completions and measuring NLL: {wildcards.model}, {wildcards.variant}"
    script:
        "../scripts/variant_responses.py"


rule curve:
    input:
        masks=rules.curve_masks.output.masks,
        pairs=[
            MADE / "pairs" / "{model}" / f"{behaviour}.parquet"
            for behaviour in outputs.evaluated(STUDY)
        ],
        model=rules.model.output.record,
        archive=rules.model.output.archive,
    output:
        nll=MADE / "responses" / "{model}" / "curve" / "{family}.parquet",
        completions=(
            MADE / "responses" / "{model}" / "curve" / "{family}-completions.parquet"
            if STUDY.curve.completions
            else []
        ),
    log:
        MADE / "logs" / "responses" / "{model}" / "curve" / "{family}.log",
    wildcard_constraints:
        # `(?!)` matches nothing, for a study without curves. Naming the families keeps this
        # wildcard from matching `<family>-completions`.
        family="|".join(outputs.curve_families(STUDY)) or "(?!)",
    priority: 10
    conda:
        ENV
    threads: STUDY.threads
    resources:
        mem_mb=memory("curve"),
        runtime=minutes("curve"),
        gpu=gpus("curve"),
    params:
        job=job("curve"),
    message:
        "measuring masks of every size: {wildcards.model}, {wildcards.family}"
    script:
        "../scripts/curve.py"


rule equal_cost:
    input:
        masks=rules.equal_cost_masks.output.masks,
        pairs=[
            MADE / "pairs" / "{model}" / f"{behaviour}.parquet"
            for behaviour in outputs.nll_behaviours(STUDY)
        ],
        model=rules.model.output.record,
        archive=rules.model.output.archive,
    output:
        nll=MADE / "responses" / "{model}" / "equal-cost.parquet",
    log:
        MADE / "logs" / "responses" / "{model}" / "equal-cost.log",
    # Of all jobs on responses the longest, so it starts before the others.
    priority: 25
    conda:
        ENV
    threads: STUDY.threads
    resources:
        mem_mb=memory("curve"),
        runtime=minutes("equal_cost_masks"),
        gpu=gpus("curve"),
    params:
        job=job("equal_cost"),
    message:
        "measuring masks that cost the same: {wildcards.model}"
    script:
        "../scripts/equal_cost.py"


rule understanding:
    input:
        mask=variant_mask,
        reference=unmodified_understanding,
        minimal_pairs=source_files("understanding"),
        pairs=[
            MADE / "pairs" / "{model}" / f"{behaviour}.parquet"
            for behaviour in STUDY.of_role("harm")
        ],
        model=rules.model.output.record,
        archive=rules.model.output.archive,
    output:
        understanding=MADE
        / "responses"
        / "{model}"
        / "{variant}"
        / "understanding.parquet",
        completions=MADE
        / "responses"
        / "{model}"
        / "{variant}"
        / "explanations.parquet",
    log:
        MADE / "logs" / "responses" / "{model}" / "{variant}" / "understanding.log",
    # All other variants depend on the explanations of `unmodified`, and the judges on all.
    priority: lambda w: 19 if w.variant == "unmodified" else 17
    conda:
        ENV
    threads: STUDY.threads
    resources:
        mem_mb=memory("variant_responses"),
        runtime=minutes("variant_responses"),
        gpu=gpus("variant_responses"),
    params:
        job=job("understanding"),
    message:
        "measuring harm detection and explanations: {wildcards.model}, {wildcards.variant}"
    script:
        "../scripts/understanding.py"


rule utility:
    input:
        mask=variant_mask,
        model=rules.model.output.record,
        archive=rules.model.output.archive,
    output:
        utility=MADE / "responses" / "{model}" / "{variant}" / "utility.parquet",
    log:
        MADE / "logs" / "responses" / "{model}" / "{variant}" / "utility.log",
    priority: lambda w: 20 if w.variant == "unmodified" else 9
    conda:
        ENV
    threads: STUDY.threads
    resources:
        mem_mb=memory("variant_responses"),
        runtime=minutes("variant_responses"),
        gpu=gpus("variant_responses"),
    params:
        job=job("utility"),
    message:
        "running the utility tasks: {wildcards.model}, {wildcards.variant}"
    script:
        "../scripts/utility.py"


rule retrain:
    input:
        masks=lambda w: [
            MADE / "masks" / w.model / f"{mask}.safetensors"
            for mask in jobs.retrain_job(STUDY, dict(w)).masks
        ],
        pairs=[
            MADE / "pairs" / "{model}" / f"{behaviour}.parquet"
            for behaviour in outputs.evaluated(STUDY)
        ],
        questions=source_files("retrain", "experiment"),
        model=rules.model.output.record,
        archive=rules.model.output.archive,
    output:
        nll=MADE
        / "responses"
        / "{model}"
        / "retraining"
        / "{experiment}"
        / "{arm}.parquet",
        # Only the judges read these: of a model that was trained on harmful responses, nothing
        # but numbers is kept.
        completions=temp(
            MADE
            / "responses"
            / "{model}"
            / "retraining"
            / "{experiment}"
            / "{arm}-completions.parquet"
        ),
    log:
        MADE
        / "logs"
        / "responses"
        / "{model}"
        / "retraining"
        / "{experiment}"
        / "{arm}.log",
    wildcard_constraints:
        **RETRAINED,
    priority: 12
    conda:
        ENV
    threads: STUDY.threads
    resources:
        mem_mb=memory("train"),
        runtime=minutes("train"),
        gpu=gpus("train"),
    params:
        job=job("retrain"),
    message:
        "fine-tuning in memory: {wildcards.model}, {wildcards.experiment}, {wildcards.arm}"
    script:
        "../scripts/retrain.py"
