#!/bin/sh
# One word on a SLURM job for snakemake: success, failed or running.
# What squeue has forgotten is asked of sacct. What nobody knows just now is taken to be running.
state=$(squeue -h --states=all -j "$1" -o %T 2>/dev/null | head -n 1)
[ -n "$state" ] || state=$(sacct -n -X -P -j "$1" -o State 2>/dev/null | head -n 1)
case $state in
    COMPLETED) echo success ;;
    '' | PENDING | CONFIGURING | RUNNING | COMPLETING | SUSPENDED | REQUEUED | RESIZING) echo running ;;
    *) echo failed ;;
esac
