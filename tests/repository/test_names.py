"""A public name of a class or function means one thing in the whole package."""

import ast
from collections import defaultdict
from pathlib import Path

from lesion_testing import ROOT

SOURCE = ROOT / "src" / "lesion"


def names(folder: Path) -> dict[str, list[str]]:
    """The modules that define each public class or function at their top level."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted(folder.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            is_named = isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
            if is_named and not node.name.startswith("_"):
                found[node.name].append(str(path.relative_to(folder)))
    return found


def test_no_public_name_is_defined_twice() -> None:
    twice = {name: where for name, where in names(SOURCE).items() if len(where) > 1}
    assert not twice


def test_a_name_that_is_defined_twice_is_found(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "one.py").write_text("class Row: ...\ndef _hidden(): ...\n")
    (tmp_path / "two.py").write_text("def Row(): ...\ndef _hidden(): ...\ndef single(): ...\n")
    assert names(tmp_path) == {"Row": ["a/one.py", "two.py"], "single": ["two.py"]}


EMPTY = {"one", "found", "begun", "told", "heard", "held", "whole", "stands", "said"}
"""Names that do not say what a value is."""


def empty_names(text: str) -> list[str]:
    """The variables and parameters of a module that have such a name, with their lines."""
    nodes = list(ast.walk(ast.parse(text)))
    variables = [
        (node.id, node.lineno)
        for node in nodes
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    ]
    parameters = [(node.arg, node.lineno) for node in nodes if isinstance(node, ast.arg)]
    return [f"{name}, line {line}" for name, line in (*variables, *parameters) if name in EMPTY]


def test_variables_say_what_they_are() -> None:
    modules = {path: empty_names(path.read_text("utf-8")) for path in SOURCE.rglob("*.py")}
    assert {str(path): names for path, names in modules.items() if names} == {}


def test_a_variable_that_says_nothing_is_found() -> None:
    assert empty_names("def f(one): return [told for told in one]\nrow = f(2)\n") == [
        "told, line 1",
        "one, line 1",
    ]
