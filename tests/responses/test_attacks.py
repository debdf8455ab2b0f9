import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from lesion.io.formats import BadFile, LesionError
from lesion.plan import checks, outputs, places
from lesion.plan.jobs import refusal_mask_job, responses_job, scores_job
from lesion.responses import attacks
from lesion.responses.attacks import (
    PLACEHOLDER,
    Attack,
    BuiltAttack,
    apply_attack,
    attack_of,
    read_wording,
)
from lesion.responses.jobs import AttackWords
from lesion.sources.jobs import SourceLocation
from lesion.study import Study, StudyError, load_study, read_config, with_preset

PROMPT = "hide {{ the }} {% cookies %} {{ prompt }} \\1 {0}"
"""A prompt that every template engine would stumble over."""


def _written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_text_has_only_the_placeholder_replaced(tmp_path: Path) -> None:
    path = _written(tmp_path, "pirate.txt", "{{ x }} {% y %} ${z}: {{ prompt }}! {{ prompt }}\n")
    (found,) = apply_attack("pirate", Attack(read_wording(path)), [PROMPT])
    assert found == f"{{{{ x }}}} {{% y %}} ${{z}}: {PROMPT}! {PROMPT}"


def test_a_pyrit_template_says_what_its_own_engine_would(tmp_path: Path) -> None:
    jinja2 = pytest.importorskip("jinja2")
    value = (
        "{% raw %}Talk {{ like }} a pirate.{% endraw %}\n\n{{ prompt }}{% raw %} {#}{% endraw %}"
    )
    text = json.dumps({"name": "pirate", "parameters": ["prompt"], "value": value + "\n"})
    (found,) = apply_attack(
        "pirate", Attack(read_wording(_written(tmp_path, "pirate.yaml", text))), [PROMPT]
    )
    assert found == jinja2.Template(value).render(prompt=PROMPT)
    assert found == f"Talk {{{{ like }}}} a pirate.\n\n{PROMPT} {{#}}"


def test_a_pyrit_template_may_spell_its_prompt_otherwise(tmp_path: Path) -> None:
    path = _written(tmp_path, "a.yaml", "value: 'Arr {{prompt}}, {{- prompt }}!'\n")
    assert read_wording(path) == "Arr {{ prompt }}, {{ prompt }}!"


@pytest.mark.parametrize("name", ["a.txt", "a.yaml", "a.jsonl"])
def test_a_byte_order_mark_is_no_part_of_the_words(tmp_path: Path, name: str) -> None:
    text = {
        "a.txt": "Arr {{ prompt }}\n",
        "a.yaml": "value: Arr {{ prompt }}\n",
        "a.jsonl": '{"prompt": "hide", "attacked": "Arr hide"}\n',
    }[name]
    path = tmp_path / name
    path.write_bytes(text.replace("\n", "\r\n").encode("utf-8-sig"))
    assert apply_attack("a", Attack(read_wording(path)), ["hide"]) == ["Arr hide"]


@pytest.mark.parametrize("end", [".jsonl", ".csv", ".parquet"])
def test_a_table_gives_each_prompt_its_own_text(end: str, tmp_path: Path) -> None:
    texts = {"swap apple": "swap apple !!", PROMPT: "line\nline {{ prompt }}"}
    table = pl.DataFrame({"prompt": list(texts), "attacked": list(texts.values())})
    path = tmp_path / f"gcg{end}"
    {".jsonl": table.write_ndjson, ".csv": table.write_csv, ".parquet": table.write_parquet}[end](
        path
    )
    attack = Attack(read_wording(path))
    # In another order, and one of them twice.
    assert apply_attack("gcg", attack, [PROMPT, "swap apple", PROMPT]) == [
        texts[PROMPT],
        texts["swap apple"],
        texts[PROMPT],
    ]


