"""Speaking a model's chat format: prompts and answers become tokens, and tokens become answers."""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from transformers import PreTrainedTokenizerBase

from lesion.models.chat_format import (
    AUTO,
    CHANNEL,
    MESSAGE,
    NEXT_PROMPT,
    PROBE_ANSWER,
    PROBE_PROMPT,
    SAMPLE,
    THOUGHT_MARKS,
    ChatError,
    ChatFormat,
    around_answer,
    control_token,
    conversation,
    find_format,
    prompt_text,
    render_messages,
)

_NEXT_PLAIN_TURN = re.compile(r"\s*\nUser:")
"""What ends an answer in the plain format, as EOS does: the beginning of the user's next turn."""


class Chat:
    """A tokenizer, and the format of prompts and answers for its model."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, format_: ChatFormat) -> None:
        """Bind a format to the tokenizer that encodes it."""
        self.tokenizer, self.format = tokenizer, format_
        self._closing = _end_of_turn_token(tokenizer, format_)
        self._next_turn = _next_turn_pattern(tokenizer, format_)

    @property
    def plain(self) -> bool:
        """Whether prompts are rendered without a chat template."""
        return self.format.template is None

    def render(self, prompt: str, prefill: str = "") -> str:
        """The text before the model's own words: template, prompt and prefill."""
        before = prompt_text(self.tokenizer, self.format, prompt) + self.format.opened
        return before + self.format.gap + prefill if prefill else before

    def messages(self, messages: Sequence[Mapping[str, str]]) -> str:
        """A conversation of several turns in this format, ending where the assistant continues.

        Args:
            messages: dicts of `role` and `content` (text). If the last is the assistant's, its
                answer begins with it.

        Raises:
            ChatError: the template fails on them, or the format is the plain one, which has only
                single turns.
        """
        if self.plain:
            raise ChatError("the plain format has no place for a conversation of several turns")
        *earlier, last = messages
        prefill = last["content"] if last["role"] == "assistant" else ""
        shown = earlier if last["role"] == "assistant" else messages
        text = render_messages(self.tokenizer, self.format, shown, open_turn=True)
        text += self.format.opened
        return text + self.format.gap + prefill if prefill else text

    def encode(self, text: str) -> list[int]:
        """Tokens of a rendered text. A template writes its own special tokens (BOS).

        A token that the tokenizer appends (`add_eos_token`) is left out, since the text continues.
        """
        return _token_ids(self.tokenizer, text, special=self.plain)

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
        return _token_ids(self.tokenizer, answer, special=False)

    @property
    def end_of_turn(self) -> int | None:
        """The token that closes an assistant's turn; the tokenizer's EOS without a template."""
        return self._closing

    def read(self, ids: Sequence[int], stops: Sequence[int]) -> "Completion":
        """The answer in the tokens that a model wrote after a prompt, up to its first stop token.

        Thoughts and channels other than the final one (harmony) are not part of it. Where only text
        ends a turn, neither is a user's turn that the model invents.

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
        """The indices of the answer's first token and of its stop token (None if cut off)."""
        start = 0
        channel, message = (control_token(self.tokenizer, one) for one in (CHANNEL, MESSAGE))
        if channel is not None and message is not None and channel in ids and message in ids:
            start = len(ids) - list(reversed(ids)).index(message)
        else:
            start = self._after_thought(ids)
        end = next((at for at in range(start, len(ids)) if ids[at] in stops), None)
        return start, end

    def _after_thought(self, ids: Sequence[int]) -> int:
        """The index after a thought whose marks are control tokens, which decoding would drop."""
        marks = (map(partial(control_token, self.tokenizer), pair) for pair in THOUGHT_MARKS)
        for begin, end in marks:
            if end is not None and end in ids:
                place = ids.index(end)
                if begin not in ids or not self._decode(ids[: ids.index(begin)]).strip():
                    return place + 1
        return 0

    def _decode(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def _shortest(self, ids: Sequence[int], text: str) -> list[int]:
        """The fewest leading tokens that decode to all of `text`."""
        low, high = 0, len(ids)
        while low < high:
            middle = (low + high) // 2
            if len(self._decode(ids[:middle])) >= len(text):
                high = middle
            else:
                low = middle + 1
        return list(ids[:low])


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


Speaker = Chat | PreTrainedTokenizerBase
"""A tokenizer alone is taken with the format of its own template."""
_CHATS: "WeakKeyDictionary[PreTrainedTokenizerBase, tuple[Any, Chat]]" = WeakKeyDictionary()


def chat_of(speaker: Speaker) -> Chat:
    """The chat itself, or that of a tokenizer with the format of its own files."""
    if isinstance(speaker, Chat):
        return speaker
    template, known = _CHATS.get(speaker, (None, None))
    if known is None or template != speaker.chat_template:
        known = Chat(speaker, find_format(speaker, AUTO, "the model"))
        _CHATS[speaker] = (speaker.chat_template, known)
    return known


def to_record(chat: Chat) -> dict[str, Any]:
    """The format as JSON's types, with a rendered sample for people to read."""
    one = chat.format
    return {**one._asdict(), "notes": list(one.notes), "sample": chat.render(SAMPLE)}


def from_record(tokenizer: PreTrainedTokenizerBase, record: Mapping[str, Any]) -> Chat:
    """The inverse of `to_record`."""
    return Chat(tokenizer, ChatFormat(**{name: record[name] for name in ChatFormat._fields}))


def _without_thought(text: str) -> str:
    """An answer without the thought before it; a thought that never ends is left in."""
    for begin, end in THOUGHT_MARKS:
        head, found, rest = text.partition(end)
        if found and (begin not in text or head.lstrip().startswith(begin)):
            return rest.lstrip()
    return text


def _end_of_turn_token(tokenizer: PreTrainedTokenizerBase, format_: ChatFormat) -> int | None:
    if format_.template is None:
        return tokenizer.eos_token_id  # type: ignore[no-any-return]
    finished = around_answer(tokenizer, format_)
    found = None if finished is None else _first_control(tokenizer, finished[1])
    if found is None:
        # GLM-4's turns end where the next turn begins, with `<|user|>`.
        found = _first_control(tokenizer, _before_next(tokenizer, format_))
    return tokenizer.eos_token_id if found is None else found


def _next_turn_pattern(
    tokenizer: PreTrainedTokenizerBase, format_: ChatFormat
) -> "re.Pattern[str] | None":
    """The text that ends an answer: the beginning of the user's next turn, or marks of a turn's end
    that are not control tokens of this model (such as ChatML's). None where a token ends turns.
    """
    if format_.template is None:
        return _NEXT_PLAIN_TURN
    between = _before_next(tokenizer, format_)
    # To the end of the first line that has a letter: `---` alone may be the answer's own.
    mark = re.match(r"(\s*)(.*?[^\W\d_][^\n]*)", between, re.DOTALL)
    if mark is None or _first_control(tokenizer, between) is not None:
        return None
    newline = r"\n\s*" if "\n" in mark[1] else ""
    return re.compile(rf"\s*{newline}{re.escape(mark[2].rstrip())}")


def _first_control(tokenizer: PreTrainedTokenizerBase, text: str) -> int | None:
    """The first control token of a text.

    The token of unknown words is not one, nor are added tokens of white space (Gemma, GPT-NeoX).
    """
    control = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    if tokenizer.unk_token_id != tokenizer.eos_token_id:
        control.discard(tokenizer.unk_token_id)
    tokens = _token_ids(tokenizer, text, special=False)
    return next(
        (one for one in tokens if one in control and str(tokenizer.decode([one])).strip()), None
    )


def _before_next(tokenizer: PreTrainedTokenizerBase, format_: ChatFormat) -> str:
    """The text between an answer and the next prompt; empty if the format allows no second turn."""
    if format_.template is None:
        return ""
    more = [
        {"role": "assistant", "content": PROBE_ANSWER},
        {"role": "user", "content": NEXT_PROMPT},
    ]
    try:
        text = render_messages(
            tokenizer, format_, [*conversation(format_, PROBE_PROMPT), *more], open_turn=False
        )
    except ChatError:
        return ""
    _, found, between = text.rpartition(NEXT_PROMPT)[0].rpartition(PROBE_ANSWER)
    return between if found else ""


def _token_ids(tokenizer: PreTrainedTokenizerBase, text: str, *, special: bool) -> list[int]:
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
