"""Jobs on machines that share nothing with this one but a storage provider."""

import shutil
from pathlib import Path

from lesion.io.formats import sha256_file
from lesion_testing.workflow import BIN, Finished, with_rsync

SUBMIT = """#!/bin/sh
# Runs a job's script in an empty folder and prints the folder, by which its state is asked for.
folder=$(mktemp -d {machines}/XXXXXX)
cp "$1" "$folder/job.sh"
cd "$folder"
# The machine has an installation of its own, which its `python` is of.
export PATH={programs}:"$PATH"
setsid sh -c 'sh job.sh >log 2>&1 && echo success >state || echo failed >state' \\
  </dev/null >/dev/null 2>&1 &
echo "$folder"
"""
STATUS = """#!/bin/sh
cat "$1/state" 2>/dev/null || echo running
"""
TARGET = "results/tiny/scores/llama/beta/snip.safetensors.index.json"


@with_rsync
def test_nothing_but_the_storage_is_shared(local: Finished, tmp_path: Path) -> None:
    place = local.place.copy(tmp_path / "place")
    shutil.rmtree(place.folder / "results")
    store, machines = tmp_path / "store", tmp_path / "machines"
    machines.mkdir()
    for name, text in (("submit", SUBMIT), ("status", STATUS)):
        script = tmp_path / name
        script.write_text(text.format(machines=machines, programs=BIN), encoding="utf-8")
        script.chmod(0o755)
    done = place.snakemake(
        *("--executor", "cluster-generic", "--seconds-between-status-checks", "1"),
        *("--cluster-generic-submit-cmd", str(tmp_path / "submit")),
        *("--cluster-generic-status-cmd", str(tmp_path / "status")),
        *("--default-storage-provider", "fs", "--default-storage-prefix", str(store)),
        *("--shared-fs-usage", "none", "--job-deploy-sources", "--jobs", "2"),
        TARGET,
    )
    logs = [log.read_text(encoding="utf-8") for log in machines.glob("*/log")]
    assert done.code == 0, "\n".join([done.text, *logs])
    # The model, and the answers and scores of `beta`; sources are fetched here.
    assert len(logs) == 3
    assert not (place.folder / "results").exists()
    assert sha256_file(store / TARGET) == sha256_file(local.place.folder / TARGET)
