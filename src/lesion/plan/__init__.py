"""The plan of a study: its jobs, their specifications, inputs and cluster resources.

A job is stale exactly when its specification (`lesion.plan.jobs`) or the content of an input file
changes.
"""
