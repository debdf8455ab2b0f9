"""lesion: which weights does a behaviour depend on, and what is left when they are zeroed?"""

from snakemake.utils import min_version

min_version("9.19")


include: "workflow/rules/common.smk"
include: "workflow/rules/sources.smk"
include: "workflow/rules/models.smk"
include: "workflow/rules/pairs.smk"
include: "workflow/rules/scores.smk"
include: "workflow/rules/masks.smk"
include: "workflow/rules/checkpoints.smk"
include: "workflow/rules/responses.smk"
include: "workflow/rules/judgements.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        rules.report.output,
        [MADE / path for path in outputs.of_every_job(STUDY)],
    message:
        f"the study `{STUDY.study}` is complete: {MADE / 'report' / 'index.html'}"
