"""Sharing changes nothing: tiny random models of several families, with and without it."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest
import torch
import transformers
from transformers import PreTrainedModel

from lesion.models import prefix
from lesion.models.chat import Completion
from lesion.models.generate import complete
from lesion.models.likelihood import response_nll
from lesion.models.prefix import (
    build_cache,
    can_share,
    common_prefix,
    frozen,
    gather,
    structure_allows,
)
from lesion.models.text import Example
from lesion_testing import families

pytestmark = pytest.mark.slow

WORDS = 97
SMALL = {
    "vocab_size": WORDS,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
    # Tied, they would just say the last token again.
    "tie_word_embeddings": False,
}
GPT = {"n_embd": 32, "n_layer": 3, "n_head": 4, "hidden_size": 32, "num_attention_heads": 4}
OPT = {"ffn_dim": 48, "word_embed_proj_dim": 32, "init_std": 0.3, "num_key_value_heads": None}
WINDOW = {"sliding_window": 8}
WIDE = {"sliding_window": 128}
HYBRID = {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}
MAMBA = {"state_size": 4, "head_dim": None}
SPARSE = {"moe_intermediate_size": 24, "num_experts": 4, "num_experts_per_tok": 2}
LOCAL = {
    "hidden_size": 32,
    "num_layers": 2,
    "num_hidden_layers": 2,
    "num_heads": 4,
    "attention_types": [[["global", "local"], 1]],
    "window_size": 8,
}
LONG = {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}
LFM = {"layer_types": ["conv", "full_attention", "conv"]}

FAMILIES: dict[str, tuple[str, dict[str, Any], bool]] = {
    # The class's name without its end, its settings, whether prompts are shared.
    "llama": ("Llama", {}, True),
    "gpt2": ("GPT2", GPT, True),
    "qwen2": ("Qwen2", {}, True),
    "qwen3": ("Qwen3", {}, True),
    "qwen3_moe": ("Qwen3Moe", SPARSE, True),
    "mistral": ("Mistral", WIDE, True),
    "mistral_narrow": ("Mistral", WINDOW, False),
    "gemma2": ("Gemma2", WIDE | HYBRID, True),
    "gemma3": ("Gemma3", WIDE | HYBRID, True),
    "gemma3_narrow": ("Gemma3", WINDOW | HYBRID, False),
    "opt": ("OPT", OPT, True),
    # Its local layers mask by column, behind a cache that looks like any other.
    "gpt_neo": ("GPTNeo", LOCAL, True),
    "neox": ("GPTNeoX", {}, True),
    # Biases by distance, and no positions.
    "bloom": ("Bloom", {"n_layer": 3, "n_head": 4}, False),
    "mamba": ("Mamba", MAMBA, False),
    "lfm2": ("Lfm2", LFM, False),
    "llama_dynamic": ("Llama", LONG, False),
}
ENDS = {"GPT2": "LMHeadModel"}


@cache
def _model(name: str) -> PreTrainedModel:
    kind, settings, _ = FAMILIES[name]
    part = "Gemma3Text" if kind == "Gemma3" else kind
    given = {key: one for key, one in (SMALL | settings).items() if one is not None}
    config = getattr(transformers, f"{part}Config")(**given)
    torch.manual_seed(0)
    model = getattr(transformers, kind + ENDS.get(kind, "ForCausalLM"))(config)
    return model.eval().requires_grad_(False)  # type: ignore[no-any-return]


def _words(seed: int, count: int) -> list[int]:
    return random.Random(seed).choices(range(2, WORDS), k=count)


COMMON = _words(0, 12)
PLAIN = [[*COMMON, 20 + seed, *_words(seed, 3 + 5 * seed % 11)] for seed in range(1, 9)]
END = [5, 6, 7]

CASES: dict[str, list[list[int]]] = {
    "unequal": PLAIN,
    "extended": [*PLAIN, *([*one, *END] for one in PLAIN)],
    "one_extended": [*PLAIN, [*PLAIN[3], *END]],
    "equal": [PLAIN[2]] * 9,
    "single": PLAIN[4:5],
    "nothing": [
        [30 + number, *one, *more] for more in ([], END) for number, one in enumerate(PLAIN)
    ],
    "whole": [COMMON, *PLAIN, COMMON],
    "one_token": [[3], *([3, *one] for one in PLAIN), [3]],
    "short": [one[6:] for one in PLAIN],
}
"""Prompts; `short` begin with less than the narrow window."""
REFUSED = ("mamba", "lfm2", "llama_dynamic")
TRIED = [
    (name, case) for name in FAMILIES for case in CASES if name not in REFUSED or case == "extended"
]
"""What is refused at first sight does the same with any prompts."""
NUMBERS = families.numbers(1)


@contextmanager
def _fed(model: PreTrainedModel) -> Iterator[list[int]]:
    """Collects the number of tokens of each pass through the model."""
    counts: list[int] = []

    def count(_: object, __: object, given: dict[str, Any]) -> None:
        counts.append(given["input_ids"].numel())

    hook = model.register_forward_pre_hook(count, with_kwargs=True)
    try:
        yield counts
    finally:
        hook.remove()


def _both(
    monkeypatch: pytest.MonkeyPatch, model: PreTrainedModel, work: Callable[[], Any]
) -> tuple[Any, Any, int]:
    """What comes with sharing, without it, and the tokens that it saved."""
    work()  # what a model allows is tried once
    with _fed(model) as some:
        shared = work()
    monkeypatch.setattr(prefix, "structure_allows", lambda _: False)
    with _fed(model) as all_:
        plain = work()
    return shared, plain, sum(all_) - sum(some)


def _complete(model: PreTrainedModel, prompts: Sequence[list[int]], size: int) -> list[Completion]:
    return complete(model, NUMBERS, prompts, 4, size)


@pytest.mark.parametrize(("name", "case"), TRIED)
def test_completions_are_the_same(name: str, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, prompts = _model(name), CASES[case]
    shared, plain, _ = _both(monkeypatch, model, lambda: _complete(model, prompts, 6))
    assert shared == plain
    # Wrong positions or a wrong mask must show: each prompt has an answer of its own.
    different = {tuple(one) for one in prompts}
    assert len({one.text for one in plain}) >= 0.7 * len(different)


@pytest.mark.parametrize("name", FAMILIES)
def test_prompts_are_shared_where_the_model_allows_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, prompts = _model(name), CASES["extended"]
    shared, plain, saved = _both(monkeypatch, model, lambda: _complete(model, prompts, 16))
    assert shared == plain
    rows, longest = len(prompts), max(map(len, prompts))
    # The common beginning once, the rest of each root once, and of each prompt what END adds.
    fed = len(COMMON) + (longest - len(END) - len(COMMON)) * rows // 2 + len(END) * rows
    assert (saved > 0) == FAMILIES[name][2]
    if FAMILIES[name][2]:
        assert saved == longest * rows - fed


def _examples(prompts: Sequence[list[int]]) -> list[Example]:
    return [
        Example(prompt + _words(100 + row, 1 + row % 4), len(prompt))
        for row, prompt in enumerate(prompts)
    ]


@pytest.mark.parametrize(("name", "case"), TRIED)
def test_nlls_are_the_same(name: str, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, examples = _model(name), _examples(CASES[case])
    shared, plain, saved = _both(monkeypatch, model, lambda: response_nll(model, examples, 100))
    assert shared == pytest.approx(plain, rel=1e-5, abs=1e-5)
    if case == "unequal":
        assert (saved > 0) == (FAMILIES[name][2] or name == "bloom")


def test_the_first_predicted_token_bounds_the_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    model = _model("llama")
    # The tokens agree further than any prompt goes.
    examples = [Example(PLAIN[2] + _words(row, 3), 7 + row % 3) for row in range(8)]
    shared, plain, saved = _both(monkeypatch, model, lambda: response_nll(model, examples, 100))
    assert shared == pytest.approx(plain, rel=1e-5, abs=1e-5)
    assert saved > 0


def test_progress_counts_families_whole() -> None:
    counted: list[int] = []
    family = [[*PLAIN[0], *END[:count]] for count in range(3)]
    prompts = [*family, *PLAIN[1:4], *([*one, *END] for one in PLAIN[1:4]), PLAIN[5]]
    complete(_model("llama"), NUMBERS, prompts, 1, 4, lambda done, _=0: counted.append(done))
    assert sum(counted) == len(prompts)
    assert max(counted) <= 4


def test_a_family_larger_than_a_batch_is_cut() -> None:
    counted: list[int] = []
    complete(_model("llama"), NUMBERS, [PLAIN[0]] * 9, 1, 4, lambda done, _=0: counted.append(done))
    assert counted == [4, 4, 1]


@pytest.mark.parametrize(
    ("rows", "length"),
    [
        ([[1, 2, 3], [1, 2, 4], [1, 2]], 2),
        ([[1, 2, 3]], 3),
        ([[1, 2], [2, 2]], 0),
        ([[5, 6], [5, 6]], 2),
    ],
)
def test_the_common_prefix(rows: list[list[int]], length: int) -> None:
    assert common_prefix(rows) == length


@torch.inference_mode()
def test_a_fixed_cache_serves_again_and_stays_as_it_is() -> None:
    model = _model("llama")
    held = build_cache(model, [COMMON])
    assert held is not None
    past = frozen(held)
    tokens = torch.tensor([PLAIN[1][12:15], PLAIN[2][12:15]])
    once, again = (
        model(input_ids=tokens, past_key_values=past, use_cache=True).logits for _ in range(2)
    )
    whole = torch.tensor([PLAIN[1][:15], PLAIN[2][:15]])
    torch.testing.assert_close(once, model(input_ids=whole).logits[:, 12:])
    assert torch.equal(once, again)
    assert past.get_seq_length() == held.cache.get_seq_length() == len(COMMON)


@torch.inference_mode()
def test_rows_take_their_own_beginnings() -> None:
    model = _model("llama")
    bases = [PLAIN[0], PLAIN[4]]
    held = build_cache(model, bases, build_cache(model, [COMMON]))
    assert held is not None
    rows = [PLAIN[4], [*PLAIN[0], *END], [*PLAIN[4], 9]]
    found = gather(held, rows, [1, 0, 1])
    assert found is not None
    width = max(map(len, rows)) - len(END)
    assert found.get_seq_length() == width
    for line, row in enumerate(rows):
        alone = build_cache(model, [row[: len(row) - len(END)]])
        assert alone is not None
        for one, wanted in zip(found.layers, alone.cache.layers, strict=True):
            kept = one.keys[line : line + 1, :, width - len(row) + len(END) :]  # type: ignore[union-attr,index]
            torch.testing.assert_close(kept, wanted.keys)  # type: ignore[union-attr]


class _Counting(transformers.LlamaForCausalLM):
    """Says other words the more tokens it is fed at once: its structure promises too much."""

    def forward(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        past_key_values: Any = None,
        position_ids: Any = None,
        use_cache: Any = None,
        **more: Any,
    ) -> Any:
        """Llama's, with the logits moved on by the number of columns."""
        made = super().forward(
            input_ids, attention_mask, position_ids, past_key_values, use_cache=use_cache, **more
        )
        made.logits = made.logits.roll(input_ids.shape[1], -1)
        return made


