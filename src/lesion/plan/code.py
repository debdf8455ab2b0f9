"""The digest of the code that a job runs."""

import ast
from collections.abc import Iterable
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, NamedTuple

from lesion.io.formats import digest, sha256_file
from lesion.io.kept import keep, kept_file, read_kept
from lesion.study.plugins import package_of

_PACKAGE = Path(__file__).parents[1]


@cache
def code(script: Path, *modules: str, plugins: tuple[EntryPoint, ...] = ()) -> str:
    """Digest of the code of a script, of modules, of plug-ins, and of all that these import from
    `lesion`.

    Comments, docstrings and layout are ignored. `lesion.study` is ignored too, since its effect on
    a job is in the job's specification. So are the script's own imports other than the given
    modules, since they affect logs and no results. Of a plug-in, what its module imports from its
    own package counts, the package's name and version, and all its files that are no code.
    """
    before = len(_parsed())
    dumps: dict[str, str] = {}
    beside: set[Path] = set()
    roots = {"lesion": _PACKAGE, **dict(map(_root, plugins))}
    todo = [*modules, *(entry.module for entry in plugins)]
    while todo:
        module = todo.pop()
        root = next((name for name in roots if f"{module}.".startswith(f"{name}.")), None)
        is_study = module.startswith("lesion.study") and module not in _DECIDING
        if root is None or module in dumps or module == "lesion" or is_study:
            continue
        path = _file(module, root, roots[root])
        if path is None:
            continue
        read = _read(path, module)
        beside |= read.beside
        todo += read.imports
        if root != "lesion":
            # Python runs a package before its modules.
            todo.append(module.rpartition(".")[0])
        dumps[module] = read.dump
    data = [file.read_text(encoding="utf-8") for file in sorted(beside)]
    own = [_read(script).dump, sorted(dumps.items()), data]
    _keep_parsed(before)
    # Without plug-ins, the digest is that of a lesion that knows none.
    return digest([*own, [*map(_package, plugins)]] if plugins else own)[:16]


_DECIDING = ("lesion.study.controls", "lesion.study.job", "lesion.study.training")
"""Modules of `lesion.study` whose functions jobs call, as for roles or an arm's mask."""


class _Module(NamedTuple):
    """What a module's file says."""

    dump: str
    """The digest of its code, without docstrings."""
    imports: list[str]
    """Modules, and what may be one."""
    beside: set[Path]
    """Templates, scripts and texts next to it that it names, which count as code."""


@cache
def _read(path: Path, module: str = "") -> _Module:
    """Most modules are those of several rules, and each takes a hundredth of a second."""
    text = path.read_text(encoding="utf-8")
    near = (file for file in path.parent.iterdir() if file.suffix in (".j2", ".js", ".toml"))
    beside = {file for file in near if file.name in text}
    package = module if path.stem == "__init__" else module.rpartition(".")[0]
    known, key = _parsed(), digest([_own_text(), package, text])
    if key not in known:
        tree = ast.parse(text)
        imports = [*_imports(tree, package)]
        known[key] = (digest(ast.dump(_without_docstrings(tree))), imports)
    return _Module(*known[key], beside)


PARSED = kept_file("code")
"""What parsing has said of each text of a module, by the text's digest: parsing all modules takes
over a second, in every `snakemake` command."""
_MOST = 2000
"""Texts that are kept; edited modules leave old ones behind."""


@cache
def _own_text() -> str:
    """What another version of this module has found is not used."""
    return Path(__file__).read_text(encoding="utf-8")


@cache
def _parsed() -> dict[str, tuple[str, list[str]]]:
    """Digest and imports by text."""
    kept = read_kept(PARSED)
    try:
        return {key: (str(dump), [*map(str, imports)]) for key, (dump, imports) in kept.items()}
    except (ValueError, AttributeError, TypeError):
        return {}


def _keep_parsed(before: int) -> None:
    """Keep what was parsed since there were `before` texts."""
    known = _parsed()
    if len(known) != before:
        keep(PARSED, dict([*known.items()][-_MOST:]))


def _root(entry: EntryPoint) -> tuple[str, Path]:
    """The name and the path without `.py` of the package or module that holds a plug-in.

    A namespace package has no file, and its folder belongs to other packages too.
    """
    parts = entry.module.split(".")
    names = [".".join(parts[: n + 1]) for n in range(len(parts))]
    files = {name: file for name in names if (file := import_module(name).__file__) is not None}
    name, path = next((name, Path(file)) for name, file in files.items())
    return name, path.parent if path.stem == "__init__" else path.with_suffix("")


def _package(entry: EntryPoint) -> list[Any]:
    """What counts of a plug-in's package beside its code."""
    _, root = _root(entry)
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    data = [path for path in files if path.suffix not in (".py", ".pyc")]
    digests = [(path.relative_to(root).as_posix(), sha256_file(path)) for path in data]
    return [package_of(entry), entry.value, digests]


@cache
def _file(module: str, root: str, folder: Path) -> Path | None:
    base = folder.joinpath(*module.removeprefix(root).split(".")[1:])
    return next((p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file()), None)


def _imports(tree: ast.AST, package: str) -> Iterable[str]:
    """What code in a package imports: modules, and what may be one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            above = package.split(".")
            relative = above[: len(above) - node.level + 1] if node.level else []
            module = ".".join(filter(None, [*relative, node.module]))
            yield module
            # `from lesion.masks import select` names a module too.
            yield from (f"{module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


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
