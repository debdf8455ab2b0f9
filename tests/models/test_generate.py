from pathlib import Path

import pytest
import torch

from lesion.models.chat import Completion
from lesion.models.generate import complete
from lesion.models.load import Loaded
from lesion.models.text import encode_prompt
from lesion_testing import make, tiny

NEW = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.checkpoint(tmp_path_factory.mktemp("generate"))


def _prompts(subject: Loaded) -> list[list[int]]:
    texts = [row["prompt"] for row in make.prompts("beta", 6)]
    return [
        encode_prompt(subject.chat, " ".join(text.split()[: 9 - number]), tiny.PREFILL)
        for number, text in enumerate(texts)
    ]


@torch.no_grad()
def _greedy(subject: Loaded, prompt: list[int], stops: set[int]) -> tuple[list[int], bool]:
    """One prompt, one token at a time, without a cache: new tokens, and whether one stopped it."""
    tokens = list(prompt)
    for _ in range(NEW):
        token = int(subject.model(input_ids=torch.tensor([tokens])).logits[0, -1].argmax())
        if token in stops:
            return tokens[len(prompt) :], True
        tokens.append(token)
    return tokens[len(prompt) :], False


def test_batches_write_what_each_prompt_gets_alone(folder: Path) -> None:
    subject = tiny.loaded(folder)
    prompts = _prompts(subject)
    end = subject.tokenizer.convert_tokens_to_ids("<|end|>")
    # Another stop, from the model's own settings, that some answers reach and some don't.
    free = [_greedy(subject, prompt, {end})[0] for prompt in prompts]
    stop = next(
        token
        for token in free[0][1:]
        if token not in free[0][:1] and any(token not in words for words in free)
    )
    subject.model.generation_config.eos_token_id = [end, stop]
    wanted = [_greedy(subject, prompt, {end, stop}) for prompt in prompts]
    assert {finished for _, finished in wanted} == {True, False}
    found = complete(subject.model, subject.chat, prompts, NEW, 4)
    for one, (words, finished) in zip(found, wanted, strict=True):
        text = subject.tokenizer.decode(words, skip_special_tokens=True)
        assert one[:3] == (text, len(words), finished)
        assert list(one.ids)[: len(words)] == words


def test_the_checkpoints_own_sampling_is_ignored(folder: Path) -> None:
    subject = tiny.loaded(folder)
    prompts = _prompts(subject)
    plain = complete(subject.model, subject.chat, prompts, NEW, 3)
    settings = subject.model.generation_config
    settings.do_sample, settings.temperature, settings.repetition_penalty = True, 5.0, 3.0
    settings.max_new_tokens = 1
    assert complete(subject.model, subject.chat, prompts, NEW, 3) == plain


def test_progress_counts_every_prompt(folder: Path) -> None:
    subject = tiny.loaded(folder)
    counted: list[tuple[int, int]] = []

    def advance(done: int, tokens: int = 0) -> None:
        counted.append((done, tokens))

    found = complete(subject.model, subject.chat, _prompts(subject), 1, 4, advance)
    assert [done for done, _ in counted] == [4, 2]
    assert sum(tokens for _, tokens in counted) == sum(one.tokens for one in found)


def test_what_does_not_fit_the_context_is_not_run(folder: Path) -> None:
    subject = tiny.loaded(folder)
    prompts = _prompts(subject)
    plain = complete(subject.model, subject.chat, prompts, NEW, 4)
    context = max(map(len, prompts)) + NEW
    subject.model.config.max_position_embeddings = context
    over = [*prompts[:3], [5] * (context - NEW + 1), *prompts[3:], [5] * (10 * context)]
    counted: list[int] = []
    found = complete(
        subject.model, subject.chat, over, NEW, 4, lambda done, _=0: counted.append(done)
    )
    assert found[3] == found[-1] == Completion("", 0, False)
    assert [*found[:3], *found[4:-1]] == plain
    assert sum(counted) == len(over)
