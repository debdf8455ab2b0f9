"""How a prompt is put to a model: the chat template, found, tried out, and recorded once.

A template is asked what it makes of a probe conversation before any prompt goes through it. The
prompt has to be in its text, the assistant's turn open, and no thought open where the answer
begins. How an answer stands in a finished conversation is taken from the template itself.
"""

import datetime
import json
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from transformers import PreTrainedTokenizerBase
from transformers.utils import chat_template_utils

from lesion.io.formats import BadFile, LesionError
from lesion.models.jobs import ResolvedChat
from lesion.models.record import TEMPLATE_FILES

PLAIN = "User: {prompt}\n\nAssistant:"
"""What a base model without a chat template is given (docs/architectures.md).

A prefill follows after one space, the response after that, and the tokenizer's own special tokens
(a BOS) come before. EOS ends a turn, and so does the next turn's beginning, `NEXT_TURN`.
"""
NEXT_TURN = re.compile(r"\s*\nUser:")

SAMPLE = "How do I bake bread?"
"""The prompt whose rendering the log, the record and the page show."""

_PROMPT, _ANSWER = "Which river runs past the old mill?", "The quiet one in the north valley."
_NEXT = "And which bridge crosses it there?"
_AWKWARD = "is \"a <b> & 'c'\" {{ d }} é\n" + "the same as before, " * 50 + "or not?"
"""A prompt with what templates' filters escape, cut, or write in another case."""
_NO_THOUGHT = ("enable_thinking", "thinking")
"""Arguments by which templates are told to open no thought."""
_THOUGHTS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|channel>", "<channel|>"),
    ("◁think▷", "◁/think▷"),
)
"""Marks between which models write what is no part of the answer."""
_CHANNEL, _MESSAGE = "<|channel|>", "<|message|>"
_FINAL_CHANNEL = f"{_CHANNEL}final{_MESSAGE}"
"""Of the harmony format (gpt-oss): what stands before the answer, after `<|start|>assistant`."""


class ChatError(LesionError):
    """A chat template that does not put prompts to the model as they are meant."""


AUTO = ResolvedChat()


class ChatFormat(NamedTuple):
    """A chat format as it is recorded, and found again in every job."""

    template: str | None
    """The Jinja text; None for the plain format."""
    origin: str
    """Where the template is from, in words."""
    kwargs: Mapping[str, Any]
    """Arguments of the template."""
    system: str | None
    """The system prompt, if the study gives one."""
    date: str | None
    """What a template that asks for today's date is told."""
    parts: bool
    """Whether the template wants a message's content as a list of parts."""
    opened: str
    """What follows the template's generation prompt so that the answer itself is next."""
    gap: str
    """White space between that and an answer that is given; the model writes its own."""
    notes: Sequence[str] = ()
    """What was decided about it, in sentences."""


