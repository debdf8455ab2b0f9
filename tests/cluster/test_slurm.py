"""The study on a real SLURM: the same results, and what happens when something goes wrong."""

import re
import time
from pathlib import Path

from lesion_testing.cluster import HASTE, Watch, results, run, running, script
from lesion_testing.rules import local_rules
from lesion_testing.slurm import Slurm
from lesion_testing.workflow import Finished, Place

CHECKPOINT = "results/tiny/checkpoints/llama/shared/lesion.json"
JUDGE = "results/tiny/judgements/judge.safetensors"
SAVED_SECONDS = 8
"""After which slurmctld has written down what was submitted; what it has not is lost with it."""


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
    grouped = sum(job == "signed_scores" for job in jobs)
    given = [job for job in jobs if job not in local_rules()]
    assert len(_submitted(done.text)) == len(given) - grouped
    assert not place.plan(), "a run without the cluster finds nothing to do"


def test_too_little_memory_or_time_is_tried_again_with_more(
    local: Finished, slurm: Slurm, tmp_path: Path
) -> None:
    place = local.place.copy(tmp_path / "place")
    for name in (CHECKPOINT, JUDGE):
        (place.folder / name).unlink()
    # SLURM counts in minutes, so that one is the least that a job can have.
    place.edit(
        "tree/src/lesion/plan/resources.py",
        lambda text: text.replace(
            '"train_judge": ResourceFormula(2000, minutes=60)',
            '"train_judge": ResourceFormula(2000, minutes=1)',
        ),
    )
    script(
        place, "train_judge", ["import time", "time.sleep(300 * (snakemake.resources.runtime < 2))"]
    )
    script(
        place,
        "checkpoint",
        ["import time", "held = b'x' * 1500 * 2**20", "time.sleep(3)  # so that it is seen"],
    )
    done = run(place, slurm, CHECKPOINT, JUDGE)
    assert done.code == 0, done.text
    lines = [
        line.split()
        for line in slurm.call("squeue", "-h", "-t", "all", "-o", "%i %m %l %T").splitlines()
        if line.split()[0] in _submitted(done.text)
    ]
    asked = sorted((memory, limit, state) for _, memory, limit, state in lines)
    assert asked == [
        ("1000M", "11:00", "FAILED"),
        ("2000M", "1:00", "TIMEOUT"),
        ("2000M", "22:00", "COMPLETED"),
        ("4000M", "2:00", "COMPLETED"),
    ]
    logs = (place.folder / "results" / "slurm-logs" / "rule_checkpoint").rglob("*.log")
    assert "exceeded memory limit" in "".join(one.read_text(encoding="utf-8") for one in logs)


def test_a_failure_is_shown_with_its_log(local: Finished, slurm: Slurm, tmp_path: Path) -> None:
    place = local.place.copy(tmp_path / "place")
    (place.folder / CHECKPOINT).unlink()
    script(place, "checkpoint", ["raise ValueError('a prank')"])
    done = run(place, slurm, "--retries", "0", CHECKPOINT)
    assert done.code != 0
    log = "results/tiny/logs/checkpoints/llama/shared.log"
    assert log in done.text
    # Snakemake prints the log of a job that failed, which holds the traceback.
    assert "Traceback (most recent call last)" in done.text
    assert "ValueError: a prank" in done.text
    (number,) = _submitted(done.text)
    slurms = next((place.folder / "results" / "slurm-logs").rglob(f"{number}.log"))
    assert str(slurms) in done.text
    assert f"lesion: ValueError: a prank\n(log: {log})" in slurms.read_text(encoding="utf-8")


def test_a_run_survives_what_happens_to_the_cluster(
    small: Place, local: Finished, slurm: Slurm, tmp_path: Path
) -> None:
    place = small.copy(tmp_path / "place")
    with running(place, slurm, *HASTE, "masks") as first:
        _until_running(slurm)
        # A node's daemon that dies leaves its jobs alone.
        slurm.kill("slurmd")
        slurm.start_node()
        _until_done(slurm, 1)
        _until_running(slurm)
        first.interrupt()  # Ctrl-C
        interrupted = first.end()
    assert interrupted.code != 0
    slurm.wait(lambda: not slurm.jobs("RUNNING,PENDING"), "the jobs to be cancelled")
    kept = _finished(interrupted.text)
    assert kept, interrupted.text

    with running(place, slurm, *HASTE, "masks") as second:
        _until_running(slurm)
        time.sleep(SAVED_SECONDS)
        slurm.kill("slurmctld")
        time.sleep(5)
        slurm.start_controller()
        cancelled, *_ = _until_running(slurm)
        slurm.call("scancel", cancelled)
        _until_done(slurm, 2)
        _until_running(slurm)
        slurm.kill_node()
        time.sleep(2)
        slurm.start_node()
        done = second.end()
    assert done.code == 0, done.text
    assert slurm.history()[cancelled] == "CANCELLED"
    # The one that was cancelled; what a node loses, SLURM itself may start again.
    assert "Trying to restart job" in done.text
    assert results(place, "masks") == results(local.place, "masks")
    assert not place.jobs("-n", "masks")


def _finished(text: str) -> list[str]:
    return re.findall(r"Finished jobid: (\d+)", text)


def _until_running(slurm: Slurm) -> list[str]:
    """Wait until jobs run, and give their ids.

    SLURM says RUNNING before the node has the job. A node's daemon that dies in between has
    lost it, and it comes back after minutes only.
    """
    jobs: list[str] = []

    def look() -> bool:
        on_node = slurm.on_node()
        jobs[:] = [one for one in slurm.jobs("RUNNING") if one in on_node]
        return bool(jobs)

    slurm.wait(look, "a job to run", 120)
    return jobs


def _until_done(slurm: Slurm, more: int) -> None:
    """Wait until so many more jobs have ended well."""

    def count() -> int:
        return sum(state == "COMPLETED" for state in slurm.history().values())

    start = count()
    slurm.wait(lambda: count() >= start + more, f"{more} jobs to end", 600)
