"""The site shows the repository's other pages too, and no link leads out of it to a file."""

import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
OTHERS = ("*.md", "studies/*/README.md")
"""Pages outside docs/; the README is not among them, for docs/README.md begins the site."""
_PLACE = "repository/"
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are not in docs/."""
    for pattern in OTHERS:
        for path in ROOT.glob(pattern):
            name = path.relative_to(ROOT).as_posix()
            if name != "README.md":
                text = path.read_text(encoding="utf-8")
                files.append(File.generated(config, _PLACE + name, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Let links lead to the pages of the site; of a link to another file, only its text is left."""
    source = page.file.src_uri
    name = source.removeprefix(_PLACE)
    here = "" if source.startswith(_PLACE) else "docs"

    def replaced(match: re.Match[str]) -> str:
        text, target, anchor = match[1], match[2], match[3] or ""
        if ":" in target:
            return match[0]
        path = os.path.normpath(PurePosixPath(here, name).parent / target)
        uri = path.removeprefix("docs/") if path.startswith("docs/") else _PLACE + path
        if files.get_file_from_path(uri) is None and (ROOT / path).exists():
            return text
        return f"[{text}]({os.path.relpath(uri, PurePosixPath(source).parent)}{anchor})"

    return _LINK.sub(replaced, markdown)
