"""Finding a model's chat format: the template, and what has to follow it before an answer begins.

Before any prompt goes through a template, the template renders a probe conversation. The prompt
must be in the rendered text, the assistant's turn must be open, and no thought may be open where
the answer begins. What surrounds an answer is taken from a finished conversation that the template
renders.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from lesion.io.formats import BadFile
from lesion.models.chat import (
    CHANNEL,
    MESSAGE,
    PROBE_PROMPT,
    THOUGHT_MARKS,
    Chat,
    ChatError,
    ChatFormat,
)
from lesion.models.jobs import ResolvedChat
from lesion.models.record import TEMPLATE_FILES

AUTO = ResolvedChat()
_AWKWARD = "is \"a <b> & 'c'\" {{ d }} é\n" + "the same as before, " * 50 + "or not?"
"""A prompt with characters and a length that templates' filters escape, cut, or change."""
_NO_THOUGHT = ("enable_thinking", "thinking")
"""Template arguments that switch a thought off."""
_FINAL_CHANNEL = f"{CHANNEL}final{MESSAGE}"
"""In the harmony format (gpt-oss), the text between `<|start|>assistant` and the answer."""


def chat_of(tokenizer: PreTrainedTokenizerBase) -> Chat:
    """The chat of a tokenizer, in the format of its own files."""
    return Chat(tokenizer, find_format(tokenizer, AUTO, "the model"))


def find_format(
    tokenizer: PreTrainedTokenizerBase,
    settings: ResolvedChat,
    model: str,
    folder: Path | None = None,
) -> ChatFormat:
    """Determine a model's chat format and test it on a probe conversation.

    `model` is its name in messages, and `folder` has its files, among which there may be a template
    that the tokenizer does not load.

    Raises:
        ChatError: the template fails, leaves out the prompt or the system prompt, opens no turn,
            or is one of several of which the study chooses none.
    """
    template, origin = _find_template(tokenizer, settings, model, folder)
    if template is None:
        if settings.kwargs:
            raise ChatError(
                f"{model}: `chat.kwargs` are arguments of a chat template, and prompts are put in "
                "the plain format. Remove them, or give `chat.template` a file."
            )
        return ChatFormat(None, origin, {}, settings.system, gap=" ")
    where = f"{model}: the chat template ({origin})"
    for name in settings.kwargs:
        if not re.search(rf"\b{re.escape(name)}\b", template):
            raise ChatError(
                f"{where} uses no argument `{name}`. Remove it from `chat.kwargs`, or look at the "
                "template for the name that it uses."
            )
    date = settings.date if "strftime_now" in template else None
    format_ = ChatFormat(template, origin, dict(settings.kwargs), settings.system, date)
    try:
        return _with_opening(_with_content_kind(Chat(tokenizer, format_))).format
    except ChatError as error:
        raise ChatError(
            f"{where} does not put a prompt to the model: {error}. Give a template that does with "
            "`chat.template`, or set it to `plain`."
        ) from error


def _find_template(
    tokenizer: PreTrainedTokenizerBase, settings: ResolvedChat, model: str, folder: Path | None
) -> tuple[str | None, str]:
    """The template's text, None for the plain format, and a description of its origin."""
    wanted = settings.template
    if wanted == "plain":
        return None, "plain, as the study asks"
    if settings.text is not None:
        return settings.text, wanted
    template: Any = tokenizer.chat_template
    origin = "the tokenizer's files"
    if template is None and folder is not None:
        template, origin = _processor_template(folder)
    if isinstance(template, Mapping):
        name = "default" if wanted == "auto" else wanted
        if name not in template:
            raise ChatError(
                f"{model}: has the chat templates {', '.join(sorted(template))}, and none is named "
                f"`{name}`. Set `chat.template` to one of these names."
            )
        return str(template[name]), f"`{name}` in {origin}"
    if wanted not in ("auto", "default"):
        raise ChatError(
            f"{model}: has no chat template named `{wanted}`: "
            f"{'it has no template' if template is None else 'its only one has no name'}. Set "
            "`chat.template` to `auto`, `plain` or a file (`./name.jinja`)."
        )
    if template is None:
        return None, "plain: the model has no chat template"
    return str(template), origin


