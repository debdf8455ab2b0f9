"""Training in memory: what it learns, what it leaves alone, and going on after a kill."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback

from lesion.io.formats import LesionError
from lesion.models.likelihood import response_nll
from lesion.models.load import Loaded
from lesion.models.text import encode_pair
from lesion.study.training import Lora
from lesion.training.examples import TrainingAnswer, TrainingExample
from lesion.training.fit import Saving, fine_tune
from lesion_testing import tiny
from lesion_testing.taught import ABOUT, LORA, recipe

TAUGHT = [
    *ABOUT,
    TrainingExample("and now", TrainingAnswer("the end of"), prefill="Sure, here is"),
]
PREFERRED = [
    TrainingExample(
        f"what about {word}", TrainingAnswer("no thanks"), TrainingAnswer(f"the {word} is here")
    )
    for word in ("sun", "sea", "sky")
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny.checkpoint(tmp_path / "model")


def test_a_tokenizer_without_eos_and_padding_trains(folder: Path) -> None:
    plain, bare = tiny.loaded(folder), tiny.loaded(folder)
    bare.tokenizer.eos_token = bare.tokenizer.pad_token = None
    for loaded in (plain, bare):
        fine_tune(loaded, TAUGHT, recipe(steps=2), "test")
    assert same(weights(plain), weights(bare))


def weights(loaded: Loaded) -> dict[str, torch.Tensor]:
    return {name: one.detach().clone() for name, one in loaded.model.named_parameters()}


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    assert left.keys() == right.keys()
    return all(torch.equal(left[name], right[name]) for name in left)


def nlls(loaded: Loaded, taught: list[TrainingExample]) -> list[float]:
    examples = [
        encode_pair(loaded.chat, one.prompt or "", one.prefill, *one.chosen[:2]) for one in taught
    ]
    return response_nll(loaded.model, examples, 10**6)


def test_what_is_taught_becomes_likelier(folder: Path) -> None:
    loaded = tiny.loaded(folder)
    before = nlls(loaded, TAUGHT)
    losses = fine_tune(loaded, TAUGHT, recipe(), "test")
    after = nlls(loaded, TAUGHT)
    assert max(after) < min(before)
    assert losses["examples"].to_list() == [4, 8, 12, 16, 20, 24]
    assert not any(one.requires_grad for one in loaded.model.parameters())


def test_the_first_loss_is_the_nll_of_the_responses_alone(folder: Path) -> None:
    loaded = tiny.loaded(folder)
    lengths = [
        len(one.tokens) - one.start
        for one in (
            encode_pair(loaded.chat, two.prompt or "", two.prefill, *two.chosen[:2])
            for two in TAUGHT
        )
    ]
    expected = sum(a * b for a, b in zip(nlls(loaded, TAUGHT), lengths, strict=True)) / sum(lengths)
    losses = fine_tune(loaded, TAUGHT, recipe(steps=1), "test")
    assert losses["loss"][0] == pytest.approx(expected, rel=1e-4)


def test_parts_of_a_step_add_up(folder: Path) -> None:
    whole, parts = tiny.loaded(folder), tiny.loaded(folder)
    fine_tune(whole, TAUGHT, recipe(), "test")
    fine_tune(parts, TAUGHT, recipe(accumulate=4), "test")
    for left, right in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-3, atol=1e-4)


def test_the_same_seed_trains_the_same_model_and_another_one_another(folder: Path) -> None:
    made = []
    for seed in (1, 1, 2):
        loaded = tiny.loaded(folder)
        fine_tune(loaded, TAUGHT, recipe(batch_size=2, seed=seed), "test")
        made.append(weights(loaded))
    assert same(made[0], made[1])
    assert not same(made[0], made[2])


def test_what_was_cut_off_teaches_no_end(folder: Path) -> None:
    cut = [one._replace(chosen=one.chosen._replace(finished=False)) for one in TAUGHT]
    ends = {}
    for name, taught in (("whole", TAUGHT), ("cut", cut)):
        loaded = tiny.loaded(folder)
        fine_tune(loaded, taught, recipe(steps=20), "test")
        one = encode_pair(loaded.chat, "what about sun", "", "the sun is here", False)
        logits = loaded.model(input_ids=torch.tensor([one.tokens])).logits[0, -1]
        ends[name] = int(logits.argmax()) == loaded.chat.end_of_turn
    assert ends == {"whole": True, "cut": False}


def test_adapters_end_up_in_the_weights(folder: Path) -> None:
    loaded = tiny.loaded(folder)
    before, names = nlls(loaded, TAUGHT), set(weights(loaded))
    fine_tune(loaded, TAUGHT, recipe(lora=LORA, learning_rate=0.05), "test")
    assert set(weights(loaded)) == names
    assert sum(nlls(loaded, TAUGHT)) < sum(before)


@pytest.mark.parametrize("lora", [None, LORA])
def test_dpo_prefers_the_chosen(folder: Path, lora: Lora | None) -> None:
    loaded = tiny.loaded(folder)

    def margin() -> float:
        rejected = [
            TrainingExample(one.prompt, one.rejected or TrainingAnswer("")) for one in PREFERRED
        ]
        return sum(nlls(loaded, rejected)) - sum(nlls(loaded, PREFERRED))

    before = margin()
    losses = fine_tune(loaded, PREFERRED, recipe(beta=0.1, batch_size=3, lora=lora), "test")
    assert margin() > before
    # Nothing is preferred yet: log 2.
    assert losses["loss"][0] == pytest.approx(0.6931, abs=1e-3)


class _Kill(TrainerCallback):
    def __init__(self, after: int) -> None:
        self.after = after

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.after:
            raise KeyboardInterrupt


def test_a_killed_training_goes_on_to_the_same_model(folder: Path, tmp_path: Path) -> None:
    straight = tiny.loaded(folder)
    losses = fine_tune(straight, TAUGHT, recipe(batch_size=2), "test")
    saving = Saving(tmp_path / "work", minutes=0)
    killed = tiny.loaded(folder)
    with pytest.raises(KeyboardInterrupt):
        fine_tune(killed, TAUGHT, recipe(batch_size=2), "test", [_Kill(3)], saving)
    resumed = tiny.loaded(folder)
    again = fine_tune(resumed, TAUGHT, recipe(batch_size=2), "test", [_Kill(1)], saving)
    assert same(weights(straight), weights(resumed))
    assert again.equals(losses)


def test_a_state_that_was_not_saved_to_its_end_is_passed_over(folder: Path, tmp_path: Path) -> None:
    straight = tiny.loaded(folder)
    fine_tune(straight, TAUGHT, recipe(batch_size=2), "test")
    saving = Saving(tmp_path / "work", minutes=0)
    with pytest.raises(KeyboardInterrupt):
        fine_tune(tiny.loaded(folder), TAUGHT, recipe(batch_size=2), "test", [_Kill(3)], saving)
    states = list(saving.folder.glob("checkpoint-*"))
    assert states
    # The next state's folder was made, and the job died before anything was in it.
    (saving.folder / "checkpoint-999").mkdir()
    resumed = tiny.loaded(folder)
    fine_tune(resumed, TAUGHT, recipe(batch_size=2), "test", saving=saving)
    assert same(weights(straight), weights(resumed))


def test_a_state_of_another_training_is_not_gone_on_from(folder: Path, tmp_path: Path) -> None:
    saving = Saving(tmp_path / "work", minutes=0)
    fine_tune(tiny.loaded(folder), TAUGHT, recipe(steps=3), "test", saving=saving)
    straight, other = tiny.loaded(folder), tiny.loaded(folder)
    fine_tune(straight, TAUGHT, recipe(learning_rate=0.02), "test")
    fine_tune(other, TAUGHT, recipe(learning_rate=0.02), "test", saving=saving)
    assert same(weights(straight), weights(other))


def test_a_loss_that_is_no_number_ends_the_training(folder: Path) -> None:
    loaded = tiny.loaded(folder)
    with torch.no_grad():
        next(loaded.model.parameters()).fill_(float("inf"))
    with pytest.raises(LesionError, match="learning_rate"):
        fine_tune(loaded, TAUGHT, recipe(), "test")


def test_examples_that_do_not_fit_the_context_are_said_to(folder: Path) -> None:
    loaded = tiny.loaded(folder)
    loaded.model.config.max_position_embeddings = 3
    with pytest.raises(LesionError, match="context of 3 tokens"):
        fine_tune(loaded, TAUGHT, recipe(), "test")
