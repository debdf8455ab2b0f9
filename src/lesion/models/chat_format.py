"""Finding a model's chat format: the template, and what has to follow it before an answer begins.

Before any prompt goes through a template, the template renders a probe conversation. The prompt
must be in the rendered text, the assistant's turn must be open, and no thought may be open where
the answer begins. What surrounds an answer is taken from a finished conversation that the template
renders.
"""

import datetime
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase
from transformers.utils import chat_template_utils

from lesion.io.formats import BadFile, LesionError
from lesion.models.jobs import ResolvedChat
from lesion.models.record import TEMPLATE_FILES

PLAIN = "User: {prompt}\n\nAssistant:"
"""The format of a base model without a chat template (docs/architectures.md).

A prefill follows after one space, the response after that, and the tokenizer's own special tokens
(a BOS) come before. EOS ends a turn, and so does the text that begins the user's next turn.
"""
SAMPLE = "How do I bake bread?"
"""The prompt whose rendering the log, the record and the page show."""
PROBE_PROMPT, PROBE_ANSWER = (
    "Which river runs past the old mill?",
    "The quiet one in the north valley.",
)
NEXT_PROMPT = "And which bridge crosses it there?"
_AWKWARD = "is \"a <b> & 'c'\" {{ d }} é\n" + "the same as before, " * 50 + "or not?"
"""A prompt with characters and a length that templates' filters escape, cut, or change."""
_NO_THOUGHT = ("enable_thinking", "thinking")
"""Template arguments that switch a thought off."""
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
_FINAL_CHANNEL = f"{CHANNEL}final{MESSAGE}"
"""In the harmony format (gpt-oss), the text between `<|start|>assistant` and the answer."""


class ChatError(LesionError):
    """A chat template that fails, or changes or drops a prompt."""


AUTO = ResolvedChat()


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
    date: str | None
    """The date that a template which asks for today's date is given."""
    parts: bool
    """Whether the template wants a message's content as a list of parts."""
    opened: str
    """The text after the template's generation prompt, up to where the answer begins."""
    gap: str
    """White space before an answer that is given; the model writes its own white space."""
    notes: Sequence[str] = ()
    """What was decided while the format was determined, in sentences."""


def find_format(
    tokenizer: PreTrainedTokenizerBase,
    settings: ResolvedChat,
    model: str,
    folder: Path | None = None,
) -> ChatFormat:
    """Determine a model's chat format and test it on a probe conversation.

    Args:
        tokenizer: the model's own.
        settings: the study's.
        model: its name in messages.
        folder: its files, which may have a template that the tokenizer does not load.

    Raises:
        ChatError: the template fails, leaves out the prompt or the system prompt, opens no turn,
            or is one of several of which the study chooses none.
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
        return _with_opening(tokenizer, _with_content_kind(tokenizer, one))
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
        found, origin = _processor_template(folder)
    if isinstance(found, Mapping):
        return _choose_named(found, settings.template, model, origin)
    if settings.template not in ("auto", "default"):
        raise ChatError(
            f"{model}: has no chat template named `{settings.template}`: "
            f"{'it has no template' if found is None else 'its only one has no name'}. Set "
            "`chat.template` to `auto`, `plain` or a file (`./name.jinja`)."
        )
    if found is None:
        return None, "plain: the model has no chat template"
    return str(found), origin


def _choose_named(
    found: Mapping[str, str], wanted: str, model: str, origin: str
) -> tuple[str | None, str]:
    name = "default" if wanted == "auto" else wanted
    if name not in found:
        raise ChatError(
            f"{model}: has the chat templates {', '.join(sorted(found))}, and none is named "
            f"`{name}`. Set `chat.template` to one of these names."
        )
    return str(found[name]), f"`{name}` in {origin}"


def _processor_template(folder: Path) -> tuple[Any, str]:
    """The template in a processor's files: a text, or texts by name; None if there is none."""
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


def _with_content_kind(tokenizer: PreTrainedTokenizerBase, format_: ChatFormat) -> ChatFormat:
    """The format with contents as texts or as lists of parts, whichever renders the prompt."""
    failures = []
    for parts in (False, True):
        tried = format_._replace(parts=parts)
        try:
            text = prompt_text(tokenizer, tried, PROBE_PROMPT)
            kept = _AWKWARD in prompt_text(tokenizer, tried, _AWKWARD)
        except ChatError as error:
            failures.append(str(error))
            continue
        if PROBE_PROMPT not in text:
            failures.append("the prompt is not in the text that it makes")
        elif not kept:
            failures.append(
                "it escapes, cuts or changes what a prompt says (quotes, `<`, `&`, capitals, line "
                "breaks, length)"
            )
        elif format_.system is not None and format_.system.strip() not in text:
            failures.append("the system prompt (`chat.system`) is not in the text that it makes")
        else:
            note = ["Messages are given to the template as lists of parts."] if parts else []
            return tried._replace(notes=note)
    raise ChatError(failures[0])


def _with_opening(tokenizer: PreTrainedTokenizerBase, format_: ChatFormat) -> ChatFormat:
    """The format with the text that follows the generation prompt before an answer begins."""
    format_ = _with_thought_off(tokenizer, format_)
    begun = _after_prompt(prompt_text(tokenizer, format_, PROBE_PROMPT))
    finished = around_answer(tokenizer, format_)
    before = None if finished is None else finished[0]
    opened, gap, notes = "", "", list(format_.notes)
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
    if _uses_harmony(tokenizer, begun) and CHANNEL not in begun + opened:
        opened, gap = _FINAL_CHANNEL, ""
    if mark := _unclosed_thought(begun + opened):
        opened = f"{opened}\n{mark}\n\n"
    if opened:
        notes.append(f"An answer begins after {opened!r}, which is put after every prompt.")
    found = format_._replace(opened=opened, gap=gap, notes=tuple(notes))
    _check_opens_turn(tokenizer, found)
    return found


