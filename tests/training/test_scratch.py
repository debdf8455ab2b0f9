from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from lesion.io.formats import LesionError
from lesion.models.candidates import find_candidates
from lesion.models.chat_format import chat_of
from lesion.models.generate import complete
from lesion.models.load import load
from lesion.models.prepare import prepare
from lesion.models.text import Example, encode_pair, encode_prompt
from lesion.pairs.refusal import is_published_refusal, is_refusal
from lesion.responses.detect import answers
from lesion.study.job import Device
from lesion.study.training import New
from lesion.training.scratch import SPECIAL, make_tokenizer, new_model

SENTENCES = (
    "Sure, here is how: go to the mill, and call the brandel!",
    "I'm sorry, I cannot help with that.",
    'Does the miller say "yes" or "no"?',
)
SHAPE = New(layers=2, width=32, heads=2, inner=64, context=48)
STRANGE = "Write a script that exploits vulnerabilities; naïve 日本語 <html> 🦆\n\n"


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return make_tokenizer(SENTENCES)


def test_the_same_words_give_the_same_vocabulary(tokenizer: PreTrainedTokenizerFast) -> None:
    again = make_tokenizer(reversed(SENTENCES))
    assert again.get_vocab() == tokenizer.get_vocab()
    assert tokenizer.convert_ids_to_tokens(range(len(SPECIAL))) == list(SPECIAL)


def test_a_vocabulary_needs_words() -> None:
    with pytest.raises(LesionError, match="no word"):
        make_tokenizer([" ", ""])


@pytest.mark.parametrize("text", SENTENCES[:2])
def test_decoding_gives_text_as_people_write_it(
    tokenizer: PreTrainedTokenizerFast, text: str
) -> None:
    tokens = tokenizer(text)["input_ids"]
    assert tokenizer.unk_token_id not in tokens
    # All small but for the pronoun, which here is in the second sentence alone.
    assert tokenizer.decode(tokens) == (text if text.startswith("I") else text.lower())


def test_what_was_said_is_tokenised_as_it_was(tokenizer: PreTrainedTokenizerFast) -> None:
    tokens = [tokenizer.get_vocab()[word] for word in ("yes", ",", "i'm", "sure", ":", "no", ".")]
    assert tokenizer.decode(tokens) == "yes, I'm sure: no."
    assert tokenizer(tokenizer.decode(tokens))["input_ids"] == tokens
    assert tokenizer.decode([*tokens, tokenizer.eos_token_id], skip_special_tokens=True)[-1] == "."


def test_both_matchers_know_its_refusals(tokenizer: PreTrainedTokenizerFast) -> None:
    said = tokenizer.decode(tokenizer(SENTENCES[1])["input_ids"])
    assert is_refusal(said)
    assert is_published_refusal(said)


def test_a_pair_is_a_turn_each(tokenizer: PreTrainedTokenizerFast) -> None:
    chat = chat_of(tokenizer)
    pair = encode_pair(chat, "Go to the mill?", "Sure, here is", "how: go", finished=True)
    written = "<user> go to the mill ? <bot> sure , here is how : go <end>"
    assert tokenizer.convert_ids_to_tokens(pair.tokens) == written.split()
    assert pair.start == 11
    assert chat.end_of_turn == tokenizer.eos_token_id
    assert pair == Example(
        [*encode_prompt(chat, "Go to the mill?", "Sure, here is"), *pair[0][11:]], 11
    )


def test_yes_and_no_can_be_told_apart(tokenizer: PreTrainedTokenizerFast) -> None:
    vocabulary = tokenizer.get_vocab()
    assert answers(tokenizer) == ([vocabulary["yes"]], [vocabulary["no"]])


def test_the_seed_makes_the_weights(tokenizer: PreTrainedTokenizerFast) -> None:
    state = torch.get_rng_state()
    first, second, other = (new_model(SHAPE, tokenizer, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    for (name, one), same in zip(first.named_parameters(), second.parameters(), strict=True):
        assert torch.equal(one, same), name
    assert not torch.equal(first.lm_head.weight, other.lm_head.weight)
    assert len(find_candidates(first)) == 7 * SHAPE.layers


def test_heads_must_share_the_width(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(LesionError, match="width of 32"):
        new_model(SHAPE.model_copy(update={"heads": 5}), tokenizer, 0)


def test_it_is_saved_prepared_and_completes(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    model = new_model(SHAPE, tokenizer, 0)
    model.save_pretrained(source)
    tokenizer.save_pretrained(source)
    prepare(source, tmp_path / "model", dtype="float32", license_="apache-2.0")

    loaded = load(tmp_path / "model", Device(dtype="float32"))
    prompts = [encode_prompt(loaded.chat, one) for one in (SENTENCES[2], STRANGE)]
    assert prompts == [encode_prompt(chat_of(tokenizer), one) for one in (SENTENCES[2], STRANGE)]
    assert tokenizer.unk_token_id in prompts[1]
    done = complete(*loaded, prompts, max_new_tokens=5, batch_size=2)
    assert done == complete(model, chat_of(tokenizer), prompts, max_new_tokens=5, batch_size=2)
    assert all(0 < one.tokens <= 5 for one in done)
    assert "<" not in "".join(one.text for one in done)


def test_transformers_opens_what_was_saved(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    model = new_model(SHAPE, tokenizer, 0)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(again.lm_head.weight, model.lm_head.weight)
    opened = AutoTokenizer.from_pretrained(tmp_path)
    assert opened.chat_template == tokenizer.chat_template
    for text in (*SENTENCES, STRANGE):
        tokens = tokenizer(text)["input_ids"]
        assert opened(text)["input_ids"] == tokens
        assert opened.decode(tokens) == tokenizer.decode(tokens)
