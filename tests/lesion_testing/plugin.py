"""Plug-in packages: that of the documentation, and small ones with something wrong."""

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import invalidate_caches
from pathlib import Path
from typing import Any

import yaml

from lesion.judgements.kinds import KINDS
from lesion.plan import code
from lesion.study import plugins
from lesion.study.judges import JUDGE_KINDS
from lesion_testing import ROOT

EXAMPLE = "lesion_example"


def _blocks(heading: str, language: str) -> list[str]:
    """The code of a language in a section of the document about plug-ins."""
    (page,) = (ROOT / "docs").rglob("adding.md")
    sections = re.split(r"^## ", page.read_text(encoding="utf-8"), flags=re.M)
    (section,) = (text for text in sections if text.startswith(f"{heading}\n"))
    return re.findall(rf"^```{language}\n(.*?)^```$", section, re.M | re.S)


def write_example(folder: Path) -> Path:
    """The project of the document's plug-in, of the document's own text."""
    (project,) = _blocks("As a package of your own", "toml")
    (package,) = _blocks("As a package of your own", "python")
    (judge,) = _blocks("A judge", "python")
    (folder / EXAMPLE).mkdir(parents=True)
    (folder / "pyproject.toml").write_text(project, encoding="utf-8")
    (folder / EXAMPLE / "__init__.py").write_text(package, encoding="utf-8")
    (folder / EXAMPLE / "length.py").write_text(judge, encoding="utf-8")
    return folder


def example_study() -> dict[str, Any]:
    """What the document lays over a study so that it uses the plug-in."""
    (text,) = _blocks("As a package of your own", "yaml")
    config: dict[str, Any] = yaml.safe_load(text)
    return config


def install(project: Path, site: Path) -> Path:
    """Install a project into a folder of its own, as pip does it."""
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", "-q", *options, "--upgrade"]
    subprocess.run([*command, "--target", str(site), str(project)], check=True)
    return site


def lay_down(
    site: Path,
    entries: Mapping[str, Mapping[str, str]],
    files: Mapping[str, str],
    package: str = "odd",
    version: str = "1.0",
) -> Path:
    """An installed package, by its files.

    Args:
        site: the folder to put it into.
        entries: the values of entry points, by group and name.
        files: texts by path.
        package: its name.
        version: its version.
    """
    about = site / f"{package}-{version}.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
    lines = [
        line
        for group, values in entries.items()
        for line in (f"[{group}]", *(f"{name} = {value}" for name, value in values.items()))
    ]
    (about / "entry_points.txt").write_text("\n".join(lines) + "\n")
    for name, text in files.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(text, encoding="utf-8")
    return site


@contextmanager
def on_path(*sites: Path) -> Iterator[None]:
    """Packages of these folders are installed, and imported anew, until the end of the block."""
    kinds, builders, modules = dict(JUDGE_KINDS), dict(KINDS), set(sys.modules)
    path = list(sys.path)
    _forget()
    sys.path[:0] = map(str, sites)
    try:
        yield
    finally:
        sys.path[:] = path
        for own, before in ((JUDGE_KINDS, kinds), (KINDS, builders)):
            own.clear()
            own.update(before)
        for name in set(sys.modules) - modules:
            file = getattr(sys.modules[name], "__file__", None)
            if file and any(Path(file).is_relative_to(site) for site in sites):
                del sys.modules[name]
        _forget()


def _forget() -> None:
    invalidate_caches()
    plugins.installed.cache_clear()
    # What was read of a file is kept: most is lesion's own, and takes seconds to read.
    code.code.cache_clear()
