"""Chat formats: what is found, what is decided about it, and what is refused.

The templates are written for these tests, in the forms that families of models use.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from lesion.io.formats import LesionError
from lesion.models.chat import SAMPLE, Chat, ChatError, from_record, to_record
from lesion.models.chat_format import chat_of, find_format
from lesion.models.jobs import ResolvedChat
from lesion.models.load import load, open_chat
from lesion.models.prepare import prepare
from lesion.models.record import read_record
from lesion.models.text import encode_pair, encode_prompt, encode_written
from lesion.responses.harness import InMemory
from lesion.study.job import Device
from lesion_testing import make, tiny
from lesion_testing.tokenizers import of_words, trained_byte_level

TURNS = "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
OPEN = "{% if add_generation_prompt %}<|assistant|>{% endif %}"
PARTS = (
    "{% for m in messages %}<|{{ m['role'] }}|>{% for c in m['content'] %}"
    "{% if c['type'] == 'text' %}{{ c['text'] }}{% endif %}{% endfor %}<|end|>{% endfor %}" + OPEN
)
SWITCHED = (
    TURNS + "{% if add_generation_prompt %}<|assistant|>"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n"
    "{% else %}<think>\n{% endif %}{% endif %}"
)
ALWAYS = TURNS + "{% if add_generation_prompt %}<|assistant|><think>\n{% endif %}"
IN_HISTORY = (
    "{% for m in messages %}<|{{ m['role'] }}|>"
    "{% if m['role'] == 'assistant' %}<think>\n\n</think>\n\n{% endif %}"
    "{{ m['content'] }}<|end|>{% endfor %}" + OPEN
)
HARMONY = (
    "{% for m in messages %}<|start|>{{ m['role'] }}"
    "{% if m['role'] == 'assistant' %}<|channel|>final{% endif %}"
    "<|message|>{{ m['content'] }}{{ '<|return|>' if m['role'] == 'assistant' else '<|end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)
BRACKETS = (
    "{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
    "{% elif m['role'] == 'assistant' %} {{ m['content'] }}<|end|>{% endif %}{% endfor %}"
)
RESPONSE_MARK = (
    "{% for m in messages %}<|{{ m['role'] }}|>"
    "{% if m['role'] == 'assistant' %}<|START_RESPONSE|>{% endif %}{{ m['content'] }}"
    "<|end|>{% endfor %}" + OPEN
)
DATED = "It is {{ strftime_now('%d %B %Y %H:%M') }}. " + TURNS + OPEN
SYSTEM = TURNS + OPEN
CONTROL = ("<|start|>", "<|channel|>", "<|message|>", "<|return|>")


def _tokenizer(template: Any, *more: str) -> PreTrainedTokenizerBase:
    special = ["<unk>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>", *more]
    words = sorted(
        {*make.WORDS, *("Sure", "here", "is", "final", "analysis", "User", ":", "Assistant", ".")}
    )
    return of_words(
        [*special, *words],
        pre_tokenizers.WhitespaceSplit(),
        eos_token="<|end|>",
        additional_special_tokens=special[2:],
        chat_template=template,
    )


def _chat(own: Any, *more: str, **settings: Any) -> Chat:
    tokenizer = _tokenizer(own, *more)
    return Chat(tokenizer, find_format(tokenizer, ResolvedChat(**settings), "`models.x`"))


@pytest.mark.parametrize(
    ("template", "more", "before_prefill"),
    [
        pytest.param(TURNS + OPEN, (), "<|user|>hi<|end|><|assistant|>", id="plain turns"),
        pytest.param(PARTS, (), "<|user|>hi<|end|><|assistant|>", id="wants parts"),
        pytest.param(
            SWITCHED,
            (),
            "<|user|>hi<|end|><|assistant|><think>\n\n</think>\n\n",
            id="a thought that can be switched off",
        ),
        pytest.param(
            ALWAYS,
            (),
            "<|user|>hi<|end|><|assistant|><think>\n\n</think>\n\n",
            id="a thought that is always opened",
        ),
        pytest.param(
            IN_HISTORY,
            (),
            "<|user|>hi<|end|><|assistant|><think>\n\n</think>\n\n",
            id="an empty thought in finished turns",
        ),
        pytest.param(
            HARMONY,
            CONTROL,
            "<|start|>user<|message|>hi<|end|><|start|>assistant<|channel|>final<|message|>",
            id="harmony",
        ),
        pytest.param(BRACKETS, (), "[INST] hi [/INST] ", id="the prompt's end opens the turn"),
        pytest.param(
            RESPONSE_MARK,
            (),
            "<|user|>hi<|end|><|assistant|><|START_RESPONSE|>",
            id="a mark before the answer",
        ),
        pytest.param(TURNS, (), "<|user|>hi<|end|><|assistant|>", id="no generation prompt"),
        pytest.param(None, (), "User: hi\n\nAssistant: ", id="no template"),
    ],
)
def test_the_prefill_stands_where_an_answer_begins(
    template: str | None, more: tuple[str, ...], before_prefill: str
) -> None:
    chat = _chat(template, *more)
    assert chat.render("hi", "Sure") == before_prefill + "Sure"
    assert chat.render("hi") == before_prefill.rstrip(" ")
    assert from_record(chat.tokenizer, json.loads(json.dumps(to_record(chat)))).render("hi") == (
        chat.render("hi")
    )
    assert SAMPLE in to_record(chat)["sample"]


def test_what_a_tokenizer_alone_says_is_found_too() -> None:
    tokenizer = _tokenizer(ALWAYS)
    assert chat_of(tokenizer).render("hi").endswith("</think>\n\n")
    tokenizer.chat_template = TURNS + OPEN
    assert chat_of(tokenizer).render("hi").endswith("<|assistant|>")


@pytest.mark.parametrize(
    ("template", "told"),
    [
        pytest.param("hello" + OPEN, "the prompt is not in the text", id="no prompt"),
        pytest.param(
            "{% for m in messages %}{{ m.x.y }}{% endfor %}", "UndefinedError", id="fails"
        ),
        pytest.param("{% for m in messages %}", "TemplateSyntaxError", id="is no Jinja"),
        pytest.param(
            "{{ raise_exception('only tools') }}", "only tools", id="raises its own error"
        ),
        pytest.param(
            "{% if messages|length > 1 %}{{ raise_exception('one turn') }}{% endif %}"
            "<|user|>{{ messages[0]['content'] }}<|end|>",
            "ignores `add_generation_prompt`",
            id="opens no turn",
        ),
        pytest.param(
            TURNS + "{% if add_generation_prompt %}<|assistant|>"
            "{% else %}{{ raise_exception('only open') }}{% endif %}",
            "only open",
            id="fails without a generation prompt",
        ),
        pytest.param(
            {"rag": TURNS + OPEN, "tool_use": TURNS + OPEN},
            "has the chat templates rag, tool_use, and none is named `default`",
            id="several names, no default",
        ),
        *(
            pytest.param(
                (TURNS + OPEN).replace("m['content']", f"m['content'] | {change}"),
                "escapes, cuts or changes",
                id=change,
            )
            for change in ("e", "tojson", "capitalize", "truncate(200)", "striptags")
        ),
    ],
)
def test_a_template_that_does_not_put_the_prompt_is_refused(template: Any, told: str) -> None:
    with pytest.raises(ChatError, match=r"models\.x") as caught:
        _chat(template)
    assert told in str(caught.value)
    assert "chat.template" in str(caught.value)


def test_one_of_several_templates_is_chosen_by_name() -> None:
    several = {"default": TURNS + OPEN, "formal": "Sir: " + TURNS + OPEN}
    assert _chat(several).render("hi").startswith("<|user|>")
    assert _chat(several, template="formal").render("hi").startswith("Sir: ")
    with pytest.raises(ChatError, match="its only one has no name"):
        _chat(TURNS + OPEN, template="formal")


def test_the_study_says_arguments_system_prompt_and_template() -> None:
    chat = _chat(SWITCHED, kwargs={"enable_thinking": False}, system="Be brief.")
    assert chat.render("hi") == (
        "<|system|>Be brief.<|end|><|user|>hi<|end|><|assistant|><think>\n\n</think>\n\n"
    )
    assert _chat(SWITCHED, template="plain", system="Be brief.").render("hi") == (
        "Be brief.\n\nUser: hi\n\nAssistant:"
    )
    given = _chat(None, template="file:own.jinja", text=BRACKETS)
    assert given.render("hi") == "[INST] hi [/INST]"
    assert given.format.origin == "file:own.jinja"
    with pytest.raises(ChatError, match="uses no argument `enable_thinkin`"):
        _chat(SWITCHED, kwargs={"enable_thinkin": False})
    with pytest.raises(ChatError, match=r"`chat\.kwargs` are arguments of a chat template"):
        _chat(SWITCHED, template="plain", kwargs={"enable_thinking": False})
    with pytest.raises(ChatError, match="the system prompt"):
        _chat("<|user|>{{ messages[-1]['content'] }}" + OPEN, system="Be brief.")


def test_a_conversation_is_open_where_the_assistant_goes_on() -> None:
    asked = [{"role": "user", "content": "hi"}]
    chat = _chat(ALWAYS)
    before = "<|user|>hi<|end|><|assistant|><think>\n\n</think>\n\n"
    assert chat.messages(asked) == before
    # An answer that is begun is neither closed nor put before another turn.
    assert chat.messages([*asked, {"role": "assistant", "content": "Sure"}]) == f"{before}Sure"
    brackets = _chat(BRACKETS)
    begun = [*asked, {"role": "assistant", "content": "Sure"}]
    assert brackets.messages(begun) == brackets.render("hi", "Sure") == "[INST] hi [/INST] Sure"


def test_the_harness_drops_a_system_role_that_a_template_refuses() -> None:
    refuses = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('none') }}{% endif %}"
    harness = object.__new__(InMemory)
    harness._chat = _chat(refuses + TURNS + OPEN)
    asked = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]
    assert harness.apply_chat_template(asked) == "<|user|>hi<|end|><|assistant|>"


def test_templates_are_told_one_date() -> None:
    assert _chat(DATED).render("hi").startswith("It is 01 January 2026 00:00. ")
    chat = _chat(DATED, date="2025-03-04")
    assert chat.render("hi").startswith("It is 04 March 2025 00:00. ")
    assert (chat.format.date, _chat(TURNS + OPEN).format.date) == ("2025-03-04", None)


def test_only_the_final_channel_is_the_answer() -> None:
    chat = _chat(HARMONY, *CONTROL)
    ids = chat.encode(
        "<|channel|>analysis<|message|>apple<|end|><|start|>assistant<|channel|>final<|message|>"
        "basket<|return|>kettle"
    )
    stops = [chat.end_of_turn or 0, chat.tokenizer.eos_token_id]
    found = chat.read(ids, stops)
    assert (found.text, found.tokens, found.finished, found.ids) == ("basket", 1, True, ())
    begun = chat.read(chat.encode("basket<|return|>kettle"), stops)
    assert (begun.text, begun.finished, len(begun.ids)) == ("basket", True, 2)


def test_a_finished_thought_is_no_part_of_the_answer() -> None:
    chat = _chat(TURNS + OPEN)
    ids = chat.encode("<think> apple </think> basket kettle <|end|>")
    # The vocabulary has no such words; the marks are read off the text.
    chat.tokenizer.add_tokens(["<think>", "</think>"])
    ids = chat.encode("<think> apple </think> basket kettle <|end|>")
    found = chat.read(ids, [chat.tokenizer.eos_token_id])
    assert (found.text, found.finished, found.ids) == ("basket kettle", True, ())
    open_ = chat.read(ids[:2], [chat.tokenizer.eos_token_id])
    assert open_.text == "<think> apple"


@pytest.mark.parametrize(
    ("begin", "end"),
    [("[THINK]", "[/THINK]"), ("<|channel>", "<channel|>"), ("◁think▷", "◁/think▷")],
)
def test_a_thought_between_special_tokens_is_no_part_of_the_answer(begin: str, end: str) -> None:
    chat = _chat(TURNS + OPEN, begin, end)
    ids = chat.encode(f"{begin}apple{end}basket kettle<|end|>")
    found = chat.read(ids, [chat.end_of_turn or 0])
    assert (found.text, found.finished, found.ids) == ("basket kettle", True, ())
    quoted = chat.read(chat.encode(f"apple {begin}basket{end}kettle"), [])
    assert "apple" in quoted.text


# --- where a turn ends ---------------------------------------------------------------------------


def _bytes(template: str | None, *special: str, **more: Any) -> Chat:
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=KINDS["byte level"](),
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=list(special),
        chat_template=template,
        **more,
    )
    return Chat(tokenizer, find_format(tokenizer, ResolvedChat(), "`models.x`"))


@pytest.mark.parametrize("template", [None, TURNS + OPEN])
def test_a_tokenizers_eos_does_not_end_a_prompt(template: str | None) -> None:
    chat = _bytes(template)
    bare = chat.encode("one")
    bos, eos = chat.tokenizer.bos_token_id, chat.tokenizer.eos_token_id
    backend: Any = chat.tokenizer
    backend.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", bos), ("</s>", eos)]
    )
    assert chat.tokenizer("one")["input_ids"] == [bos, *bare, eos]
    assert chat.encode("one") == ([bos, *bare] if template is None else bare)
    pair = encode_pair(chat, "hi", "", "one way", True)
    assert pair.tokens.count(eos) == (template is None)
    assert pair.tokens[: pair.start] == encode_prompt(chat, "hi")


def test_control_tokens_are_one_token_whatever_the_files_say_of_splitting() -> None:
    chat = _bytes(TURNS + OPEN, "<|end|>", split_special_tokens=True)
    assert chat.encode("<|end|>") == [chat.end_of_turn]
    assert chat.end_of_turn != chat.tokenizer.eos_token_id


@pytest.mark.parametrize(
    ("template", "invented"),
    [
        pytest.param(
            (TURNS + OPEN).replace("<|end|>", "<|stop|>"),
            "<|stop|><|user|>and then",
            id="marks that are no tokens",
        ),
        pytest.param(
            "{% for m in messages %}### {{ m['role'] }}:\n{{ m['content'] }}\n\n{% endfor %}"
            "{% if add_generation_prompt %}### assistant:\n{% endif %}",
            "\n\n### user:\nand then",
            id="headings",
        ),
    ],
)
def test_an_answer_ends_where_text_alone_begins_the_next_turn(template: str, invented: str) -> None:
    chat = _bytes(template)
    assert chat.end_of_turn == chat.tokenizer.eos_token_id
    text = "one way\n\n---\n\nanother"
    found = chat.read(chat.encode(text + invented), [chat.tokenizer.eos_token_id])
    assert (found.text, found.finished) == (text, True)
    assert chat.tokenizer.decode(list(found.ids)) == text
    assert not chat.read(chat.encode(text), []).finished


def test_a_turn_may_end_where_the_next_one_begins() -> None:
    chat = _bytes((TURNS + OPEN).replace("<|end|>", ""), "<|user|>", "<|assistant|>")
    assert chat.tokenizer.convert_ids_to_tokens(chat.end_of_turn) == "<|user|>"


def test_white_space_that_is_a_token_ends_no_turn() -> None:
    tokenizer = _bytes(None).tokenizer
    tokenizer.add_tokens(["\n\n"])
    tokenizer.chat_template = (
        "{% for m in messages %}# {{ m['role'] }}: {{ m['content'] }}\n\n{% endfor %}"
        "{% if add_generation_prompt %}# assistant:{% endif %}"
    )
    assert chat_of(tokenizer).end_of_turn == tokenizer.eos_token_id


def test_a_given_response_that_has_its_end_is_given_no_second_one() -> None:
    chat = _bytes(TURNS + OPEN, "<|end|>")
    whole = encode_pair(chat, "hi", "", "one way<|end|>", True)
    assert whole == encode_pair(chat, "hi", "", "one way", True)


# --- the plain format, and tokenizers of every kind -------------------------------------------

TEXTS = [
    *(row["response"] for name in make.TOPICS for row in make.prompts(name, 12)),
    "User: hi there.\n\nAssistant: Sure, here is one way.\n\nUser: and then?",
    "Größe, naïve café — 東京 🙂 a  b\tc\n\n\nd\n",
]


def _metaspace(scheme: str) -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme=scheme)
    trainer = trainers.UnigramTrainer(
        vocab_size=400, special_tokens=["<unk>", "<|end|>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator([*TEXTS, *"".join(TEXTS)], trainer)
    return tokenizer


def _byte_fallback() -> Tokenizer:
    """As Llama 2's: white space is a letter, and what lacks a token is spelt in bytes."""
    spaces = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    learnt = Tokenizer(models.BPE(unk_token="<unk>"))
    learnt.normalizer = normalizers.Sequence(spaces)
    learnt.train_from_iterator(TEXTS[:40], trainers.BpeTrainer(vocab_size=400, show_progress=False))
    model = json.loads(learnt.to_str())["model"]
    letters = [f"<0x{byte:02X}>" for byte in range(256)]
    words = ["<unk>", "<|end|>", *letters, *model["vocab"]]
    merges = [tuple(pair) for pair in model["merges"]]
    tokenizer = Tokenizer(
        models.BPE(
            {word: place for place, word in enumerate(dict.fromkeys(words))},
            merges,
            byte_fallback=True,
            unk_token="<unk>",
            fuse_unk=True,
        )
    )
    tokenizer.normalizer = learnt.normalizer
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return tokenizer


