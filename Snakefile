"""The workflow is in `workflow/Snakefile`; from here, `snakemake` runs `config.yaml`."""


include: "workflow/Snakefile"


# An include leaves the default target as it was.
workflow.default_target = default_target()