def test_a_prompt_that_the_table_lacks_is_named(tmp_path: Path) -> None:
    path = _written(tmp_path, "gcg.jsonl", '{"prompt": "swap apple", "attacked": "x"}\n')
    with pytest.raises(LesionError, match=r"`responses.templates.gcg`: .* lacks 1 of 2 .*'paint"):
        apply_attack("gcg", Attack(read_wording(path)), ["swap apple", "paint the donkey"])


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.txt", "no place for it", r"has no `\{\{ prompt \}\}`"),
        ("a.txt", "{{prompt}}", "Write exactly this"),
        ("a.yaml", "name: x\n", "no text under the key `value`"),
        ("a.yaml", "- x\n", "no text under the key `value`"),
        ("a.yaml", "value: [1\n", "is not valid YAML"),
        ("a.yaml", "value: 'x {{ prompt }}'\nparameters: [prompt, tone]\n", "needs tone in"),
        ("a.yaml", "value: !!python/name:os.system ''\n", "is not valid YAML"),
        ("a.csv", "prompt,text\na,b\n", "has no column `attacked`"),
        ("a.csv", "prompt,attacked\na,\n", "line 2: has an empty `attacked`"),
        ("a.jsonl", '{"prompt": "a", "attacked": ["b"]}', "its `attacked` is a list"),
        ("a.jsonl", '{"prompt": null, "attacked": "b"}', "has an empty `prompt`"),
        ("a.yaml", "value: a {{ prompt }}\nvalue: b {{ prompt }}\n", "`value` is given twice"),
        ("a.yaml", "value: 'x {{ prompt }}'\nparameters: tone\n", "needs tone in"),
        ("a.yaml", "value: 'x {{ prompt }} {{ tone }}'\n", "needs '{{ tone }}' in addition"),
        ("a.yaml", "value: '{% if x %}{{ prompt }}'\n", "needs '{% if x %}' in addition"),
        ("a.yaml", "value: 'x {{ prompt }}'\ndata_type: image_path\n", "and not text"),
        ("a.yaml", "seeds:\n- {value: x}\n", "no text under the key `value`"),
        ("a.jsonl", '{"prompt": "a", "attacked": "b"}\n' * 2 + '{"prompt": "a ", "attacked": "c"}',
         "two texts for the prompt 'a'"),
    ],
)  # fmt: skip
def test_what_is_no_template_is_named(name: str, text: str, said: str, tmp_path: Path) -> None:
    path = _written(tmp_path, name, text)
    with pytest.raises(BadFile, match=said) as caught:
        read_wording(path)
    assert str(caught.value).startswith(str(path))


def test_a_folder_and_binary_data_are_no_templates(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="is a folder"):
        read_wording(tmp_path)
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe{{ prompt }}")
    with pytest.raises(BadFile, match="could not be read"):
        read_wording(tmp_path / "a.txt")
    with pytest.raises(BadFile, match="could not be read"):
        read_wording(tmp_path / "missing.txt")


@pytest.fixture
def study() -> Callable[..., Study]:
    config = with_preset(read_config(Path("config.yaml")))

    def changed(**responses: Any) -> Study:
        return load_study({**config, "responses": {**config["responses"], **responses}})

    return changed


def test_an_attack_is_known_by_name(study: Callable[..., Study]) -> None:
    templates = {"pirate": {"source": "file:pirate.txt"}}
    assert study(attacks=["pirate", "direct"], templates=templates).responses.attacks == [
        "direct",
        "pirate",
    ]
    with pytest.raises(StudyError, match=r"no attack is named `pirat`\. Did you mean `pirate`"):
        checks.check_study(study(attacks=["pirat"], templates=templates))
    with pytest.raises(StudyError, match=r"no attack is named `prefil`\. Did you mean `prefill`"):
        checks.check_study(study(attacks=["prefil"]))
    with pytest.raises(StudyError, match=r"`responses\.templates\.direct`: this name is taken"):
        checks.check_study(study(templates={"direct": {"source": "file:pirate.txt"}}))
    with pytest.raises(
        StudyError, match=r"`responses.templates.pirate.source`: no source is named"
    ):
        study(templates={"pirate": {"source": "advbenc"}})
    with pytest.raises(StudyError, match=r"unknown key\. Did you mean `prefill`"):
        study(templates={"pirate": {"source": "file:pirate.txt", "prefil": "Arr"}})


def test_a_local_template_is_tracked_by_what_it_says(
    study: Callable[..., Study], tmp_path: Path
) -> None:
    path = _written(tmp_path, "pirate.yaml", "value: 'Arr {{ prompt }}'\n")
    template = {"source": f"file:{path}", "prefill": "Aye"}
    asked = study(attacks=["direct", "pirate"], templates={"pirate": template})
    before = responses_job(asked, {"variant": "shared"})
    assert {name: one.prefill for name, one in before.attacks.items()} == {
        "direct": "",
        "pirate": "Aye",
    }
    path.write_text("# the same\nvalue: >-\n  Arr\n  {{ prompt }}\n", encoding="utf-8")
    assert responses_job(asked, {"variant": "shared"}) == before
    path.write_text("value: 'Oho {{ prompt }}'\n", encoding="utf-8")
    assert responses_job(asked, {"variant": "shared"}) != before
    path.write_text("value: 'Oho'\n", encoding="utf-8")
    with pytest.raises(BadFile, match="has no"):
        checks.check_study(asked)


