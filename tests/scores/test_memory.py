from collections.abc import Mapping
from pathlib import Path

import pytest
from torch import Tensor, nn

from lesion.io.formats import LesionError
from lesion.models.candidates import find_candidates
from lesion.scores.collect import Wanted, score
from lesion.scores.memory import Free, Need, Plan, free_memory, group_limit, make_plan, need
from lesion.study.sections import Memory
from lesion_testing import families

AUTO = Memory()
NEED = Need(weights=1000, sums=1000, activations=500, checkpointed=100)


def _plan(device: int, host: int = 10**6, wish: Memory = AUTO, same: bool = False) -> Plan:
    """The plan with so many bytes usable of the free ones."""
    free = Free(int(device / 0.9) + 2, int(host / 0.9) + 2, same)
    return make_plan(NEED, free, wish, shards=4)


def _short(plan: Plan) -> tuple[bool, int, bool]:
    return plan.offload, plan.passes, plan.checkpointing


@pytest.mark.parametrize(
    ("device", "wanted"),
    [
        (1500, (False, 1, False)),
        (1400, (False, 1, True)),
        (1100, (False, 1, True)),
        (1000, (True, 1, False)),
        (500, (True, 1, False)),
        (400, (True, 1, True)),
        (100, (True, 1, True)),
    ],
)
def test_a_gpu_checkpoints_then_offloads(device: int, wanted: tuple[bool, int, bool]) -> None:
    assert _short(_plan(device)) == wanted


@pytest.mark.parametrize(
    ("device", "wanted"),
    [
        (1500, (False, 1, False)),
        (1400, (False, 1, True)),
        (1000, (False, 2, False)),
        (700, (False, 2, True)),
        (440, (False, 3, True)),
        (350, (False, 4, True)),
    ],
)
def test_a_cpu_checkpoints_then_takes_more_passes(
    device: int, wanted: tuple[bool, int, bool]
) -> None:
    assert _short(_plan(device, same=True)) == wanted


def test_a_gpu_takes_more_passes_where_the_host_is_small_too() -> None:
    assert _short(_plan(1000, host=900)) == (False, 2, False)
    assert _short(_plan(550, host=500)) == (True, 2, False)


def test_the_users_word_wins() -> None:
    much, little = 10**6, 1
    assert _short(_plan(much, wish=Memory(plan="offload"))) == (True, 1, False)
    assert _short(_plan(much, wish=Memory(plan="passes"))) == (False, 4, False)
    assert _short(_plan(much, wish=Memory(plan="passes", passes=2, checkpointing=True))) == (
        False,
        2,
        True,
    )
    assert _short(_plan(much, wish=Memory(passes=3))) == (False, 3, False)
    assert _short(_plan(much, wish=Memory(checkpointing=True))) == (False, 1, True)
    assert _short(_plan(1200, wish=Memory(checkpointing=False))) == (True, 1, False)
    assert _plan(little, wish=Memory(plan="all")) == Plan(False, 1, False, "asked for")
    assert _short(_plan(little, wish=Memory(plan="offload", passes=2, checkpointing=True))) == (
        True,
        2,
        True,
    )


def test_what_does_not_fit_says_what_would() -> None:
    with pytest.raises(
        LesionError, match=r"GiB are free, .* 4 shards about .* GiB are needed\. Lower"
    ):
        _plan(50)
    with pytest.raises(LesionError, match=r"Lower `scores\.batch_tokens`"):
        _plan(340, same=True)


def test_more_passes_than_shards_is_an_error() -> None:
    with pytest.raises(LesionError, match=r"5 passes need .* `scores\.shards` is 4\. Raise"):
        _plan(10**6, wish=Memory(passes=5))


def test_the_log_says_why() -> None:
    assert _plan(1500).why.startswith("sums of 0 MiB beside the model in 1 pass(es)")
    assert "on the CPU" in _plan(200).why
    assert "(checkpointed)" in _plan(200).why


def _bytes(tensors: Mapping[str, Tensor] | None) -> int:
    return sum(one.numel() * one.element_size() for one in (tensors or {}).values())


@pytest.mark.parametrize("family", ["llama", "gpt2", "mixtral", "gemma3"])
@pytest.mark.parametrize("preservation", [False, True])
def test_the_sums_are_estimated_exactly(family: str, preservation: bool) -> None:
    model = families.model(family)
    candidates = find_candidates(model)
    found = score(model, candidates, families.examples(), 100, Wanted(preservation))
    wanted = need(model, candidates, 100, preservation)
    assert wanted.sums == _bytes(found.snip) + _bytes(found.preservation)
    assert wanted.weights == _bytes(dict(model.named_parameters()))


def test_more_is_needed_for_more() -> None:
    model = families.model("llama")
    candidates = find_candidates(model)
    small = need(model, candidates, 100, preservation=False)
    kept, long = need(model, candidates, 100, True), need(model, candidates, 200, False)
    assert kept.sums == 2 * small.sums
    assert (kept.activations, kept.checkpointed) == (small.activations, small.checkpointed)
    assert long.activations == 2 * small.activations
    assert long.checkpointed > small.checkpointed
    assert long.sums == small.sums
    assert small.checkpointed < small.activations


def test_a_model_without_a_config_can_be_estimated() -> None:
    assert need(nn.Linear(3, 2), {}, 10, preservation=True) == Need(32, 0, 0, 0)


def test_a_group_has_no_more_than_those_around_it(tmp_path: Path) -> None:
    step = tmp_path / "slurm" / "job_1" / "step_0"
    step.mkdir(parents=True)
    assert group_limit(tmp_path, step) == 2**62
    for folder, limit, used in ((step, "max", 5), (step.parent, "100", 30), (tmp_path, "900", 1)):
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text(f"{used}\n")
    # SLURM limits the job, and the process is in one of its steps.
    assert group_limit(tmp_path, step) == 70
    (step.parent / "memory.current").write_text("130\n")
    assert group_limit(tmp_path, step) == 0
    # A container sees its own group where the root of all is elsewhere.
    assert group_limit(tmp_path, tmp_path) == 899


def test_free_memory_is_what_the_host_has() -> None:
    import torch

    free = free_memory(torch.device("cpu"))
    assert free.same
    assert 0 < free.device == free.host < 2**62