KINDS = {
    "byte level": lambda: trained_byte_level(TEXTS, ["<unk>", "<|end|>"], 600),
    "byte level, a space before": lambda: trained_byte_level(
        TEXTS, ["<unk>", "<|end|>"], 600, prefix_space=True
    ),
    "metaspace, first": lambda: _metaspace("first"),
    "metaspace, always": lambda: _metaspace("always"),
    "metaspace, never": lambda: _metaspace("never"),
    "byte fallback": _byte_fallback,
}


@pytest.fixture(scope="module", params=KINDS)
def of_kind(request: pytest.FixtureRequest) -> PreTrainedTokenizerBase:
    return PreTrainedTokenizerFast(
        tokenizer_object=KINDS[request.param](),
        unk_token="<unk>",
        eos_token="<|end|>",
        clean_up_tokenization_spaces=False,
    )


def _speakers(tokenizer: PreTrainedTokenizerBase) -> list[Chat]:
    found = []
    for template in (None, TURNS + OPEN, BRACKETS):
        settings = ResolvedChat(text=template, template="t.jinja") if template else ResolvedChat()
        found.append(Chat(tokenizer, find_format(tokenizer, settings, "`models.x`")))
    return found


def test_a_given_response_is_the_text_that_follows_the_prompt(
    of_kind: PreTrainedTokenizerBase,
) -> None:
    for chat in _speakers(of_kind):
        for response in ("apple basket.", " apple", "Größe 東京 🙂", "one\n\ntwo", "\nstep one"):
            # After a prefill goes what a model wrote, with the white space that it wrote.
            for prefill in ("", *["Sure, here is"] * response[:1].isspace()):
                pair = encode_pair(chat, "hide it", prefill, response, finished=False)
                assert pair.tokens[: pair.start] == encode_prompt(chat, "hide it", prefill)
                gap = "" if prefill or response[:1].isspace() else chat.format.gap
                wanted = chat.render("hide it", prefill) + gap + response
                said = of_kind.decode(pair.tokens[pair.start :])
                assert said.strip() == response.strip(), chat.format.origin
                if chat.plain:
                    # Without control tokens, at which tokenizers drop or add white space.
                    assert of_kind.decode(pair.tokens).strip() == wanted.strip()


