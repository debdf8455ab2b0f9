"""Model output made safe to display. Pure."""

import unicodedata

_HIDDEN = ("C", "Zl", "Zp")
"""Invisible Unicode categories: control, format, private, unassigned; line separators."""


def visible(text: str, limit: int | None = None) -> str:
    """Model output made safe to display: shortened, and without invisible characters.

    Control characters, direction overrides and other format characters can hide or reorder text;
    they are written out as `⟨U+202E⟩`. Escaping for HTML is the template's work, not done here.
    Of the text, `limit` characters are kept; the rest becomes an ellipsis.
    """
    kept = text if limit is None or len(text) <= limit else text[:limit].rstrip() + "…"
    return "".join(
        f"⟨U+{ord(character):04X}⟩"
        if character != "\n" and unicodedata.category(character).startswith(_HIDDEN)
        else character
        for character in kept
    )
