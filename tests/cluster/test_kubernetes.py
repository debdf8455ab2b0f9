"""The Kubernetes profile can be planned; no Kubernetes was at hand to run it."""

import importlib.util

import pytest

from lesion_testing.workflow import BIN, Place, run

PLUGINS = ("snakemake_executor_plugin_kubernetes", "snakemake_storage_plugin_fs")
MISSING = [name for name in PLUGINS if importlib.util.find_spec(name) is None]


@pytest.mark.skipif(bool(MISSING), reason=f"not installed, as it is no pin of ours: {MISSING}")
def test_a_study_is_planned(small: Place) -> None:
    files = ["--snakefile", "tree/Snakefile", "--configfile", "study.yaml"]
    profile = ["--workflow-profile", "tree/workflow/profiles/kubernetes"]
    # The volume is where the study lies.
    storage = ["--default-storage-prefix", str(small.folder)]
    done = run([str(BIN / "snakemake"), "-n", *profile, *storage, *files], small.folder)
    assert done.code == 0, done.text
    assert "total" in done.text
