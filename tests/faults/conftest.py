"""The tiny study of tests/workflow, for the faults that only a real run shows."""

from workflow.conftest import code, inputs, unrun

__all__ = ["code", "inputs", "unrun"]
