"""The study on a real SLURM: the same results, and what happens when something goes wrong."""

import re
from pathlib import Path

from conftest import Watch, results, run
from slurm import Slurm
from workflow.conftest import Finished, Place

LOCAL = {"source", "prompts", "tables", "card", "report"}


def _submitted(text: str) -> list[str]:
    """Ids of the jobs that were given to SLURM, in order."""
    return re.findall(r"has been submitted with SLURM jobid (\d+)", text)


def test_a_cluster_gives_the_same_bytes(
    small: Place, local: Finished, slurm: Slurm, tmp_path: Path
) -> None:
    place = small.copy(tmp_path / "place")
    watch = Watch(slurm)
    watch.start()
    done = run(place, slurm)
    most = watch.stop()
    assert done.code == 0, done.text
    assert results(place) == results(local.place)
    assert most == 2, "the node has two processors"
    # A behaviour's responses and scores are one job; what is small is none.
    jobs = [job.split()[0] for job in local.jobs]
    grouped = sum(job == "scores" for job in jobs)
    assert len(_submitted(done.text)) == len([job for job in jobs if job not in LOCAL]) - grouped
    assert not place.plan(), "a run without the cluster finds nothing to do"