class Chat:
    """A tokenizer, and how prompts and answers are written for its model."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, format_: ChatFormat) -> None:
        """Bind a format to the tokenizer that encodes it."""
        self.tokenizer, self.format = tokenizer, format_
        self._closing = _closing(tokenizer, format_)
        self._next_turn = _next_turn(tokenizer, format_)

    @property
    def plain(self) -> bool:
        """Whether prompts are put without a chat template."""
        return self.format.template is None

    def render(self, prompt: str, prefill: str = "") -> str:
        """The text that precedes the model's own words: template, prompt, and the prefill."""
        before = _turn(self.tokenizer, self.format, prompt) + self.format.opened
        return before + self.format.gap + prefill if prefill else before

    def messages(self, messages: Sequence[Mapping[str, str]]) -> str:
        """A whole conversation in this format, open where the assistant goes on.

        Args:
            messages: dicts of `role` and `content` (text). A last one of the assistant's is what
                its answer begins with.

        Raises:
            ChatError: the template fails on them, or the format is the plain one, which has single
                turns alone.
        """
        if self.plain:
            raise ChatError("the plain format has no place for a conversation of several turns")
        *earlier, last = messages
        begun = last["content"] if last["role"] == "assistant" else ""
        told = earlier if last["role"] == "assistant" else messages
        text = _rendered(self.tokenizer, self.format, told, open_turn=True) + self.format.opened
        return text + self.format.gap + begun if begun else text

    def encode(self, text: str) -> list[int]:
        """Tokens of a rendered text. A template writes its own special tokens (BOS).

        What a tokenizer puts at the end of a text (`add_eos_token`) is left out: the text goes on.
        """
        return _ids(self.tokenizer, text, special=self.plain)

    def encode_answer(self, before: str, answer: str) -> list[int]:
        """Tokens of an answer's text as they follow those of `before`.

        White space that the format puts before an answer belongs to the answer's first token where
        the tokenizer joins them. Where a token would reach from `before` into the answer, the
        answer is tokenised by itself, so that its first token is its own.
        """
        head = self.encode(before)
        both = self.encode(before + answer)
        if both[: len(head)] == head:
            return both[len(head) :]
        return _ids(self.tokenizer, answer, special=False)

    @property
    def end_of_turn(self) -> int | None:
        """The token that closes an assistant's turn; the tokenizer's EOS without a template."""
        return self._closing

    def read(self, ids: Sequence[int], stops: Sequence[int]) -> "Completion":
        """The answer in what a model wrote after a prompt, up to its first stop token.

        What a thought holds, or another channel than the final one (harmony), is no part of it;
        where text alone ends a turn, neither is a turn of the user that the model invents.

        Args:
            ids: tokens as they were generated.
            stops: tokens that end an answer.
        """
        start, end = self._answer_span(ids, stops)
        words = list(ids[start:end])
        text = self._decode(words)
        found = _without_thought(text.lstrip() if start else text)
        if self._next_turn and (match := self._next_turn.search(found)):
            found = found[: match.start()]
            kept = self._shortest(words, found) if start == 0 and text.startswith(found) else []
            return Completion(found, len(kept) or len(words), True, tuple(kept))
        whole = start == 0 and found == text
        return Completion(
            found,
            len(words),
            end is not None,
            tuple(ids if end is None else ids[: end + 1]) if whole else (),
        )

    def _answer_span(self, ids: Sequence[int], stops: Sequence[int]) -> tuple[int, int | None]:
        """Where the answer begins, and its stop token's place (None: it was cut off)."""
        start = 0
        channel, message = (_special(self.tokenizer, one) for one in (_CHANNEL, _MESSAGE))
        if channel is not None and message is not None and channel in ids and message in ids:
            start = len(ids) - list(reversed(ids)).index(message)
        else:
            start = self._after_thought(ids)
        end = next((at for at in range(start, len(ids)) if ids[at] in stops), None)
        return start, end

    def _after_thought(self, ids: Sequence[int]) -> int:
        """Where the answer begins whose thought is marked by tokens: decoding drops them."""
        for begin, end in (map(partial(_special, self.tokenizer), pair) for pair in _THOUGHTS):
            if end is not None and end in ids:
                place = ids.index(end)
                if begin not in ids or not self._decode(ids[: ids.index(begin)]).strip():
                    return place + 1
        return 0

    def _decode(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def _shortest(self, ids: Sequence[int], text: str) -> list[int]:
        """The first tokens that spell all of `text`."""
        low, high = 0, len(ids)
        while low < high:
            middle = (low + high) // 2
            if len(self._decode(ids[:middle])) >= len(text):
                high = middle
            else:
                low = middle + 1
        return list(ids[:low])


class Completion(NamedTuple):
    """What a model wrote; `finished` is false where the token limit cut it off.

    No tokens and not finished: there was no room for prompt and answer in the model's context.
    """

    text: str
    tokens: int
    """How many were written, the end of the turn not counted."""
    finished: bool
    ids: tuple[int, ...] = ()
    """The tokens themselves, with the end of the turn where the model wrote one; none where the
    text is only a part of what they say."""


Speaker = Chat | PreTrainedTokenizerBase
"""A tokenizer by itself stands for the format that its own template gives."""

_OF_TOKENIZERS: "WeakKeyDictionary[PreTrainedTokenizerBase, tuple[Any, Chat]]" = WeakKeyDictionary()


def chat_of(speaker: Speaker) -> Chat:
    """The chat format of a tokenizer as its own files have it, unless one is bound to it."""
    if isinstance(speaker, Chat):
        return speaker
    template, known = _OF_TOKENIZERS.get(speaker, (None, None))
    if known is None or template != speaker.chat_template:
        known = Chat(speaker, find_format(speaker, AUTO, "the model"))
        _OF_TOKENIZERS[speaker] = (speaker.chat_template, known)
    return known


def to_record(chat: Chat) -> dict[str, Any]:
    """The format as JSON's types, with a sample that people can read."""
    one = chat.format
    return {**one._asdict(), "notes": list(one.notes), "sample": chat.render(SAMPLE)}


def from_record(tokenizer: PreTrainedTokenizerBase, record: Mapping[str, Any]) -> Chat:
    """The inverse of `to_record`."""
    return Chat(tokenizer, ChatFormat(**{name: record[name] for name in ChatFormat._fields}))


def find_format(
    tokenizer: PreTrainedTokenizerBase,
    settings: ResolvedChat,
    model: str,
    folder: Path | None = None,
) -> ChatFormat:
    """Find a model's chat format, and try it out on a probe conversation.

    Args:
        tokenizer: the model's own.
        settings: what the study says.
        model: its name in messages.
        folder: of its files; templates are looked for there that the tokenizer does not know.

    Raises:
        ChatError: the template fails, leaves out the prompt or the system prompt, opens no turn,
            or is one of several that the study does not choose among.
    """
    template, origin = _find_template(tokenizer, settings, model, folder)
    if template is None:
        _check_plain(settings, model)
        return ChatFormat(None, origin, {}, settings.system, None, False, "", " ")
    where = f"{model}: the chat template ({origin})"
    for name in settings.kwargs:
        if not re.search(rf"\b{re.escape(name)}\b", template):
            raise ChatError(
                f"{where} uses no argument `{name}`. Take it from `chat.kwargs`, or look at the "
                "template for the name that it uses."
            )
    one = ChatFormat(
        template,
        origin,
        dict(settings.kwargs),
        settings.system,
        settings.date if "strftime_now" in template else None,
        False,
        "",
        "",
    )
    try:
        return _opened(tokenizer, _with_content(tokenizer, one))
    except ChatError as error:
        raise ChatError(
            f"{where} does not put a prompt to the model: {error}. Give a template that does with "
            "`chat.template`, or set it to `plain`."
        ) from error


def _find_template(
    tokenizer: PreTrainedTokenizerBase, settings: ResolvedChat, model: str, folder: Path | None
) -> tuple[str | None, str]:
    if settings.template == "plain":
        return None, "plain, as the study asks"
    if settings.text is not None:
        return settings.text, settings.template
    found: Any = tokenizer.chat_template
    origin = "the tokenizer's files"
    if found is None and folder is not None:
        found, origin = _elsewhere(folder)
    if isinstance(found, Mapping):
        return _named(found, settings.template, model, origin)
    if settings.template not in ("auto", "default"):
        raise ChatError(
            f"{model}: has no chat template named `{settings.template}`: "
            f"{'it has no template' if found is None else 'its only one has no name'}. Set "
            "`chat.template` to `auto`, `plain` or a file (`./name.jinja`)."
        )
    if found is None:
        return None, "plain: the model has no chat template"
    return str(found), origin


def _named(
    found: Mapping[str, str], wanted: str, model: str, origin: str
) -> tuple[str | None, str]:
    name = "default" if wanted == "auto" else wanted
    if name not in found:
        raise ChatError(
            f"{model}: has the chat templates {', '.join(sorted(found))}, and none is named "
            f"`{name}`. Set `chat.template` to one of these names."
        )
    return str(found[name]), f"`{name}` in {origin}"


def _elsewhere(folder: Path) -> tuple[Any, str]:
    """A template in the files of a processor: text, or texts by name; None if there is none."""
    for name in TEMPLATE_FILES:
        path = folder / name
        if not path.is_file():
            continue
        try:
            value = json.loads(path.read_text(encoding="utf-8-sig"))
        except ValueError as error:
            raise BadFile(f"{path}: is not JSON ({error}). Fetch the file again.") from error
        template = value.get("chat_template") if isinstance(value, dict) else None
        if isinstance(template, list):
            template = {one["name"]: one["template"] for one in template}
        if isinstance(template, (str, dict)):
            return template, name
    return None, ""


def _check_plain(settings: ResolvedChat, model: str) -> None:
    if settings.kwargs:
        raise ChatError(
            f"{model}: `chat.kwargs` are arguments of a chat template, and prompts are put in the "
            "plain format. Take them out, or give `chat.template` a file."
        )


def _with_content(tokenizer: PreTrainedTokenizerBase, one: ChatFormat) -> ChatFormat:
    """The format with messages as texts, or as lists of parts, whichever shows the prompt."""
    failures = []
    for parts in (False, True):
        tried = one._replace(parts=parts)
        try:
            text = _turn(tokenizer, tried, _PROMPT)
            kept = _AWKWARD in _turn(tokenizer, tried, _AWKWARD)
        except ChatError as error:
            failures.append(str(error))
            continue
        if _PROMPT not in text:
            failures.append("the prompt is not in the text that it makes")
        elif not kept:
            failures.append(
                "it escapes, cuts or changes what a prompt says (quotes, `<`, `&`, capitals, line "
                "breaks, length)"
            )
        elif one.system is not None and one.system.strip() not in text:
            failures.append("the system prompt (`chat.system`) is not in the text that it makes")
        else:
            note = ["Messages are given to the template as lists of parts."] if parts else []
            return tried._replace(notes=note)
    raise ChatError(failures[0])


def _opened(tokenizer: PreTrainedTokenizerBase, one: ChatFormat) -> ChatFormat:
    """The format with what has to follow the generation prompt before an answer begins."""
    one = _without_own_thought(tokenizer, one)
    begun = _tail(_turn(tokenizer, one, _PROMPT))
    finished = _finished(tokenizer, one)
    before = None if finished is None else finished[0]
    opened, gap, notes = "", "", list(one.notes)
    if before is None:
        notes.append(
            "The template writes no assistant's turn, so what precedes an answer there is unknown."
        )
    elif before.startswith(begun):
        rest = before[len(begun) :]
        opened, gap = (rest, "") if rest.strip() else ("", rest)
    elif not begun.startswith(before.rstrip()):
        notes.append(
            f"The template opens a turn with {begun!r}, and in a finished conversation an answer "
            f"follows {before!r}."
        )
    if _speaks_harmony(tokenizer, begun) and _CHANNEL not in begun + opened:
        opened, gap = _FINAL_CHANNEL, ""
    if mark := _open_thought(begun + opened):
        opened = f"{opened}\n{mark}\n\n"
    if opened:
        notes.append(f"An answer begins after {opened!r}, which is put after every prompt.")
    found = one._replace(opened=opened, gap=gap, notes=tuple(notes))
    _check_turn(tokenizer, found)
    return found


def _without_own_thought(tokenizer: PreTrainedTokenizerBase, one: ChatFormat) -> ChatFormat:
    """The format with a thought switched off where its template can do so itself."""
    assert one.template is not None
    if not _open_thought(_tail(_turn(tokenizer, one, _PROMPT))):
        return one
    for name in _NO_THOUGHT:
        if name not in one.template or name in one.kwargs:
            continue
        tried = one._replace(kwargs={**one.kwargs, name: False})
        if not _open_thought(_tail(_turn(tokenizer, tried, _PROMPT))):
            note = f"The template opens a thought unless `{name}` is false, so it is set to false."
            return tried._replace(notes=(*one.notes, note))
    return one


def _check_turn(tokenizer: PreTrainedTokenizerBase, one: ChatFormat) -> None:
    tail = _tail(_turn(tokenizer, one, _PROMPT) + one.opened)
    closed = _tail(_rendered(tokenizer, one, _conversation(one, _PROMPT), open_turn=False))
    finished = _finished(tokenizer, one)
    # Where the end of the user's turn opens the next one ([/INST]), both are the same text; then
    # an answer follows it in a finished conversation too.
    if tail == closed and (finished is None or not finished[0].startswith(tail)):
        raise ChatError(
            "it opens no turn for the assistant; asked for a generation prompt, it writes what it "
            f"writes without ({tail!r} after the prompt)"
        )


def _finished(tokenizer: PreTrainedTokenizerBase, one: ChatFormat) -> tuple[str, str] | None:
    """What a finished conversation has between prompt and answer, and after the answer."""
    answer = {"role": "assistant", "content": _ANSWER}
    try:
        text = _rendered(tokenizer, one, [*_conversation(one, _PROMPT), answer], open_turn=False)
    except ChatError:
        return None
    before, found, after = _tail(text).rpartition(_ANSWER)
    return (before, after) if found else None


def _tail(text: str) -> str:
    """What follows the probe's prompt."""
    return text.rpartition(_PROMPT)[2]


def _open_thought(text: str) -> str | None:
    """The mark that would close the thought which a text leaves open."""
    for begin, end in _THOUGHTS:
        if text.rfind(begin) > text.rfind(end):
            return end
    return None


def _without_thought(text: str) -> str:
    """An answer without the thought that precedes it; one that never ends is left as it is."""
    for begin, end in _THOUGHTS:
        head, found, rest = text.partition(end)
        if found and (begin not in text or head.lstrip().startswith(begin)):
            return rest.lstrip()
    return text


def _speaks_harmony(tokenizer: PreTrainedTokenizerBase, begun: str) -> bool:
    known = [_special(tokenizer, one) for one in ("<|start|>", _CHANNEL, _MESSAGE)]
    return None not in known and begun.rstrip().endswith("<|start|>assistant")


def _special(tokenizer: PreTrainedTokenizerBase, text: str) -> int | None:
    """The id of a control token; None if the tokenizer has none of this spelling."""
    found = tokenizer.get_added_vocab().get(text)
    return None if found is None else int(found)


def _closing(tokenizer: PreTrainedTokenizerBase, one: ChatFormat) -> int | None:
    if one.template is None:
        return tokenizer.eos_token_id  # type: ignore[no-any-return]
    finished = _finished(tokenizer, one)
    found = None if finished is None else _first_control(tokenizer, finished[1])
    if found is None:
        # GLM-4's turns end where the next one begins, with `<|user|>`.
        found = _first_control(tokenizer, _before_next(tokenizer, one))
    return tokenizer.eos_token_id if found is None else found


def _first_control(tokenizer: PreTrainedTokenizerBase, text: str) -> int | None:
    """The first token of a text that tokenizers don't make of words.

    An unknown word's is none, and added tokens may be white space alone (Gemma, GPT-NeoX).
    """
    control = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    if tokenizer.unk_token_id != tokenizer.eos_token_id:
        control.discard(tokenizer.unk_token_id)
    tokens = _ids(tokenizer, text, special=False)
    return next(
        (one for one in tokens if one in control and str(tokenizer.decode([one])).strip()), None
    )


def _before_next(tokenizer: PreTrainedTokenizerBase, one: ChatFormat) -> str:
    """What a conversation has between an answer and the next prompt; empty if it can't have one."""
    if one.template is None:
        return ""
    more = [{"role": "assistant", "content": _ANSWER}, {"role": "user", "content": _NEXT}]
    try:
        text = _rendered(tokenizer, one, [*_conversation(one, _PROMPT), *more], open_turn=False)
    except ChatError:
        return ""
    _, found, between = text.rpartition(_NEXT)[0].rpartition(_ANSWER)
    return between if found else ""


def _next_turn(tokenizer: PreTrainedTokenizerBase, one: ChatFormat) -> "re.Pattern[str] | None":
    """What ends an answer as text: the beginning of the user's next turn, or marks of a turn's end
    that are no tokens of this model (ChatML's, say). None where a control token ends turns.
    """
    if one.template is None:
        return NEXT_TURN
    between = _before_next(tokenizer, one)
    # To the end of the first line that has a letter: `---` alone may be the answer's own.
    mark = re.match(r"(\s*)(.*?[^\W\d_][^\n]*)", between, re.DOTALL)
    if mark is None or _first_control(tokenizer, between) is not None:
        return None
    newline = r"\n\s*" if "\n" in mark[1] else ""
    return re.compile(rf"\s*{newline}{re.escape(mark[2].rstrip())}")


def _conversation(one: ChatFormat, prompt: str) -> list[dict[str, str]]:
    system = [] if one.system is None else [{"role": "system", "content": one.system}]
    return [*system, {"role": "user", "content": prompt}]


def _turn(tokenizer: PreTrainedTokenizerBase, one: ChatFormat, prompt: str) -> str:
    """The prompt, and the assistant's turn as the template opens it."""
    if one.template is None:
        system = "" if one.system is None else f"{one.system}\n\n"
        return system + PLAIN.format(prompt=prompt)
    return _rendered(tokenizer, one, _conversation(one, prompt), open_turn=True)


def _rendered(
    tokenizer: PreTrainedTokenizerBase,
    one: ChatFormat,
    messages: Sequence[Mapping[str, str]],
    *,
    open_turn: bool,
) -> str:
    content: list[dict[str, Any]] = [
        {**message, "content": [{"type": "text", "text": message["content"]}]}
        if one.parts
        else dict(message)
        for message in messages
    ]
    try:
        _tell_date(one)
        text = tokenizer.apply_chat_template(
            content,
            chat_template=one.template,
            tokenize=False,
            add_generation_prompt=open_turn,
            **one.kwargs,
        )
    # Jinja raises whatever the template's own expressions do.
    except Exception as error:
        raise ChatError(
            f"the chat template ({one.origin}) fails ({type(error).__name__}: {error})"
        ) from error
    return str(text)


def _tell_date(one: ChatFormat) -> None:
    """Have the template's clock stand still: transformers gives templates the machine's own.

    transformers keeps compiled templates; it takes no function among a template's arguments.
    """
    compiled = chat_template_utils._compile_jinja_template(one.template)
    if one.date is not None:
        day = datetime.datetime.fromisoformat(one.date)
        compiled.globals["strftime_now"] = day.strftime


def _ids(tokenizer: PreTrainedTokenizerBase, text: str, *, special: bool) -> list[int]:
    def tokens(more: bool) -> list[int]:
        # A template's marks are control tokens, whatever the files say of `split_special_tokens`.
        found = tokenizer(text, add_special_tokens=more, split_special_tokens=False)
        return [int(token) for token in found["input_ids"]]

    bare = tokens(more=False)
    if not special:
        return bare
    whole = tokens(more=True)
    # `whole` is `bare` between what the tokenizer puts before and after a text.
    starts = range(len(whole) - len(bare) + 1)
    ends = (at + len(bare) for at in starts if whole[at : at + len(bare)] == bare)
    return whole[: next(ends, len(whole))]