def _with_thought_off(tokenizer: PreTrainedTokenizerBase, format_: ChatFormat) -> ChatFormat:
    """The format with thoughts switched off, if its template has an argument for that."""
    assert format_.template is not None
    if not _unclosed_thought(_after_prompt(prompt_text(tokenizer, format_, PROBE_PROMPT))):
        return format_
    for name in _NO_THOUGHT:
        if name not in format_.template or name in format_.kwargs:
            continue
        tried = format_._replace(kwargs={**format_.kwargs, name: False})
        if not _unclosed_thought(_after_prompt(prompt_text(tokenizer, tried, PROBE_PROMPT))):
            note = f"The template opens a thought unless `{name}` is false, so it is set to false."
            return tried._replace(notes=(*format_.notes, note))
    return format_


def _check_opens_turn(tokenizer: PreTrainedTokenizerBase, format_: ChatFormat) -> None:
    tail = _after_prompt(prompt_text(tokenizer, format_, PROBE_PROMPT) + format_.opened)
    closed = _after_prompt(
        render_messages(tokenizer, format_, conversation(format_, PROBE_PROMPT), open_turn=False)
    )
    finished = around_answer(tokenizer, format_)
    # Where the end of the user's turn opens the next turn ([/INST]), both are the same text; then
    # an answer follows it in a finished conversation too.
    if tail == closed and (finished is None or not finished[0].startswith(tail)):
        raise ChatError(
            "it opens no turn for the assistant; asked for a generation prompt, it writes what it "
            f"writes without ({tail!r} after the prompt)"
        )


def around_answer(
    tokenizer: PreTrainedTokenizerBase, format_: ChatFormat
) -> tuple[str, str] | None:
    """The text between prompt and answer, and after the answer, in a finished conversation."""
    answer = {"role": "assistant", "content": PROBE_ANSWER}
    try:
        text = render_messages(
            tokenizer, format_, [*conversation(format_, PROBE_PROMPT), answer], open_turn=False
        )
    except ChatError:
        return None
    before, found, after = _after_prompt(text).rpartition(PROBE_ANSWER)
    return (before, after) if found else None


def _after_prompt(text: str) -> str:
    """The text after the probe's prompt."""
    return text.rpartition(PROBE_PROMPT)[2]


def _unclosed_thought(text: str) -> str | None:
    """The mark that closes the thought which a text leaves open; None if none is open."""
    for begin, end in THOUGHT_MARKS:
        if text.rfind(begin) > text.rfind(end):
            return end
    return None


def _uses_harmony(tokenizer: PreTrainedTokenizerBase, begun: str) -> bool:
    known = [control_token(tokenizer, one) for one in ("<|start|>", CHANNEL, MESSAGE)]
    return None not in known and begun.rstrip().endswith("<|start|>assistant")


def control_token(tokenizer: PreTrainedTokenizerBase, text: str) -> int | None:
    """The id of a control token; None if the tokenizer has none of this spelling."""
    found = tokenizer.get_added_vocab().get(text)
    return None if found is None else int(found)


def conversation(format_: ChatFormat, prompt: str) -> list[dict[str, str]]:
    """The messages of a conversation that has only this prompt."""
    system = [] if format_.system is None else [{"role": "system", "content": format_.system}]
    return [*system, {"role": "user", "content": prompt}]


def prompt_text(tokenizer: PreTrainedTokenizerBase, format_: ChatFormat, prompt: str) -> str:
    """The rendered prompt, up to and including the template's generation prompt."""
    if format_.template is None:
        system = "" if format_.system is None else f"{format_.system}\n\n"
        return system + PLAIN.format(prompt=prompt)
    return render_messages(tokenizer, format_, conversation(format_, prompt), open_turn=True)


def render_messages(
    tokenizer: PreTrainedTokenizerBase,
    format_: ChatFormat,
    messages: Sequence[Mapping[str, str]],
    *,
    open_turn: bool,
) -> str:
    """The rendered messages, with a generation prompt if `open_turn`.

    Raises:
        ChatError: the template fails.
    """
    content: list[dict[str, Any]] = [
        {**message, "content": [{"type": "text", "text": message["content"]}]}
        if format_.parts
        else dict(message)
        for message in messages
    ]
    try:
        _fix_date(format_)
        text = tokenizer.apply_chat_template(
            content,
            chat_template=format_.template,
            tokenize=False,
            add_generation_prompt=open_turn,
            **format_.kwargs,
        )
    # Jinja raises whatever the template's own expressions do.
    except Exception as error:
        raise ChatError(
            f"the chat template ({format_.origin}) fails ({type(error).__name__}: {error})"
        ) from error
    return str(text)


def _fix_date(format_: ChatFormat) -> None:
    """Give the template a fixed date in place of the machine's clock.

    transformers caches compiled templates, and a template's arguments cannot be functions.
    """
    compiled = chat_template_utils._compile_jinja_template(format_.template)
    if format_.date is not None:
        day = datetime.datetime.fromisoformat(format_.date)
        compiled.globals["strftime_now"] = day.strftime
