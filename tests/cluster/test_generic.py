"""The profile for sites without a plugin of their own, with SLURM's `sbatch` behind it."""

from pathlib import Path

from lesion.io.formats import sha256_file
from lesion_testing.cluster import PATIENCE, running, script
from lesion_testing.slurm import Slurm
from lesion_testing.workflow import Finished, Place

PROFILE = "tree/workflow/profiles/cluster-generic"
CHECKPOINT = "results/tiny/checkpoints/llama/shared/lesion.json"
JUDGE = "results/tiny/judgements/judge.safetensors"


def _site(place: Place) -> None:
    """`slurm-status-command` is none of this executor's options."""
    (place.folder / "site" / "profile.yaml").write_text("jobs: 10\n", encoding="utf-8")


def test_jobs_go_through_a_submit_command(local: Finished, slurm: Slurm, tmp_path: Path) -> None:
    place = local.place.copy(tmp_path / "place")
    _site(place)
    before = {name: sha256_file(place.folder / name) for name in (CHECKPOINT, JUDGE)}
    for name in before:
        (place.folder / name).unlink()
    # The first attempt gets too little memory, which its status tells.
    script(place, "checkpoint", ["import time", "held = b'x' * 1500 * 2**20", "time.sleep(3)"])
    known = set(slurm.history())
    with running(place, slurm, CHECKPOINT, JUDGE, profile=PROFILE) as one:
        done = one.end()
    assert done.code == 0, done.text
    assert {name: sha256_file(place.folder / name) for name in before} == before
    states = sorted(state for job, state in slurm.history().items() if job not in known)
    assert states == ["COMPLETED", "COMPLETED", "FAILED"]
    assert list((place.folder / "results" / "cluster-logs").glob("*-checkpoint.log"))


def test_an_interrupted_run_cancels_its_jobs(local: Finished, slurm: Slurm, tmp_path: Path) -> None:
    place = local.place.copy(tmp_path / "place")
    _site(place)
    (place.folder / JUDGE).unlink()
    script(place, "train_judge", ["import time", f"time.sleep({PATIENCE})"])
    with running(place, slurm, JUDGE, profile=PROFILE) as one:
        slurm.wait(lambda: slurm.jobs("RUNNING"), "a job to run")
        one.interrupt()
        assert one.end().code != 0
    slurm.wait(lambda: not slurm.jobs("RUNNING,PENDING"), "the job to be cancelled")
