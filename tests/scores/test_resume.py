"""A scoring job that was killed goes on, and nobody can tell from what it leaves."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file

import lesion.scores.run
from lesion.io.formats import write_parquet
from lesion.models.candidates import find_candidates
from lesion.models.text import encode_plain
from lesion.scores.collect import CollectedScores, score
from lesion.scores.jobs import Coverage, ScoresJob
from lesion.scores.resume import FinishedPasses, Resumable, Sums
from lesion.scores.run import score_model
from lesion.study.job import Device
from lesion.study.sections import Memory
from lesion_testing import tiny

pytestmark = pytest.mark.slow

BATCHES = 6
"""One for each pair."""
HOW = ScoresJob(
    behaviour="gamma",
    device=Device(dtype="float32"),
    batch_tokens=1,
    shards=2,
    text="chat",
    preservation="per-example",
    norms=True,
    memory=Memory(plan="all"),
    tail=None,
)
TWICE = HOW.model_copy(update={"memory": Memory(plan="passes", passes=2, checkpointing=False)})
TAIL = HOW.model_copy(update={"tail": Coverage(p=0.2, q=0.05, scope="global")})


PLAIN = HOW.model_copy(update={"text": "plain"})


class _Killed(Exception):
    pass


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.checkpoint(tmp_path_factory.mktemp("resume"))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pairs") / "gamma.parquet"
    write_parquet(_pairs(), path)
    return path


def _pairs() -> pl.DataFrame:
    return tiny.pairs("gamma", BATCHES, "train")


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture(scope="module")
def undisturbed(
    model: Path, pairs: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[ScoresJob], dict[str, bytes]]:
    """What a job leaves that nothing disturbs."""
    known: dict[ScoresJob, dict[str, bytes]] = {}

    def of(how: ScoresJob) -> dict[str, bytes]:
        if how not in known:
            folder = tmp_path_factory.mktemp("undisturbed")
            score_model(model, pairs, folder, how, save_minutes=0)
            known[how] = _files(folder)
        return known[how]

    return of


def test_plain_text_is_scored_as_such(
    model: Path, pairs: Path, undisturbed: Callable[[ScoresJob], dict[str, bytes]], tmp_path: Path
) -> None:
    score_model(model, pairs, tmp_path, PLAIN, save_minutes=0)
    loaded = tiny.loaded(model)
    texts = _pairs().select("prompt", "prefill", "response").iter_rows()
    examples = [encode_plain(loaded.chat, *row) for row in texts]
    wanted = score(loaded.model, find_candidates(loaded.model), examples, 1).snip
    found = {name: tensor for path in tmp_path.glob("snip-*") for name, tensor in _tensors(path)}
    assert {*found} == {*wanted}
    for name, tensor in found.items():
        torch.testing.assert_close(tensor.view(-1), wanted[name].view(-1))
    assert _files(tmp_path) != undisturbed(HOW)


def _tensors(path: Path) -> Iterator[tuple[str, torch.Tensor]]:
    yield from load_file(path).items() if path.suffix == ".safetensors" else ()


Bar = Callable[..., object]


def _killing(after: int) -> Bar:
    """A bar that ends the job once so many batches are done."""

    @contextmanager
    def bar(*_: object) -> Iterator[Callable[[int], None]]:
        left = [after]

        def advance(count: int) -> None:
            left[0] -= count > 0
            if not left[0]:
                raise _Killed

        yield advance

    return bar


def _run_killed(
    monkeypatch: pytest.MonkeyPatch,
    after: int,
    model: Path,
    pairs: Path,
    folder: Path,
    how: ScoresJob = HOW,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("lesion.scores.run.progress", _killing(after))
        with pytest.raises(_Killed):
            score_model(model, pairs, folder, how, save_minutes=0)


class _Watched:
    """Counts the passes of a job, the batches they run, and where they begin."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.passes, self.batches = 0, 0
        losses = lesion.scores.collect.response_losses

        def counted(*args: object) -> object:
            self.batches += 1
            return losses(*args)  # type: ignore[arg-type]

        def noted(*args: object, **more: object) -> CollectedScores:
            self.passes += 1
            return score(*args, **more)  # type: ignore[arg-type]

        monkeypatch.setattr("lesion.scores.collect.response_losses", counted)
        monkeypatch.setattr("lesion.scores.run.score", noted)