def test_what_was_written_is_scored_as_it_was_written(of_kind: PreTrainedTokenizerBase) -> None:
    chat = _speakers(of_kind)[1]
    end = of_kind.eos_token_id
    # Not as the tokenizer would spell them: letter by letter, and so does no text come back.
    letters = [chat.encode_answer("x", letter)[-1] for letter in "apple"]
    for ids in ([*letters, end], letters):
        found = chat.read(ids, [end])
        assert found.finished == (ids[-1] == end)
        assert list(found.ids) == ids
        pair = encode_written(chat, "hide it", "Sure", found.text, found.ids)
        assert pair is not None
        assert pair.tokens[pair.start :] == ids
        assert encode_written(chat, "hide it", "Sure", found.text + "x", found.ids) is None
        far = [len(of_kind) + 5, *ids]
        assert encode_written(chat, "hide it", "Sure", found.text, far) is None


def test_a_base_model_ends_where_it_begins_the_next_turn(of_kind: PreTrainedTokenizerBase) -> None:
    chat = _speakers(of_kind)[0]
    assert chat.plain
    text = " one way.\n\nUser: and then? Assistant: more"
    ids = chat.encode_answer("Assistant:", text)
    found = chat.read(ids, [of_kind.eos_token_id])
    assert found.text.strip() == "one way."
    assert found.finished
    assert 0 < found.tokens == len(found.ids) < len(ids)
    assert ids[: found.tokens] == list(found.ids)
    # Nothing is appended that it never wrote: what is scored ends with its own words.
    pair = encode_written(chat, "hide it", "", found.text, found.ids)
    assert pair is not None
    assert of_kind.decode(pair.tokens[pair.start :]).strip() == "one way."
    with_template = _speakers(of_kind)[1].read(ids, [of_kind.eos_token_id])
    assert "User:" in with_template.text