def test_a_template_is_fetched_if_an_attack_asks_for_it(study: Callable[..., Study]) -> None:
    address = "pypi:pyrit==1.1.0/pyrit/datasets/jailbreak/templates/x.yaml#sha256=" + "0" * 64
    templates = {"pirate": {"source": address}}
    idle = study(templates=templates)
    asked = study(attacks=["pirate"], templates=templates)
    fetched = set(places.sources(asked)) - set(places.sources(idle))
    assert fetched == {places.source_name(address)}
    place = Path(asked.results) / asked.study / "sources" / places.source_name(address)
    assert responses_job(asked, {"variant": "shared"}).attacks["pirate"] == AttackWords(
        wording=SourceLocation(path=place, record=Path(f"{place}.json")), prefill=""
    )


def test_a_bare_prompt_is_a_template_too() -> None:
    assert apply_attack("direct", Attack(PLACEHOLDER), [PROMPT]) == [PROMPT]


def test_a_further_attack_is_one_entry(
    study: Callable[..., Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    polite = BuiltAttack("Please: {{ prompt }}", prefilled=True)
    monkeypatch.setitem(attacks.BUILT, "polite", polite)
    asked = study(attacks=["direct", "polite"])
    checks.check_study(asked)
    given = responses_job(asked, {"variant": "unmodified"}).attacks["polite"]
    assert apply_attack("polite", attack_of(given), [PROMPT]) == [f"Please: {PROMPT}"]
    assert given.prefill == asked.pairs.prefill
    with pytest.raises(StudyError, match=r"`responses\.templates\.polite`: this name is taken"):
        checks.check_study(study(templates={"polite": {"source": "file:pirate.txt"}}))


def test_attacks_know_the_models_own_answer_and_its_weights_of_refusal(
    study: Callable[..., Study],
) -> None:
    names = ["own-prefix", "refusal-ablation", "refusal-ablation-prefill"]
    asked = study(attacks=names, own_prefix=7)
    checks.check_study(asked)
    given = responses_job(asked, {"variant": "shared"}).attacks
    prefill = asked.pairs.prefill
    seen = {name: (words.prefill, words.own_prefix, words.ablated) for name, words in given.items()}
    assert seen == {
        "own-prefix": ("", 7, False),
        "refusal-ablation": ("", 0, True),
        "refusal-ablation-prefill": (prefill, 0, True),
    }
    assert refusal_mask_job(asked, {}).refusal == ["refusal"]


def test_only_an_attack_on_refusals_has_their_importance_computed(
    study: Callable[..., Study],
) -> None:
    def computed(**responses: Any) -> bool:
        asked = study(**responses)
        job = scores_job(asked, {"behaviour": "refusal"})
        assert (job.preservation is not None) == ("refusal" in outputs.with_importance(asked))
        return job.preservation is not None

    assert not computed(attacks=["direct", "own-prefix"])
    assert computed(attacks=["refusal-ablation-own-prefix"])
    # Signed scores are there in any case.
    assert not computed(attacks=["refusal-ablation"], refusal_ablation={"signed": True})


def test_an_attack_on_refusals_says_what_it_lacks() -> None:
    config = with_preset(read_config(Path("config.yaml")))
    config["responses"]["attacks"] = ["refusal-ablation"]
    config["responses"]["variants"] = ["shared", "random"]
    config["equal_cost"] = {"masks": []}
    removed = {**config, "behaviours": {**config["behaviours"], "refusal": None}}
    with pytest.raises(StudyError, match=r"`refusal-ablation` zeroes .* no behaviour has the role"):
        checks.check_study(load_study(removed))
    masks = {**config["masks"], "preservation_pooling": "max", "contrast": 0}
    cut = {**config, "scores": {"tail": {"p": 0.2, "q": 0.1}}, "masks": masks}
    with pytest.raises(StudyError, match=r"within the scope `global`.*0.01 and `matrix`"):
        checks.check_study(load_study(cut))
    config["responses"]["refusal_ablation"] = {"scope": "global", "p": 0.1, "q": 0.15}
    checks.check_study(load_study(cut))
    config["responses"]["refusal_ablation"]["signed"] = True
    with pytest.raises(StudyError, match=r"q up to 0.1 .* and it has 0.1, 0.15"):
        checks.check_study(load_study(cut))
