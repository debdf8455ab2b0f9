"""Hundreds of bad configs, and what a hostile source might bring along."""

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lesion.models.load import load
from lesion.models.prepare import prepare
from lesion.study import NAME, Study, StudyError, load_study, read_config
from lesion.study.job import Device
from lesion_testing import ROOT, make, tiny

CONFIG = ROOT / "config.yaml"
GOOD = load_study(read_config(CONFIG)).model_dump()
"""With every default written out."""

Key = str | int
Way = tuple[Key, ...]


def _ways(value: Any, way: Way = ()) -> Iterator[Way]:
    """The place of every value in a config."""
    parts: list[tuple[Key, Any]] = []
    if isinstance(value, dict):
        parts = list(value.items())
    elif isinstance(value, list):
        parts = list(enumerate(value))
    for key, part in parts:
        yield (*way, key)
        yield from _ways(part, (*way, key))


HOSTILE = st.sampled_from(
    [
        *("../../etc", "/etc/passwd", "..", ".", "", " ", "a/b", "a\x00b", "~", "-rf", "con.", "*"),
        *("$(touch pwned)", "`id`", "; rm -rf .", "a|b", "a&b", "'", '"', "\\", "\n", "a\tb"),
        *("{wildcards.model}", "{}", "{0}", "{{ x }}", "{% raw %}", "{input[0]}", "%s", "{"),
        *("\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "\u202egnp", "\x9b31m", "é" * 300, "🙂"),
        *(
            "<script>alert(1)</script>",
            "shared",
            "unmodified",
            "curve",
            "none",
            "direct",
            "learned",
        ),
        *("file:", "file:../../x", "pypi:x", "hf:a/b@main", "http://x/y", "pypi:a==1/../b", ":"),
        *("hf:a/b@main/../../x", "pypi:a==1/b#sha256=zz", "file:x#", "hf:../..@x", "__class__"),
        *("trust_remote_code", "nan", "1e999", "yes", "null", "!!python/object:os.system"),
    ]
)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), HOSTILE, st.text(max_size=20)
)
JUNK = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(HOSTILE, st.text(max_size=9), st.integers()), inner, max_size=3),
    ),
    max_leaves=6,
)
CHANGE = st.tuples(
    st.sampled_from(["value", "name", "add", "drop"]), st.sampled_from(list(_ways(GOOD))), JUNK
)


def _changed(config: Any, how: str, way: Way, junk: Any) -> None:
    """Change one place of a config in place; nothing if an earlier change has taken it away."""
    at = config
    for key in way[:-1]:
        if not (isinstance(at, dict) and key in at) and not (
            isinstance(at, list) and isinstance(key, int) and key < len(at)
        ):
            return
        at = at[key]
    last = way[-1]
    name = junk if isinstance(junk, (str, int, float, bool, type(None))) else "added"
    if isinstance(at, list) and isinstance(last, int) and last < len(at):
        at[last] = junk
    elif isinstance(at, dict) and last in at:
        if how == "value":
            at[last] = junk
        elif how == "name":
            at[name] = at.pop(last)
        elif how == "add":
            at[name] = junk
        else:
            del at[last]


