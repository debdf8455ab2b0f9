"""Model output made safe to display. Pure."""

import unicodedata


def visible(text: str, limit: int | None = None) -> str:
    """Model output made safe to display: shortened, and without invisible characters.

    Control characters, direction overrides and other format characters can hide or reorder text;
    they are written out as `⟨U+202E⟩`. Escaping for HTML is the template's work, not done here.

    Args:
        text: any text.
        limit: characters of it to keep; the rest becomes an ellipsis.
    """
    kept = text if limit is None or len(text) <= limit else text[:limit].rstrip() + "…"
    return "".join(map(_shown, kept))


_HIDDEN = ("C", "Zl", "Zp")
"""Invisible Unicode categories: control, format, private, unassigned; line separators."""


def _shown(character: str) -> str:
    if character == "\n" or not unicodedata.category(character).startswith(_HIDDEN):
        return character
    return f"⟨U+{ord(character):04X}⟩"