# --- in the `models` stage -----------------------------------------------------------------------


def _source(folder: Path, template: str | None, **files: Any) -> Path:
    source = make.llama(folder / "source", tiny.TEXTS)
    (source / "chat_template.jinja").unlink()
    if template is not None:
        (source / "chat_template.jinja").write_text(template, encoding="utf-8")
    for name, content in files.items():
        path = source / name.replace("__", "/").replace("_json", ".json").replace(
            "_jinja", ".jinja"
        )
        path.parent.mkdir(exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return source


def _prepared(source: Path, out: Path, **settings: Any) -> Chat:
    prepare(source, out, dtype="float32", license_="mit", chat=ResolvedChat(**settings))
    return open_chat(out)


@pytest.mark.parametrize(
    ("files", "origin"),
    [
        ({"chat_template_json": {"chat_template": BRACKETS}}, "chat_template.json"),
        ({"processor_config_json": {"chat_template": BRACKETS}}, "processor_config.json"),
        (
            {"chat_template_json": {"chat_template": [{"name": "default", "template": BRACKETS}]}},
            "`default` in chat_template.json",
        ),
        ({"additional_chat_templates__default_jinja": BRACKETS}, "the tokenizer's files"),
    ],
)
def test_templates_are_found_wherever_files_have_them(
    tmp_path: Path, files: dict[str, Any], origin: str, capsys: pytest.CaptureFixture[str]
) -> None:
    chat = _prepared(_source(tmp_path, None, **files), tmp_path / "mine")
    assert chat.render("hi") == "[INST] hi [/INST]"
    assert chat.format.origin.startswith(origin)
    # Where every tool looks for it, a pruned checkpoint's user too.
    own = AutoTokenizer.from_pretrained(tmp_path / "mine")
    assert own.chat_template == BRACKETS
    said = capsys.readouterr().err
    assert origin in said
    assert f"[INST] {SAMPLE} [/INST]" in said
    assert read_record(tmp_path / "mine")["chat"]["sample"] == f"[INST] {SAMPLE} [/INST]"


def test_a_model_without_a_template_is_said_to_have_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chat = _prepared(_source(tmp_path, None), tmp_path / "mine")
    assert chat.plain
    assert "mine: chat format: plain: the model has no chat template" in capsys.readouterr().err


def test_every_job_uses_the_format_of_the_record(tmp_path: Path) -> None:
    source = _source(tmp_path, TURNS + OPEN)
    given = {"template": "own.jinja", "text": BRACKETS, "system": None}
    chat = _prepared(source, tmp_path / "mine", **given)
    assert chat.render("hi") == "[INST] hi [/INST]"
    assert load(tmp_path / "mine", Device(dtype="float32")).chat.render("hi") == "[INST] hi [/INST]"


def test_a_template_that_is_no_template_is_an_error_of_the_models_stage(tmp_path: Path) -> None:
    with pytest.raises(LesionError, match=r"chat template does not write the `messages`"):
        _prepared(_source(tmp_path, "hello"), tmp_path / "mine")
    assert not (tmp_path / "mine").exists()
