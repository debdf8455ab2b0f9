"""The digest of the code that a job runs."""

import ast
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

from lesion.io.formats import digest

_PACKAGE = Path(__file__).parents[1]


@cache
def code(script: Path, *modules: str) -> str:
    """Digest of the code of a script, of modules, and of all that these import from `lesion`.

    Comments, docstrings and layout are ignored. `lesion.study` is ignored too, since its effect on
    a job is in the job's specification. So are the script's own imports other than the given
    modules, since they affect logs and no results.
    """
    dumps: dict[str, str] = {}
    beside: set[Path] = set()
    todo = list(modules)
    while todo:
        module = todo.pop()
        path = _file(module)
        is_study = module.startswith("lesion.study") and module not in _DECIDING
        if path is None or module in dumps or module == "lesion" or is_study:
            continue
        read = _read(path)
        beside |= read.beside
        todo += read.imports
        dumps[module] = read.dump
    data = [file.read_text(encoding="utf-8") for file in sorted(beside)]
    return digest([_read(script).dump, sorted(dumps.items()), data])[:16]


_DECIDING = ("lesion.study.job", "lesion.study.training")
"""Modules of `lesion.study` whose functions jobs call, as for roles or an arm's mask."""


class _Module(NamedTuple):
    """What a module's file says."""

    dump: str
    """Its code, without docstrings."""
    imports: list[str]
    """Modules of `lesion`, and what may be one."""
    beside: set[Path]
    """Templates, scripts and texts next to it that it names, which count as code."""


@cache
def _read(path: Path) -> _Module:
    """Most modules are those of several rules, and each takes a hundredth of a second."""
    text = path.read_text(encoding="utf-8")
    near = (file for file in path.parent.iterdir() if file.suffix in (".j2", ".js", ".toml"))
    beside = {file for file in near if file.name in text}
    tree = ast.parse(text)
    imports = [*_imports(tree)]
    return _Module(ast.dump(_without_docstrings(tree)), imports, beside)


@cache
def _file(module: str) -> Path | None:
    base = _PACKAGE.joinpath(*module.split(".")[1:])
    return next((p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file()), None)


def _imports(tree: ast.AST) -> Iterable[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lesion"):
            yield str(node.module)
            # `from lesion.masks import select` names a module too.
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Import):
            yield from (n.name for n in node.names if n.name.startswith("lesion"))


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if not isinstance(body, list):
            continue
        node.body = [  # type: ignore[attr-defined]
            line
            for line in body
            if not (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant))
        ] or [ast.Pass()]
    return tree
