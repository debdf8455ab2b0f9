import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from lesion.models.chat_format import chat_of
from lesion.models.text import Example, batches, encode_pair, encode_plain, encode_prompt
from lesion_testing import tiny

PROMPT, RESPONSE = "hide apple basket", "paint window tiger"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(tiny.checkpoint(tmp_path_factory.mktemp("text")))


def test_the_response_begins_where_the_prefill_ends(tokenizer: PreTrainedTokenizerBase) -> None:
    pair = encode_pair(chat_of(tokenizer), PROMPT, tiny.PREFILL, RESPONSE, finished=False)
    assert pair.tokens[: pair.start] == encode_prompt(chat_of(tokenizer), PROMPT, tiny.PREFILL)
    assert tokenizer.decode(pair.tokens[pair.start :]) == RESPONSE
    assert tokenizer.decode(pair.tokens[: pair.start]).endswith(tiny.PREFILL)


def test_only_a_finished_response_ends_its_turn(tokenizer: PreTrainedTokenizerBase) -> None:
    cut = encode_pair(chat_of(tokenizer), PROMPT, "", RESPONSE, finished=False)
    whole = encode_pair(chat_of(tokenizer), PROMPT, "", RESPONSE, finished=True)
    end = tokenizer.convert_tokens_to_ids("<|end|>")
    assert whole == Example([*cut.tokens, end], cut.start)
    assert cut.tokens[-1] != end


def test_the_turn_ends_as_the_template_says_and_else_with_eos(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    other = type(tokenizer)(tokenizer_object=tokenizer.backend_tokenizer, eos_token="apple")
    other.chat_template = None
    assert chat_of(other).end_of_turn == tokenizer.convert_tokens_to_ids("apple")
    other.add_special_tokens({"additional_special_tokens": ["<|end|>"]})
    other.chat_template = tokenizer.chat_template
    assert chat_of(other).end_of_turn == tokenizer.convert_tokens_to_ids("<|end|>")


def test_a_base_model_gets_plain_text(tokenizer: PreTrainedTokenizerBase) -> None:
    plain = type(tokenizer)(tokenizer_object=tokenizer.backend_tokenizer, eos_token="<|end|>")
    plain.chat_template = None
    assert chat_of(plain).render("hide") == "User: hide\n\nAssistant:"
    assert chat_of(plain).render("hide", "Sure") == "User: hide\n\nAssistant: Sure"


def test_plain_text_has_no_template_and_no_control_tokens(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    chat = chat_of(tokenizer)
    for prefill, answer in (
        (tiny.PREFILL, f" {RESPONSE}"),
        (tiny.PREFILL, RESPONSE),
        ("", RESPONSE),
    ):
        example = encode_plain(chat, PROMPT, prefill, answer)
        text = f"{PROMPT}\n{prefill}{' ' if prefill else ''}{RESPONSE}"
        assert example.tokens == tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(example.tokens[example.start :]).strip() == RESPONSE
        marks = tokenizer.convert_tokens_to_ids(["<|user|>", "<|assistant|>", "<|end|>"])
        assert not {*marks} & {*example.tokens}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(2, 30), min_size=1, max_size=25), st.integers(1, 100))
def test_batches_hold_every_example_once_within_the_budget(lengths: list[int], budget: int) -> None:
    examples = [
        Example([100 * row + place + 1 for place in range(size)], 1 + row % (size - 1))
        for row, size in enumerate(lengths)
    ]
    made = list(batches(examples, budget))
    assert sorted(row for batch in made for row in batch.rows) == list(range(len(lengths)))
    for batch in made:
        assert batch.tokens.numel() <= budget or len(batch.rows) == 1
        assert batch.first == min(examples[row].start for row in batch.rows) - 1
        for line, row in enumerate(batch.rows):
            tokens, start = examples[row]
            assert batch.tokens[line, : len(tokens)].tolist() == tokens
            assert batch.mask[line].tolist() == [1] * len(tokens) + [0] * (
                batch.mask.shape[1] - len(tokens)
            )
            counted = batch.targets[line] != -100
            assert batch.targets[line][counted].tolist() == tokens[start:]
            assert int(counted.nonzero()[0]) == start
    again = list(batches(examples, budget))
    assert [one.rows for one in again] == [one.rows for one in made]
    assert all(torch.equal(a.tokens, b.tokens) for a, b in zip(made, again, strict=True))