@pytest.mark.parametrize(
    ("how", "after"), [(HOW, 1), (HOW, 4), (TAIL, 3), (TWICE, 2), (TWICE, BATCHES + 2)]
)
def test_a_stopped_job_goes_on_to_the_same_bytes(
    model: Path,
    pairs: Path,
    undisturbed: Callable[[ScoresJob], dict[str, bytes]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    how: ScoresJob,
    after: int,
) -> None:
    wanted = undisturbed(how)
    _run_killed(monkeypatch, after, model, pairs, tmp_path, how)
    assert (tmp_path / ".scoring" / "sums.safetensors").is_file()
    assert not _files(tmp_path)
    watched = _Watched(monkeypatch)
    score_model(model, pairs, tmp_path, how, save_minutes=0)
    assert _files(tmp_path) == wanted
    assert not (tmp_path / ".scoring").exists()
    assert watched.batches == BATCHES * (2 if how is TWICE else 1) - after
    assert "norms.safetensors" in wanted


CHILD = """
import os, signal, sys
from contextlib import contextmanager
from pathlib import Path
import lesion.scores.run as own
sys.path.insert(0, sys.argv[1])
from test_resume import HOW

@contextmanager
def bar(*_):
    done = []
    def advance(count):
        done.append(count)
        if len(done) == 1 + 4:
            os.kill(os.getpid(), signal.SIGKILL)
    yield advance

own.progress = bar
own.score_model(Path(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]), HOW, save_minutes=0)
"""


def test_a_killed_process_is_gone_on_from(
    model: Path,
    pairs: Path,
    undisturbed: Callable[[ScoresJob], dict[str, bytes]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = Path(__file__).parent
    found = subprocess.run(
        [sys.executable, "-c", CHILD, str(here), str(model), str(pairs), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        check=False,
    )
    assert found.returncode == -signal.SIGKILL, found.stderr.decode()[-2000:]
    wanted = undisturbed(HOW)
    watched = _Watched(monkeypatch)
    score_model(model, pairs, tmp_path, HOW, save_minutes=0)
    assert watched.batches == BATCHES - 4
    assert _files(tmp_path) == wanted
    assert not (tmp_path / ".scoring").exists()


def test_finished_passes_are_not_repeated(
    model: Path,
    pairs: Path,
    undisturbed: Callable[[ScoresJob], dict[str, bytes]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted = undisturbed(TWICE)
    watched = _Watched(monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(FinishedPasses, "move", _raise)
        with pytest.raises(_Killed):
            score_model(model, pairs, tmp_path, TWICE, save_minutes=0)
    assert watched.passes == 2
    score_model(model, pairs, tmp_path, TWICE, save_minutes=0)
    assert watched.passes == 2
    assert _files(tmp_path) == wanted


def _raise(*_: object) -> None:
    raise _Killed


def test_a_job_killed_while_it_moved_its_files_repeats_what_is_gone(
    model: Path,
    pairs: Path,
    undisturbed: Callable[[ScoresJob], dict[str, bytes]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted = undisturbed(TWICE)
    move = FinishedPasses.move

    def first_only(self: FinishedPasses, names: list[str], to: Path) -> None:
        move(self, names[:1], to)
        raise _Killed

    with monkeypatch.context() as patch:
        patch.setattr(FinishedPasses, "move", first_only)
        with pytest.raises(_Killed):
            score_model(model, pairs, tmp_path, TWICE, save_minutes=0)
    for path in tmp_path.glob("*.safetensors"):  # as Snakemake does with a failed job's outputs
        path.unlink()
    watched = _Watched(monkeypatch)
    score_model(model, pairs, tmp_path, TWICE, save_minutes=0)
    assert watched.passes == 1
    assert _files(tmp_path) == wanted


def test_more_passes_than_groups_with_weights_is_no_error(
    model: Path, pairs: Path, undisturbed: Callable[[ScoresJob], dict[str, bytes]], tmp_path: Path
) -> None:
    many = HOW.model_copy(
        update={
            "shards": 20,
            "memory": Memory(plan="passes", passes=20, checkpointing=False),
        }
    )
    score_model(model, pairs, tmp_path, many, save_minutes=0)
    plain = undisturbed(HOW.model_copy(update={"shards": 1}))
    for kind in ("snip", "preservation"):
        found = {}
        for path in tmp_path.glob(f"{kind}-*"):
            found |= load_file(path)
        (tmp_path / "one").write_bytes(plain[f"{kind}-00001-of-00001.safetensors"])
        wanted = load_file(tmp_path / "one")
        assert set(found) == set(wanted)
        for name, one in wanted.items():
            torch.testing.assert_close(found[name], one)


def test_changed_pairs_or_another_dtype_begin_anew(
    model: Path, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = tmp_path / "changed.parquet"
    write_parquet(_pairs().with_columns(response=pl.col("response") + " apple"), changed)
    anew = HOW.model_copy(update={"device": Device(dtype="bfloat16")})
    for number, (table, how) in enumerate([(changed, HOW), (pairs, anew)]):
        folder, fresh = tmp_path / f"{number}", tmp_path / f"fresh-{number}"
        _run_killed(monkeypatch, 3, model, pairs, folder)
        with monkeypatch.context() as patch:
            watched = _Watched(patch)
            score_model(model, table, folder, how, save_minutes=0)
            resumed = watched.batches
            score_model(model, table, fresh, how, save_minutes=0)
        assert resumed == BATCHES
        assert watched.batches == 2 * BATCHES
        assert _files(folder) == _files(fresh)
        assert not (folder / ".scoring").exists()


@pytest.mark.parametrize(
    "damage", ["cut", "noise", "empty", "a flipped bit", "a tensor is missing"]
)
def test_damaged_sums_are_ignored(
    model: Path,
    pairs: Path,
    undisturbed: Callable[[ScoresJob], dict[str, bytes]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    damage: str,
) -> None:
    wanted = undisturbed(HOW)
    _run_killed(monkeypatch, 3, model, pairs, tmp_path)
    _damage(tmp_path / ".scoring" / "sums.safetensors", damage)
    watched = _Watched(monkeypatch)
    score_model(model, pairs, tmp_path, HOW, save_minutes=0)
    assert watched.batches == BATCHES
    assert _files(tmp_path) == wanted


def _damage(file: Path, how: str) -> None:
    whole = file.read_bytes()
    if how == "a tensor is missing":
        from safetensors import safe_open

        tensors = load_file(file)
        with safe_open(file, "pt") as opened:
            about = opened.metadata()
        tensors.pop(list(tensors)[-1])
        save_file(tensors, file, about)
    else:
        flipped = whole[:-3] + bytes([whole[-3] ^ 16]) + whole[-2:]
        left = {"cut": whole[:-8], "noise": b"\xff" * len(whole), "empty": b""}
        left["a flipped bit"] = flipped
        file.write_bytes(left[how])


def _sums(value: float) -> Sums:
    each = ({"w": torch.full((2, 3), value)} for _ in range(2))
    return Sums(*each, {"w": torch.full((3,), value)})


def test_sums_come_back_with_their_counts(tmp_path: Path) -> None:
    loss = 0.1 + 0.2
    Resumable(tmp_path, "key", 0).save(_sums(1 / 3), 5, loss, 11)
    found = _sums(0.0)
    assert Resumable(tmp_path, "key", 0).restore(found) == (5, loss, 11)
    for one, other in zip(found, _sums(1 / 3), strict=True):
        assert torch.equal(one["w"], other["w"])


def test_anothers_sums_are_left_alone(tmp_path: Path) -> None:
    Resumable(tmp_path, "key", 0).save(_sums(1), 5, 1.0, 11)
    found = _sums(0.0)
    assert Resumable(tmp_path, "other", 0).restore(found) == (0, 0.0, 0)
    assert not any(one["w"].any() for one in found)


def test_sums_are_not_saved_before_it_is_time(tmp_path: Path) -> None:
    Resumable(tmp_path, "key", 60).save(_sums(1), 5, 1.0, 11)
    assert not list(tmp_path.iterdir())


def test_finished_passes_of_other_pairs_are_not_taken_over(
    model: Path,
    pairs: Path,
    undisturbed: Callable[[ScoresJob], dict[str, bytes]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    changed = tmp_path / "changed.parquet"
    write_parquet(_pairs().with_columns(response=pl.col("response") + " apple"), changed)
    folder = tmp_path / "scores"
    with monkeypatch.context() as patch:
        patch.setattr(FinishedPasses, "move", _raise)
        with pytest.raises(_Killed):
            score_model(model, changed, folder, TWICE, save_minutes=0)
    score_model(model, pairs, folder, TWICE, save_minutes=0)
    assert _files(folder) == undisturbed(TWICE)
