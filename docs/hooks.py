"""The site shows the repository's other pages too, and no link leads out of it to a file."""

import json
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
    """Add the pages that are not in docs/, and those of notebooks."""
    for path in (ROOT / "docs").rglob("*.ipynb"):
        name = path.relative_to(ROOT / "docs").with_suffix(".md").as_posix()
        files.append(File.generated(config, name, content=_notebook(path)))
    for pattern in OTHERS:
        for path in ROOT.glob(pattern):
            name = path.relative_to(ROOT).as_posix()
            if name != "README.md":
                text = path.read_text(encoding="utf-8")
                files.append(File.generated(config, _PLACE + name, content=text))
    return files


def _notebook(path: Path) -> str:
    """A notebook as a page: its texts, its code, and what that printed and drew."""
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        parts.append(f"```python\n{source}\n```" if cell["cell_type"] == "code" else source)
        for output in cell.get("outputs", []):
            if (image := output.get("data", {}).get("image/png")) is not None:
                parts.append(f"![The chart that this cell draws](data:image/png;base64,{image})")
            else:
                printed = output.get("text") or output["data"]["text/plain"]
                parts.append(f"```\n{''.join(printed).rstrip()}\n```")
    return "\n\n".join(parts) + "\n"


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
        path = re.sub(r"\.ipynb$", ".md", path)
        uri = path.removeprefix("docs/") if path.startswith("docs/") else _PLACE + path
        if files.get_file_from_path(uri) is None and (ROOT / path).exists():
            return text
        return f"[{text}]({os.path.relpath(uri, PurePosixPath(source).parent)}{anchor})"

    return _LINK.sub(replaced, markdown)
