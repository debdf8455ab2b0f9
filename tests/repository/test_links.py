"""The links and anchors of the docs resolve; files, modules and keys that they name exist."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lesion.plan.plugins import PLUGINS
from lesion_testing import ROOT

PATTERNS = ("[!C]*.md", "CO*.md", "docs/**/*.md", "config/README.md", "studies/*/README.md")
"""The changelog names keys that there were."""
PAGES = sorted(page for pattern in PATTERNS for page in ROOT.glob(pattern))
CODE = (
    "config.yaml",
    "Makefile",
    "src/**/*.py",
    "tests/**/*.py",
    "workflow/**/*.*",
    "studies/*.yaml",
)
PLACEHOLDERS = {"studies/mine.yaml", "studies/release.yaml", "studies/x.yaml"}
"""Files that a reader is asked to write."""

FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`]*`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)
_PATH = re.compile(
    r"(?<![\w./-])(?:[A-Z]+\.md\b"
    r"|(?:benchmarks|docs|envs|profiles|src|studies|tests|workflow)/[\w./*-]*\w)"
)
SCHEMA = json.loads((ROOT / "workflow/schemas/config.schema.json").read_text(encoding="utf-8"))
_KEY = re.compile(rf"`(?!\w+\.parquet)((?:{'|'.join(SCHEMA['properties'])})(?:\.[\w<>-]+)+)")
GROUPS = [plugins.group.removeprefix("lesion") for plugins in PLUGINS]
_MODULE = re.compile(r"`lesion((?:\.\w+)+)")


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def anchors(text: str) -> set[str]:
    """All anchors of a page; a heading that occurs again gets a number."""
    seen: dict[str, int] = {}
    for heading in _HEADING.findall(FENCE.sub("", text)):
        name = slug(heading)
        seen[name] = seen.get(name, -1) + 1
        if seen[name]:
            seen[f"{name}-{seen[name]}"] = 0
    return set(seen)


def broken_links(page: Path) -> Iterator[str]:
    prose = _CODE.sub("", FENCE.sub("", page.read_text(encoding="utf-8")))
    for target in _LINK.findall(prose):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        if not file.exists() or (
            anchor and anchor not in anchors(file.read_text(encoding="utf-8"))
        ):
            yield target


def missing_files(text: str) -> Iterator[str]:
    for name in _PATH.findall(text):
        if name not in PLACEHOLDERS and not any(ROOT.glob(name)):
            yield name


def missing_modules(text: str) -> Iterator[str]:
    """Dotted names in code spans that are no module and occur in none."""
    for dotted in _MODULE.findall(text):
        parts = dotted[1:].split(".")
        place = ROOT / "src" / "lesion"
        while parts and (place / parts[0]).is_dir():
            place /= parts.pop(0)
        file = place / "__init__.py"
        if parts and (place / f"{parts[0]}.py").is_file():
            file = place / f"{parts.pop(0)}.py"
        # A package may only import what it exports.
        words = re.findall(r"\w+", file.read_text(encoding="utf-8"))
        # `lesion.json` is a file of every prepared model; entry points have groups.
        if dotted not in (".json", *GROUPS) and not set(parts) <= set(words):
            yield f"lesion{dotted}"


def unknown_keys(text: str) -> Iterator[str]:
    """Dotted keys of a study, such as `masks.shared.at_least`, that the schema does not have."""
    for key in _KEY.findall(text):
        nodes = [SCHEMA]
        for part in key.split("."):
            nodes = [child for node in nodes for child in _children(node, part)]
        if not nodes:
            yield key


def _children(node: Any, name: str) -> Iterator[Any]:
    if "$ref" in node:
        yield from _children(SCHEMA["$defs"][node["$ref"].rpartition("/")[2]], name)
    for other in (*node.get("anyOf", ()), *node.get("oneOf", ()), *node.get("allOf", ())):
        yield from _children(other, name)
    if name in node.get("properties", {}):
        yield node["properties"][name]
    elif node.get("additionalProperties"):
        more = node["additionalProperties"]
        yield more if isinstance(more, dict) else {"additionalProperties": True}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_points_to_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert [*broken_links(page), *missing_files(text), *missing_modules(text)] == []
    assert list(unknown_keys(text)) == []


@pytest.mark.parametrize("pattern", CODE)
def test_files_that_code_names_exist(pattern: str) -> None:
    files = [
        path for path in ROOT.glob(pattern) if path != Path(__file__) and path.suffix != ".pyc"
    ]
    texts = {path: path.read_text(encoding="utf-8") for path in files}
    missing = {path: found for path, text in texts.items() if (found := [*missing_files(text)])}
    assert texts
    assert missing == {}


def test_every_page_is_in_the_index() -> None:
    index = ROOT / "docs" / "README.md"
    linked = set(_LINK.findall(index.read_text(encoding="utf-8")))
    pages = {str(page.relative_to(index.parent)) for page in index.parent.rglob("*.md")}
    assert pages - {index.name} <= linked
    assert "docs/README.md" in _LINK.findall((ROOT / "README.md").read_text(encoding="utf-8"))


def test_broken_links_are_reported(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A `b.c`: d\n\n## Twice\n\n## Twice\n\n```\n# no heading\n[x](code.md)\n```\n"
        "[a](#a-bc-d) [b](#twice-1) [c](other.md) [d](#no-heading) [e](page.md#twice-2) `[f](g)`\n",
        encoding="utf-8",
    )
    assert list(broken_links(page)) == ["other.md", "#no-heading", "page.md#twice-2"]


def test_missing_files_and_modules_are_reported() -> None:
    text = "`tests/nowhere.py` NONE.md `docs/*.md` `lesion.nowhere` `lesion.study.load_study`"
    assert list(missing_files(text)) == ["tests/nowhere.py", "NONE.md"]
    assert list(missing_modules(text)) == ["lesion.nowhere"]


def test_unknown_keys_are_reported() -> None:
    text = (
        "`masks.q` `masks.share.at_least` `models.<name>.chat` `models.mine.chat.modell` `tables.x`"
    )
    assert list(unknown_keys(text)) == [
        "masks.share.at_least",
        "models.mine.chat.modell",
        "tables.x",
    ]
