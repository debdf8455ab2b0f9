"""The tiny study on a real SLURM of this machine; `make test-cluster` runs what is here.

Not collected by a plain `pytest`: it takes minutes, and packages that only an administrator can
install (`.ci/packages`).
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lesion_testing.slurm import Slurm
from lesion_testing.workflow import Finished, Place

# What a user's site profile may say; and a status that is asked for more often than a real
# controller would like.
SITE = {
    "default-resources": {"slurm_partition": "main"},
    "slurm-status-command": "squeue",  # there is no database behind `sacct`
}


@pytest.fixture(scope="session")
def slurm() -> Iterator[Slurm]:
    """A cluster of one node with two processors."""
    missing = Slurm.missing()
    if missing:
        text = f"not installed: {', '.join(missing)}. `make test-cluster` installs them."
        if "LESION_TEST_CLUSTER" in os.environ:
            pytest.fail(text)
        pytest.skip(text)
    # Not pytest's own folder: the path of a socket has to be short.
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    folder.chmod(0o755)
    cluster = Slurm(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def small(unrun: Place, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A smaller study, before its first run; not to be changed, but copied."""
    place = unrun.copy(tmp_path_factory.mktemp("small"))
    place.configure(_smaller)
    (place.folder / "site").mkdir()
    (place.folder / "site" / "profile.yaml").write_text(yaml.safe_dump(SITE), encoding="utf-8")
    return place


def _smaller(config: dict[str, Any]) -> None:
    for name in ("gamma", "sums", "denials"):
        del config["behaviours"][name]
    config["responses"]["variants"] = ["shared"]


@pytest.fixture(scope="session")
def local(small: Place, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The study run on this machine, without a cluster."""
    place = small.copy(tmp_path_factory.mktemp("local"))
    return Finished(place, set(place.run()))