@settings(
    max_examples=400, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
@given(st.lists(CHANGE, min_size=1, max_size=3))
def test_a_bad_config_ends_in_a_message(changes: list[tuple[str, Way, Any]]) -> None:
    config = copy.deepcopy(GOOD)
    for change in changes:
        _changed(config, *change)
    said = _said(lambda: _check_names(load_study(config)))
    assert not said or said.startswith("config.yaml: the study can't run:\n  ")


def _said(call: Callable[[], object]) -> str:
    """The message of a bad study, which a terminal may print; empty of a good one."""
    try:
        call()
    except StudyError as error:
        said = str(error)
    else:
        return ""
    assert all(one == "\n" or one.isprintable() for one in said), said
    return said


def _check_names(study: Study) -> None:
    """Whatever becomes part of a path is a safe name."""
    names = [study.study, *study.models, *study.behaviours, *study.sources, *study.variants]
    names += [*study.checkpoints, *study.responses.templates, *study.judgements.judges]
    assert all(NAME.fullmatch(name) for name in names), names


@settings(
    max_examples=250, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
@given(st.data())
def test_yaml_that_was_edited_badly_ends_in_a_message(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    lines = CONFIG.read_text(encoding="utf-8").splitlines()
    at = data.draw(st.integers(0, len(lines) - 1))
    bits = [
        "? [a]\n: b",
        "&a [*a]",
        "<<: 3",
        "a: &b\n  <<: *b",
        "- x",
        "\t",
        "{",
        "]: [",
        "%YAML 9",
    ]
    odd = ["2026-99-99", "0b2_", "!!float x", "!!binary é", "!!set {a}", "!!timestamp x", "- - -"]
    part = data.draw(st.one_of(st.sampled_from([*bits, *odd]), HOSTILE, st.text(max_size=12)))
    how = data.draw(st.sampled_from(["line", "value", "instead", "cut"]))
    line = lines[at]
    lines[at] = {
        "line": f"{line}\n{part}",
        "value": f"{line.partition(':')[0]}: {part}",
        "instead": part,
        "cut": line[: len(line) // 2] + part,
    }[how]
    path = tmp_path_factory.getbasetemp() / "edited.yaml"
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
    said = _said(lambda: load_study(read_config(path), path.name))
    assert not said or "edited.yaml" in said


def test_a_config_that_is_a_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="is a folder; give a config file"):
        read_config(tmp_path)


@pytest.mark.parametrize(
    "way",
    [(), ("models", "smollm2-135m-instruct"), ("scores",), ("responses",), ("judgements",)],
)
def test_no_config_turns_on_a_models_own_code(way: Way) -> None:
    config = copy.deepcopy(GOOD)
    at = config
    for key in way:
        at = at[key]
    at["trust_remote_code"] = True
    key = ".".join(map(str, (*way, "trust_remote_code")))
    with pytest.raises(StudyError, match=rf"`{key}`: unknown key"):
        load_study(config)


def test_a_models_own_code_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither where transformers knows the architecture itself, nor in the tokenizer."""
    monkeypatch.setattr("builtins.input", lambda *_: "yes")  # if it asked, this would allow it
    source = make.llama(tmp_path / "source", tiny.TEXTS)
    code = f"from pathlib import Path\nPath({str(tmp_path / 'pwned')!r}).touch()\n"
    (source / "own.py").write_text(code + "class Own: ...\n", encoding="utf-8")
    for name, classes in (
        ("config.json", {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"}),
        ("tokenizer_config.json", {"AutoTokenizer": ["own.Own", "own.Own"]}),
    ):
        settings_ = json.loads((source / name).read_text(encoding="utf-8"))
        settings_["auto_map"] = classes
        (source / name).write_text(json.dumps(settings_), encoding="utf-8")
    prepare(source, tmp_path / "model", dtype="float32", license_="mit")
    assert not list((tmp_path / "model").glob("*.py"))
    load(tmp_path / "model", Device(dtype="float32"))
    assert not (tmp_path / "pwned").exists()


def test_a_yaml_tag_makes_no_object(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(f"study: !!python/object/apply:os.mkdir ['{tmp_path}/pwned']\n")
    with pytest.raises(StudyError, match="is not valid YAML"):
        read_config(path)
    assert not (tmp_path / "pwned").exists()


def test_a_prompt_with_braces_and_escapes_stays_text(tmp_path: Path) -> None:
    config = copy.deepcopy(GOOD)
    odd = "{wildcards.model} {{ x }} $(id) \x1b[31m ../.."
    config["pairs"]["prefill"] = odd
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    assert load_study(read_config(path)).pairs.prefill == odd
