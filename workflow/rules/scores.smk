rule signed_scores:
    input:
        pairs=rules.generate_pairs.output.pairs,
        model=rules.model.output.record,
        archive=rules.model.output.archive,
    output:
        shards=[
            SCORES / "{behaviour}" / n
            for n in shard_names("snip", STUDY.scores.shards)
        ],
        index=SCORES / "{behaviour}" / index_name("snip"),
        norms=[SCORES / "{behaviour}" / NORMS] if outputs.wants_norms(STUDY) else [],
    log:
        MADE / "logs" / "scores" / "{model}" / "{behaviour}.log",
    wildcard_constraints:
        behaviour="|".join(name for name in STUDY.behaviours if name not in IMPORTANT),
    # The sweep does not read the scores of refusal behaviours, so they run at a lower priority.
    priority: lambda w: 40 if w.behaviour in STUDY.of_role("harm") else 15
    conda:
        ENV
    threads: STUDY.threads
    resources:
        mem_mb=memory("signed_scores"),
        runtime=minutes("signed_scores"),
        gpu=gpus("signed_scores"),
    params:
        job=job("signed_scores"),
    message:
        "scoring weights: {wildcards.model}, {wildcards.behaviour}"
    script:
        "../scripts/signed_scores.py"


use rule signed_scores as harmless_scores with:
    output:
        shards=[
            SCORES / "{behaviour}" / n
            for n in shard_names("snip", STUDY.scores.shards)
        ],
        index=SCORES / "{behaviour}" / index_name("snip"),
        preservation=[
            SCORES / "{behaviour}" / n
            for n in shard_names("preservation", STUDY.scores.shards)
        ],
        preservation_index=SCORES / "{behaviour}" / index_name("preservation"),
    wildcard_constraints:
        behaviour="|".join(IMPORTANT),
    priority: 40
    message:
        "scoring weights and preservation importance: {wildcards.model}, {wildcards.behaviour}"
