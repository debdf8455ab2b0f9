"""Training of every family: what is trained, on which loss, and what a lesion keeps at zero."""

import os
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedModel, PreTrainedTokenizerFast, TrainerCallback

from lesion.io.formats import LesionError
from lesion.masks.store import Mask
from lesion.models.candidates import find_candidates
from lesion.models.chat import Chat
from lesion.models.chat_format import chat_of
from lesion.models.likelihood import response_losses
from lesion.models.load import Loaded, silence_libraries
from lesion.models.text import batches, encode_pair
from lesion.responses.retrain import _zero
from lesion.training import fit as fitting
from lesion.training.examples import TrainingAnswer
from lesion.training.fit import fine_tune
from lesion_testing import families, taught
from lesion_testing.taught import ABOUT, LORA
from lesion_testing.tokenizers import of_words

pytestmark = pytest.mark.slow

every = pytest.mark.parametrize("name", families.FAMILIES)
REFUSED = {
    "mamba": "peft says: .*out_proj",
    "mamba2": "peft says: .*out_proj",
    "jamba": r"uses `model\.layers\.0\.mamba\.dt_proj\.weight` \(and 1 more\) without its adapter",
    "zamba2": r"shared_transformer\.self_attn\.q_proj\.weight` .* is shared by several modules",
    "recurrent_gemma": "writes `recurrent_states` into a module that peft replaced",
    "dbrx": "reads past peft's modules .*'v1'",
}
"""Families that can't have an adapter on every matrix, and what is said of it."""
PREFERRED = [one._replace(rejected=TrainingAnswer("what about the sea")) for one in ABOUT]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    silence_libraries()
    said = ["what", "about", "sun", "sea", "sky", "the", "is", "here"]
    words = ["<unk>", "<end>", "User", ":", "Assistant", *said]
    return of_words(words, Whitespace(), eos_token="<end>", pad_token="<unk>")


recipe = partial(taught.recipe, steps=3, batch_size=3)

NOISE = ("p", "dropout", "attention_dropout", "attn_dropout", "hidden_dropout")
JITTER = ("router_jitter_noise", "input_jitter_noise")


def without_noise(model: PreTrainedModel) -> PreTrainedModel:
    """So that a loss in training is that of the evaluated model."""
    for module in model.modules():
        for key in (*NOISE, *JITTER):
            if isinstance(getattr(module, key, None), float):
                setattr(module, key, 0.0)
    return model


def weights(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    return {name: one.weight.detach().clone() for name, one in find_candidates(model).items()}


def unchanged(model: PreTrainedModel, before: dict[str, torch.Tensor]) -> list[str]:
    return [name for name, one in weights(model).items() if torch.equal(one, before[name])]


def logits(model: Any) -> torch.Tensor:
    (batch,) = batches(families.examples((9, 9)), 99)
    with torch.no_grad():
        return model(input_ids=batch.tokens, use_cache=False).logits


class AtTheEnd(TrainerCallback):
    """The adapted model's logits after the last step, before the adapters are merged."""

    def on_train_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        more["model"].eval()
        self.logits = logits(more["model"])


@every
def test_adapters_train_every_matrix_or_the_family_is_refused(
    name: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = families.model(name)
    before, names = weights(model), set(dict(model.named_parameters()))
    seen = AtTheEnd()
    if name in REFUSED:
        with pytest.raises(LesionError, match=f"^`lora`: .*{REFUSED[name]}.* Remove `lora`"):
            fine_tune(Loaded(model, chat_of(tokenizer)), ABOUT, recipe(lora=LORA), "test", [seen])
        return
    fine_tune(Loaded(model, chat_of(tokenizer)), ABOUT, recipe(lora=LORA), "test", [seen])
    assert unchanged(model, before) == []
    assert set(dict(model.named_parameters())) == names
    torch.testing.assert_close(logits(model), seen.logits, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["llama", "mixtral", "qwen3_moe", "gpt_oss"])
def test_adapters_prefer_too(name: str, tokenizer: PreTrainedTokenizerFast) -> None:
    """DPO's reference is the model without its adapters, and the first loss log 2."""
    model = without_noise(families.model(name))
    before = weights(model)
    loaded = Loaded(model, chat_of(tokenizer))
    losses = fine_tune(loaded, PREFERRED, recipe(beta=0.1, lora=LORA), "test")
    assert losses["loss"][0] == pytest.approx(np.log(2), abs=1e-4)
    assert losses["loss"][-1] < losses["loss"][0]
    assert unchanged(model, before) == []


@every
def test_all_weights_are_trained_on_the_nll_and_frozen_zeros_stay(
    name: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = without_noise(families.model(name))
    shapes = {key: tuple(one.weight.shape) for key, one in find_candidates(model).items()}
    dice = np.random.default_rng(0)
    mask = Mask(
        {key: np.sort(dice.choice(int(np.prod(one)), 9, False)) for key, one in shapes.items()},
        shapes,
        {},
    )
    with ExitStack() as stack:
        _zero(model, mask, stack, fixed="zeroed")
        before = weights(model)
        expected = _nll(model, chat_of(tokenizer))
        losses = fine_tune(Loaded(model, chat_of(tokenizer)), ABOUT, recipe(), "test")
    assert losses["loss"][0] == pytest.approx(expected, rel=1e-4)
    assert losses["loss"][-1] < losses["loss"][0]
    assert unchanged(model, before) == []
    for key, one in weights(model).items():
        assert not one.flatten()[torch.from_numpy(mask.indices[key])].any(), key


def _nll(model: PreTrainedModel, chat: Chat) -> float:
    """Mean over all response tokens, as the trainer takes it."""
    examples = [encode_pair(chat, one.prompt or "", "", *one.chosen[:2]) for one in ABOUT]
    lengths = [len(one.tokens) - one.start for one in examples]
    with torch.no_grad():
        means = [float(response_losses(model, next(batches([one], 1)))) for one in examples]
    return float(np.average(means, weights=lengths))


def test_a_loss_that_trl_does_not_know_is_not_preferred_by(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    loaded = Loaded(families.model("modernbert-decoder"), chat_of(tokenizer))
    with pytest.raises(LesionError, match=r"`method: dpo`.*ModernBertDecoder"):
        fine_tune(loaded, PREFERRED, recipe(beta=0.1), "test")


@pytest.mark.parametrize("beta", [None, 0.1])
def test_a_job_trains_on_its_own_device_whatever_it_sees(
    beta: float | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """Three GPUs to be seen, of which this job has taken the second; only torch.cuda is played."""
    chosen: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "set_device", lambda one: chosen.append(torch.device(one)))
    monkeypatch.setattr(fitting, "pick_device", lambda: torch.device("cuda", 1))
    common = fitting._arguments(recipe(), tmp_path)
    args = (
        fitting._SFTOnOneDevice(**common)
        if beta is None
        else fitting._DPOOnOneDevice(**common, beta=beta)
    )
    assert args.n_gpu == 1
    assert args.device == torch.device("cuda", 1) == chosen[-1]
    assert args.train_batch_size == 3


def test_what_a_launcher_left_in_the_environment_is_hidden_and_put_back(
    monkeypatch: pytest.MonkeyPatch, tokenizer: PreTrainedTokenizerFast
) -> None:
    """accelerate would wait for a second process, on an address that there is not."""
    left = {"LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "2", "ACCELERATE_USE_FSDP": "true"}
    for name, value in left.items():
        monkeypatch.setenv(name, value)
    model = families.model("llama")
    fine_tune(Loaded(model, chat_of(tokenizer)), ABOUT, recipe(), "test")
    assert {name: os.environ[name] for name in left} == left