def test_what_the_structure_promises_is_tried() -> None:
    torch.manual_seed(0)
    model = _Counting(transformers.LlamaConfig(**SMALL)).eval().requires_grad_(False)
    assert structure_allows(model)
    assert not can_share(model, PLAIN)
    examples = _examples(PLAIN)
    alone = [response_nll(model, [one], 1)[0] for one in examples]
    assert response_nll(model, examples, 1000) == pytest.approx(alone, rel=1e-5)
    assert can_share(_model("llama"), PLAIN)
    assert not can_share(_model("llama"), [[]])


def test_the_environment_switches_the_cache_off(monkeypatch: pytest.MonkeyPatch) -> None:
    model, prompts = _model("llama"), CASES["extended"]
    examples = _examples(prompts)
    longest = max(map(len, prompts))

    def work() -> tuple[list[Completion], list[float]]:
        return _complete(model, prompts, 16), response_nll(model, examples, 100)

    work()  # the trials
    with _fed(model) as some:
        cached, cached_nlls = work()
    monkeypatch.setenv(prefix.SWITCH, "0")
    assert not can_share(model, prompts)
    with _fed(model) as all_:
        uncached, uncached_nlls = work()
    assert all_[0] == longest * len(prompts)
    assert sum(all_) > sum(some)
    assert cached == uncached
    assert cached_nlls == pytest.approx(uncached_nlls, rel=1e-5, abs=1e-5)


def test_a_model_that_looks_ahead_is_refused() -> None:
    config = transformers.Gemma3TextConfig(**SMALL, use_bidirectional_attention=True)
    assert not structure_allows(transformers.Gemma3ForCausalLM(config))
    assert structure_allows(_model("gemma3"))