def _processor_template(folder: Path) -> tuple[Any, str]:
    """The template in a processor's files: a text, or texts by name; None if there is none."""
    for path in (folder / name for name in TEMPLATE_FILES if (folder / name).is_file()):
        try:
            value = json.loads(path.read_text(encoding="utf-8-sig"))
        except ValueError as error:
            raise BadFile(f"{path}: is not JSON ({error}). Fetch the file again.") from error
        template = value.get("chat_template") if isinstance(value, dict) else None
        if isinstance(template, list):
            template = {entry["name"]: entry["template"] for entry in template}
        if isinstance(template, (str, dict)):
            return template, path.name
    return None, ""


def _with_content_kind(chat: Chat) -> Chat:
    """The format with contents as texts or as lists of parts, whichever renders the prompt."""
    failures = []
    for parts in (False, True):
        tried, system = chat.having(parts=parts), chat.format.system
        try:
            text = tried.rendered_prompt(PROBE_PROMPT)
            kept = _AWKWARD in tried.rendered_prompt(_AWKWARD)
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
        elif system is not None and system.strip() not in text:
            failures.append("the system prompt (`chat.system`) is not in the text that it makes")
        else:
            note = ["Messages are given to the template as lists of parts."] if parts else []
            return tried.having(notes=note)
    raise ChatError(failures[0])


def _with_opening(chat: Chat) -> Chat:
    """The format with the text that follows the generation prompt before an answer begins."""
    chat = _with_thought_off(chat)
    opening, around = _opening(chat), chat.around_answer()
    before = around[0] if around else None
    opened, gap, notes = "", "", list(chat.format.notes)
    if before is None:
        notes.append(
            "The template writes no assistant's turn, so what precedes an answer there is unknown."
        )
    elif before.startswith(opening):
        rest = before[len(opening) :]
        opened, gap = (rest, "") if rest.strip() else ("", rest)
    elif not opening.startswith(before.rstrip()):
        notes.append(
            f"The template opens a turn with {opening!r}, and in a finished conversation an answer "
            f"follows {before!r}."
        )
    marks = [chat.control_token(mark) for mark in ("<|start|>", CHANNEL, MESSAGE)]
    harmony = None not in marks and opening.rstrip().endswith("<|start|>assistant")
    if harmony and CHANNEL not in opening + opened:
        opened, gap = _FINAL_CHANNEL, ""
    if mark := _unclosed_thought(opening + opened):
        opened = f"{opened}\n{mark}\n\n"
    if opened:
        notes.append(f"An answer begins after {opened!r}, which is put after every prompt.")
    tail = opening + opened
    # Where the end of the user's turn opens the next turn ([/INST]), both are the same text; then
    # an answer follows it in a finished conversation too.
    closed = _after_probe(chat.rendered_prompt(PROBE_PROMPT, open_turn=False))
    if tail == closed and (before is None or not before.startswith(tail)):
        raise ChatError(
            "the template ignores `add_generation_prompt`: it does not open an assistant turn "
            f"({tail!r} follows the prompt with and without it)"
        )
    return chat.having(opened=opened, gap=gap, notes=tuple(notes))


def _with_thought_off(chat: Chat) -> Chat:
    """The format with thoughts switched off, if its template has an argument for that."""
    template, kwargs, notes = chat.format.template, chat.format.kwargs, chat.format.notes
    assert template is not None
    if _unclosed_thought(_opening(chat)):
        for name in (name for name in _NO_THOUGHT if name in template and name not in kwargs):
            tried = chat.having(kwargs={**kwargs, name: False})
            if not _unclosed_thought(_opening(tried)):
                note = f"The template opens a thought unless `{name}` is false, so it is set to "
                return tried.having(notes=(*notes, f"{note}false."))
    return chat


def _opening(chat: Chat) -> str:
    """The text after the probe's prompt, up to the end of the generation prompt."""
    return _after_probe(chat.rendered_prompt(PROBE_PROMPT))


def _after_probe(text: str) -> str:
    return text.rpartition(PROBE_PROMPT)[2]


def _unclosed_thought(text: str) -> str | None:
    """The mark that closes the thought which a text leaves open; None if none is open."""
    return next((end for begin, end in THOUGHT_MARKS if text.rfind(begin) > text.rfind(end)), None)
