"""Speaking a model's chat format: prompts and answers become tokens, and tokens become answers."""

import datetime
import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase
from transformers.utils import chat_template_utils

from lesion.io.formats import LesionError

PLAIN = "User: {prompt}\n\nAssistant:"
"""The format of a base model without a chat template (docs/reference/architectures.md).

A prefill follows after one space, the response after that, and the tokenizer's own special tokens
(a BOS) come before. EOS ends a turn, and so does the text that begins the user's next turn.
"""
_NEXT_PLAIN_TURN = re.compile(r"\s*\nUser:")
"""What ends an answer in the plain format, as EOS does: the beginning of the user's next turn."""
SAMPLE = "How do I bake bread?"
"""The prompt whose rendering the log, the record and the page show."""
PROBE_PROMPT, PROBE_ANSWER, _NEXT_PROMPT = (
    "Which river runs past the old mill?",
    "The quiet one in the north valley.",
    "And which bridge crosses it there?",
)
"""A conversation whose rendering shows what a template writes around prompts and answers."""
THOUGHT_MARKS = (
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
"""Marks around the thoughts that models write before their answer."""
CHANNEL, MESSAGE = "<|channel|>", "<|message|>"
"""The marks of the harmony format (gpt-oss)."""


class ChatError(LesionError):
    """A chat template that fails, or changes or drops a prompt."""


class ChatFormat(NamedTuple):
    """A chat format as the model's record has it, so that every job uses the same one."""

    template: str | None
    """The Jinja text; None for the plain format."""
    origin: str
    """A description of where the template comes from."""
    kwargs: Mapping[str, Any]
    """Arguments of the template."""
    system: str | None
    """The system prompt, if the study gives one."""
    date: str | None = None
    """The date that a template which asks for today's date is given."""
    parts: bool = False
    """Whether the template wants a message's content as a list of parts."""
    opened: str = ""
    """The text after the template's generation prompt, up to where the answer begins."""
    gap: str = ""
    """White space before an answer that is given; the model writes its own white space."""
    notes: Sequence[str] = ()
    """What was decided while the format was determined, in sentences."""


class Completion(NamedTuple):
    """A model's answer; `finished` is false where the token limit cut it off.

    It has no tokens and is not finished where prompt and answer do not fit the model's context.
    """

    text: str
    tokens: int
    """The number of tokens, without the end of the turn."""
    finished: bool
    ids: tuple[int, ...] = ()
    """The tokens, with the end of the turn if the model wrote it; none where `text` is only a part
    of the decoded tokens."""


class Chat:
    """A tokenizer, and the format of prompts and answers for its model."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, format_: ChatFormat) -> None:
        """Bind a format to the tokenizer that encodes it."""
        self.tokenizer, self.format = tokenizer, format_

    def having(self, **fields: Any) -> "Chat":
        """The same tokenizer with other values of these fields of the format."""
        return Chat(self.tokenizer, self.format._replace(**fields))

    @property
    def plain(self) -> bool:
        """Whether prompts are rendered without a chat template."""
        return self.format.template is None

    def render(self, prompt: str, prefill: str = "") -> str:
        """The text before the model's own words: template, prompt and prefill."""
        return self._opened(self.rendered_prompt(prompt), prefill)

    def messages(self, messages: Sequence[Mapping[str, str]]) -> str:
        """A conversation of several turns in this format, ending where the assistant continues.

        The messages are dicts of `role` and `content` (text). If the last is the assistant's, its
        answer begins with it.

        Raises:
            ChatError: the template fails on them, or the format is the plain one, which has only
                single turns.
        """
        if self.plain:
            raise ChatError("the plain format has no place for a conversation of several turns")
        *earlier, last = messages
        if last["role"] == "assistant":
            return self._opened(self._apply(earlier, open_turn=True), last["content"])
        return self._opened(self._apply(messages, open_turn=True))

    def _opened(self, text: str, prefill: str = "") -> str:
        text += self.format.opened
        return text + self.format.gap + prefill if prefill else text

    def rendered_prompt(self, prompt: str, *, open_turn: bool = True) -> str:
        """The rendered prompt, followed by the template's generation prompt if `open_turn`.

        Raises:
            ChatError: the template fails.
        """
        if self.plain:
            system = "" if self.format.system is None else f"{self.format.system}\n\n"
            return system + PLAIN.format(prompt=prompt)
        return self._apply(self._conversation(prompt), open_turn=open_turn)

    def around_answer(self) -> tuple[str, str] | None:
        """The text between prompt and answer, and after the answer, in a finished conversation."""
        text = self._finished().rpartition(PROBE_PROMPT)[2]
        before, answer, after = text.rpartition(PROBE_ANSWER)
        return (before, after) if answer else None

    def _before_next(self) -> str:
        """The text between an answer and the next prompt; empty if no second turn is allowed."""
        text = self._finished({"role": "user", "content": _NEXT_PROMPT}).rpartition(_NEXT_PROMPT)[0]
        _, answer, between = text.rpartition(PROBE_ANSWER)
        return between if answer else ""

    def _finished(self, *more: dict[str, str]) -> str:
        """The probe with its answer and further messages; empty if the template fails on them."""
        answer = {"role": "assistant", "content": PROBE_ANSWER}
        try:
            conversation = [*self._conversation(PROBE_PROMPT), answer, *more]
            return self._apply(conversation, open_turn=False)
        except ChatError:
            return ""

    def _conversation(self, prompt: str) -> list[dict[str, str]]:
        """The messages of a conversation that has only this prompt."""
        system = self.format.system
        before = [] if system is None else [{"role": "system", "content": system}]
        return [*before, {"role": "user", "content": prompt}]

    def _apply(self, messages: Sequence[Mapping[str, str]], *, open_turn: bool) -> str:
        """The rendered messages, with a generation prompt if `open_turn`."""
        content: list[dict[str, Any]] = [dict(message) for message in messages]
        if self.format.parts:
            for message in content:
                message["content"] = [{"type": "text", "text": message["content"]}]
        try:
            # The machine's clock is replaced by a fixed date. transformers caches compiled
            # templates, and a template's arguments cannot be functions.
            compiled = chat_template_utils._compile_jinja_template(self.format.template)
            if self.format.date is not None:
                day = datetime.datetime.fromisoformat(self.format.date)
                compiled.globals["strftime_now"] = day.strftime
            text = self.tokenizer.apply_chat_template(
                content,
                chat_template=self.format.template,
                tokenize=False,
                add_generation_prompt=open_turn,
                **self.format.kwargs,
            )
        # Jinja raises whatever the template's own expressions do.
        except Exception as error:
            raise ChatError(
                f"the chat template ({self.format.origin}) fails ({type(error).__name__}: {error})"
            ) from error
        return str(text)

    def encode(self, text: str) -> list[int]:
        """Tokens of a rendered text. A template writes its own special tokens (BOS).

        A token that the tokenizer appends (`add_eos_token`) is left out, since the text continues.
        """
        bare = self._tokens(text)
        if not self.plain:
            return bare
        # `special` is `bare` between what the tokenizer puts before and after a text.
        special = self._tokens(text, add_special_tokens=True)
        starts = range(len(special) - len(bare) + 1)
        ends = (at + len(bare) for at in starts if special[at : at + len(bare)] == bare)
        return special[: next(ends, len(special))]

    def encode_answer(self, before: str, answer: str) -> list[int]:
        """Tokens of an answer's text as they follow those of `before`.

        White space that the format puts before an answer belongs to the answer's first token where
        the tokenizer joins them. Where a token would reach from `before` into the answer, the
        answer is tokenised by itself, so that its first token is its own.
        """
        head, both = self.encode(before), self.encode(before + answer)
        return both[len(head) :] if both[: len(head)] == head else self._tokens(answer)

    def _tokens(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
        # A template's marks are control tokens, whatever the files say of `split_special_tokens`.
        encoded = self.tokenizer(
            text, add_special_tokens=add_special_tokens, split_special_tokens=False
        )
        return [int(token) for token in encoded["input_ids"]]

    def control_token(self, text: str) -> int | None:
        """The id of a control token; None if the tokenizer has none of this spelling."""
        token = self.tokenizer.get_added_vocab().get(text)
        return None if token is None else int(token)

    @cached_property
    def end_of_turn(self) -> int | None:
        """The token that closes an assistant's turn; the tokenizer's EOS without a template."""
        around = None if self.plain else self.around_answer()
        token = self._first_control(around[1]) if around else None
        if token is None and not self.plain:
            # GLM-4's turns end where the next turn begins, with `<|user|>`.
            token = self._first_control(self._before_next())
        return self.tokenizer.eos_token_id if token is None else token

    @cached_property
    def _next_turn(self) -> "re.Pattern[str] | None":
        """The text that ends an answer: the beginning of the user's next turn, or marks of a turn's
        end that are not control tokens of this model (such as ChatML's). None where a token does.
        """
        if self.plain:
            return _NEXT_PLAIN_TURN
        between = self._before_next()
        # To the end of the first line that has a letter: `---` alone may be the answer's own.
        mark = re.match(r"(\s*)(.*?[^\W\d_][^\n]*)", between, re.DOTALL)
        if mark is None or self._first_control(between) is not None:
            return None
        newline = r"\n\s*" if "\n" in mark[1] else ""
        return re.compile(rf"\s*{newline}{re.escape(mark[2].rstrip())}")

    def _first_control(self, text: str) -> int | None:
        """The first control token of a text.

        The unknown word is not one, nor are added tokens of white space (Gemma, GPT-NeoX).
        """
        tokenizer = self.tokenizer
        control = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
        if tokenizer.unk_token_id != tokenizer.eos_token_id:
            control.discard(tokenizer.unk_token_id)
        tokens = (token for token in self._tokens(text) if token in control)
        return next((token for token in tokens if str(tokenizer.decode([token])).strip()), None)

    def read(self, ids: Sequence[int], stops: Sequence[int]) -> Completion:
        """The answer in the tokens that a model wrote after a prompt, up to its first stop token.

        Thoughts and channels other than the final one (harmony) are not part of it. Where only text
        ends a turn, neither is a user's turn that the model invents.
        """
        start = self._answer_start(ids)
        end = next((at for at in range(start, len(ids)) if ids[at] in stops), None)
        words = list(ids[start:end])
        text = self._decode(words)
        answer = _without_thought(text.lstrip() if start else text)
        if self._next_turn and (match := self._next_turn.search(answer)):
            answer = answer[: match.start()]
            kept: list[int] = []
            if start == 0 and text.startswith(answer):
                # The fewest tokens that decode to all of the answer.
                prefixes = range(len(words))
                count = bisect_left(
                    prefixes, len(answer), key=lambda count: len(self._decode(words[:count]))
                )
                kept = words[:count]
            return Completion(answer, len(kept) or len(words), True, tuple(kept))
        complete = start == 0 and answer == text
        written = ids if end is None else ids[: end + 1]
        return Completion(answer, len(words), end is not None, tuple(written) if complete else ())

    def _answer_start(self, ids: Sequence[int]) -> int:
        """The index of the answer's first token, after other channels or a thought.

        Only those whose marks are control tokens are found here, since decoding would drop them.
        """
        channel, message = self.control_token(CHANNEL), self.control_token(MESSAGE)
        if channel is not None and message is not None and channel in ids and message in ids:
            return len(ids) - list(reversed(ids)).index(message)
        for begin, end in (map(self.control_token, marks) for marks in THOUGHT_MARKS):
            if end is None or end not in ids:
                continue
            if begin not in ids or not self._decode(ids[: ids.index(begin)]).strip():
                return ids.index(end) + 1
        return 0

    def _decode(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))


def to_record(chat: Chat) -> dict[str, Any]:
    """The format as JSON's types, with a rendered sample for people to read."""
    fields = chat.format._asdict()
    return {**fields, "notes": list(chat.format.notes), "sample": chat.render(SAMPLE)}


def from_record(tokenizer: PreTrainedTokenizerBase, record: Mapping[str, Any]) -> Chat:
    """The inverse of `to_record`."""
    return Chat(tokenizer, ChatFormat(**{name: record[name] for name in ChatFormat._fields}))


def _without_thought(text: str) -> str:
    """An answer without the thought before it; a thought that never ends is left in."""
    for begin, end in THOUGHT_MARKS:
        head, mark, rest = text.partition(end)
        if mark and (begin not in text or head.lstrip().startswith(begin)):
            return rest.lstrip()
    return text
