"""The page: it loads nothing, shows hostile text as text, and survives what is missing."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from lesion.io.formats import BadFile
from lesion.report.page import write_report
from lesion_testing.invented import HOSTILE, NOTICE, Shape, lifted, write_study

LOADING = {"src", "href", "srcset", "data", "action", "poster", "background", "xlink:href"}
EXPLAINED = re.compile(
    r'<span class="term"><dfn [^>]*>([^<]*)</dfn><span role="tooltip"[^>]*>[^<]*</span></span>'
)
"""A term with its explanation; a reader of the text sees the term."""
VOID = {"meta", "link", "br", "img", "input"}


class Page(HTMLParser):
    """What a browser would make of it: elements, and the text outside scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(EXPLAINED.sub(r"\1", text))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        elif not self.open or self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def _written(tables: Path, folder: Path, examples: int = 6) -> str:
    out = folder / "index.html"
    write_report(tables, out, examples)
    return out.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def source(tables: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return _written(tables, tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def page(source: str) -> Page:
    return Page(source)


def test_loads_nothing(source: str, page: Page) -> None:
    for _, attributes in page.elements:
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in LOADING:
                assert value is not None
                assert value.startswith("#") or value == "data:,"
    styles = "".join(re.findall(r"<style>(.*?)</style>", source, re.DOTALL))
    assert "url(" not in styles
    assert "@import" not in styles
    assert len(source) < 5 * 2**20


def test_policy_allows_one_script_by_its_hash(page: Page) -> None:
    policy = next(one["content"] for one in page.of("meta") if "http-equiv" in one)
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in policy
    kinds = [one.get("type") for one in page.of("script")]
    assert kinds.count(None) == 1
    assert set(kinds) == {None, "application/json"}


def test_charts_are_whole_and_described(page: Page) -> None:
    figures = page.of("figure")
    specs = [json.loads(text) for text in page.scripts[:-1]]
    assert len(specs) == len(figures) == 9
    for spec in specs:
        assert spec["width"] == "container"
        assert len(spec["description"]) > 20
        assert '"url"' not in json.dumps(spec)
    ids = {attributes.get("id") for _, attributes in page.elements}
    for figure in figures:
        assert figure["aria-labelledby"] in ids
        assert figure["aria-describedby"] in ids


def test_hostile_text_is_only_text(source: str, page: Page) -> None:
    assert "<script>alert(1)</script>" not in source
    assert not page.of("img")
    # What the parser gives back is what the model wrote, its hidden characters made visible.
    assert "</script><script>alert(1)</script><img src=http://evil.example/x" in page.text
    assert (
        "⟨U+202E⟩gnp.exe⟨U+202C⟩ ⟨U+001B⟩[31mred⟨U+0000⟩⟨U+2066⟩⟨U+200B⟩ {{ 7 * 7 }}" in page.text
    )
    for character in "\u202e\u202c\x1b\x00\u2066\u200b":
        assert character in HOSTILE
        assert character not in source.split("<main")[1].split("<script>")[0]


def test_harmful_examples_are_behind_a_click(source: str) -> None:
    articles = re.findall(r"<article.*?</article>", source, re.DOTALL)
    assert len(articles) == 6
    for article in articles:
        if "(harm," in article:
            before = article.split("<details")[0]
            assert "<details open" not in article
            assert "garden gnome" not in before
            assert "garden gnome" in article
        else:
            assert "(benign," in article
            assert "<details" not in article
    assert sum("(harm," in article for article in articles) == 3


def test_same_tables_same_bytes(tables: Path, source: str, tmp_path: Path) -> None:
    assert _written(tables, tmp_path) == source


def test_verdicts_and_rows_are_there(page: Page) -> None:
    for words in (
        "Does harmful generation depend on few weights?",
        "In 20 of 20 cases",
        "(0.33 [0.31, 0.35] against 0.070 [0.050, 0.090], a ratio of 4.1× [2.9×, 5.3×])",
        "14 questions: 9 yes , 4 can't tell , 1 lowers .",
        "Less than 10% counts as almost none.",
        "Task accuracy",
        "of matched answers",
        "random (does not come near the limit)",
        "9,187 [8,089, 10,545]",
        "layer 1, self_attn.o_proj, 108",
        "people",
        "first words repeated",
        "It is weakly aligned",
        "Attack success",
        "Cohen’s κ at threshold ½",
        "By kind of harm",
        "9f9f",
    ):
        assert words in page.text


def test_backticks_are_code_and_nothing_else(tmp_path: Path) -> None:
    text = _written(write_study(tmp_path / "tables", Shape(whole=False)), tmp_path, 0)
    assert "<code>curve.families</code>" in text
    assert "`" not in text.split("<main")[1].split("<script>")[0].replace("&#34;", "")


def test_names_are_escaped_too(tables: Path, tmp_path: Path) -> None:
    folder = _copied(tables, tmp_path / "tables")
    study = json.loads((folder / "study.json").read_text())
    study["study"] = "<b>bold</b>"
    study["config"] = {"key": "</pre><script>alert(3)</script>"}
    (folder / "study.json").write_text(json.dumps(study))
    text = _written(folder, tmp_path, 0)
    assert "<b>bold" not in text
    assert "<script>alert(3)" not in text


def _copied(tables: Path, folder: Path) -> Path:
    folder.mkdir()
    for path in tables.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.mark.parametrize(
    ("shape", "figures", "words"),
    [
        (Shape(harm=["physical"], benign=["plan"]), 9, "Needs two harm types"),
        (Shape(overlaps=False), 8, "The overlap of the masks was not measured"),
        (Shape(whole=False), 6, "Set curve.families"),
        (Shape(models=["one", "two"]), 18, "In 20 of 20 cases"),
        (Shape(harm=[f"type-{i}" for i in range(20)]), 9, "In 380 of 380 cases"),
    ],
)
def test_other_studies(shape: Shape, figures: int, words: str, tmp_path: Path) -> None:
    page = Page(_written(write_study(tmp_path / "tables", shape), tmp_path, 2))
    assert len(page.of("figure")) == figures
    assert words in page.text


@pytest.mark.parametrize(
    ("empty", "words"),
    [
        ("measurements", "The transfer between harm types was not measured"),
        ("claims", "Needs tasks in utility.tasks"),
        ("curve", "Set curve.families"),
        ("halving", "of the candidate weights"),
        ("overlap", "The overlap of the masks was not measured"),
        ("where", "The location of the weights is not known"),
        ("lines", "Where do the weights lie?"),
        ("sweep", "No sweep over p and q"),
        ("judges", "No agreement of the judges"),
        ("pairs", "The tables have no pairs"),
        ("examples", "the tables have none"),
    ],
)
def test_each_table_may_be_empty(tables: Path, tmp_path: Path, empty: str, words: str) -> None:
    folder = _copied(tables, tmp_path / "tables")
    path = folder / f"{empty}.parquet"
    pl.read_parquet(path).clear().write_parquet(path)
    assert words in Page(_written(folder, tmp_path, 2)).text


def test_a_page_of_nothing_can_be_read(tables: Path, tmp_path: Path) -> None:
    folder = _copied(tables, tmp_path / "tables")
    for path in folder.glob("*.parquet"):
        pl.read_parquet(path).clear().write_parquet(path)
    page = Page(_written(folder, tmp_path))
    assert "14 questions: 14 not measured ." in page.text
    assert not page.of("figure")


def test_missing_numbers_are_dashes(tables: Path, tmp_path: Path) -> None:
    folder = _copied(tables, tmp_path / "tables")
    table = pl.read_parquet(folder / "measurements.parquet")
    broken: dict[str, Any] = {"value": float("nan"), "low": float("inf"), "high": None}
    table.with_columns(
        pl.when(pl.col("variant") == "random").then(pl.lit(new)).otherwise(pl.col(name)).alias(name)
        for name, new in broken.items()
    ).write_parquet(folder / "measurements.parquet")
    page = Page(_written(folder, tmp_path, 0))
    assert "[–" not in page.text
    assert "Task accuracy mean over the study’s tasks; should not change 67% " in page.text
    assert "nan" not in page.text.lower().split()


def test_what_was_not_measured_is_named_and_has_no_row(tables: Path, tmp_path: Path) -> None:
    folder = _copied(tables, tmp_path / "tables")
    table = pl.read_parquet(folder / "measurements.parquet")
    assert table.filter(metric="accuracy").height
    table.filter(pl.col("metric") != "accuracy").write_parquet(folder / "measurements.parquet")
    text = Page(_written(folder, tmp_path, 0)).text
    assert "mean over the study’s tasks" not in text
    assert "No numbers for this model: Task accuracy." in text
    assert "No numbers for this model" not in Page(_written(tables, tmp_path, 0)).text


def test_the_only_harm_type_is_named(tables: Path, tmp_path: Path) -> None:
    shape = Shape(harm=["physical"], benign=["plan"])
    words = "the shared mask (selected for physical, the only harm type) zeroed"
    assert words in Page(_written(write_study(tmp_path / "tables", shape), tmp_path, 0)).text
    assert "the only harm type" not in Page(_written(tables, tmp_path, 0)).text


def test_what_the_claims_could_not_compute_is_unclear(tables: Path, tmp_path: Path) -> None:
    folder = _copied(tables, tmp_path / "tables")
    table = pl.read_parquet(folder / "claims.parquet")
    unknown = dict.fromkeys(("value", "low", "high"), float("nan"))
    table.with_columns(
        verdict=pl.lit("can't tell"),
        why=pl.lit(None, pl.String),
        **{name: pl.lit(one) for name, one in unknown.items()},
    ).write_parquet(folder / "claims.parquet")
    page = Page(_written(folder, tmp_path, 0))
    assert "14 questions: 14 can't tell ." in page.text
    assert page.text.count("The interval is unbounded on one side.") == 14


def test_a_missing_column_is_named(tables: Path, tmp_path: Path) -> None:
    folder = _copied(tables, tmp_path / "tables")
    pl.DataFrame({"model": ["smol"]}).write_parquet(folder / "sweep.parquet")
    with pytest.raises(BadFile, match=r"sweep\.parquet: lacks the column `p`"):
        write_report(folder, tmp_path / "index.html", 0)
    assert not (tmp_path / "index.html").exists()


def test_a_model_name_cannot_leave_the_folder(tables: Path, tmp_path: Path) -> None:
    folder = _copied(tables, tmp_path / "tables")
    study = json.loads((folder / "study.json").read_text())
    study["models"] = {"../smol": study["models"]["smol"]}
    (folder / "study.json").write_text(json.dumps(study))
    with pytest.raises(BadFile, match="not a model's name"):
        write_report(folder, tmp_path / "index.html", 0)


def test_what_has_to_be_said_stands_above_the_verdicts(tables: Path, tmp_path: Path) -> None:
    plain = NOTICE.replace("`", " ").split()
    assert " ".join(plain) not in " ".join(Page(_written(tables, tmp_path, 0)).text.split())
    text = _written(lifted(tables, tmp_path / "tables"), tmp_path, 0)
    page = Page(text)
    said = " ".join(plain)
    assert page.text.count(said) == 1
    assert page.text.index(said) < page.text.index("Claim 1: ") < page.text.index("14 questions:")


def test_what_has_to_be_said_stands_above_a_family(tmp_path: Path) -> None:
    folder = lifted(write_study(tmp_path / "own", Shape(trained=True)), tmp_path / "tables")
    study = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    study["config"]["training_stages"] = {"alignment": [["smol"], ["smol"]]}
    (folder / "study.json").write_text(json.dumps(study), encoding="utf-8")
    text = Page(_written(folder, tmp_path, 0)).text
    assert 0 < text.index("Warning 1: The limit") < text.index("Claim 4: ")


def test_a_study_whose_mask_has_another_name_has_a_full_page(tables: Path, tmp_path: Path) -> None:
    folder = _copied(tables, tmp_path / "tables")
    path = folder / "study.json"
    study = json.loads(path.read_text(encoding="utf-8"))
    study["headline"] = {"mask": "physical", "control": None}
    path.write_text(json.dumps(study), encoding="utf-8")
    page = Page(_written(folder, tmp_path, 2))
    assert (
        "The unmodified model and the model with the mask physical zeroed (ablated)." in page.text
    )
    assert "physical-ablated" in page.text
    assert "contain the largest shares of the mask physical" in page.text
    assert "Physical mask" in page.text
    harm = pl.read_parquet(folder / "measurements.parquet").filter(
        metric="nll", level="total", role="harm", variant="physical"
    )
    assert f"{harm['value'].item():.2f}" in page.text


def test_every_part_of_the_page_is_about_the_mask_whatever_its_name(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "tables", Shape(trained=True))
    usual = Page(_written(folder, tmp_path, 2))
    for path in folder.glob("*.parquet"):
        named = pl.col(pl.String).str.replace("^shared(@.*|-frozen|-after|)$", "vote$1")
        pl.read_parquet(path).with_columns(named).write_parquet(path)
    path = folder / "study.json"
    study = json.loads(path.read_text(encoding="utf-8"))
    study["headline"] = {"mask": "vote", "control": "random"}
    path.write_text(json.dumps(study), encoding="utf-8")
    page = Page(_written(folder, tmp_path, 2))
    for tag in ("figure", "table", "section", "h3"):
        assert len(page.of(tag)) == len(usual.of(tag))
    assert "not measured" not in page.text
    # The control is as large as the shared mask of this study, and the sweep is of that mask.
    text = page.text.split("The terms on this page")[0]
    for words in ("as many weights", "weights from every matrix"):
        text = text.replace(f"{words} as the shared mask", "")
    assert text.count("the shared mask") == text.count("Every point is the shared mask")
    # The chosen size is marked, and the mask comes first, as `shared` does elsewhere.
    own, others = "".join(page.scripts), "".join(usual.scripts)
    assert own.count('"chosen": true') == others.count('"chosen": true') > 0
    assert own.count('"domain": ["vote"') == others.count('"domain": ["shared"') > 0


def test_tables_of_another_format_are_refused_by_name(tables: Path, tmp_path: Path) -> None:
    folder = _copied(tables, tmp_path / "tables")
    path = folder / "study.json"
    study = json.loads(path.read_text(encoding="utf-8"))
    del study["format"]
    path.write_text(json.dumps(study), encoding="utf-8")
    with pytest.raises(BadFile, match=r"study\.json: is of another version of lesion"):
        write_report(folder, tmp_path / "index.html", 0)


def test_a_judge_that_fails_its_controls_is_named_first(tables: Path, tmp_path: Path) -> None:
    folder, why = tmp_path / "tables", "Judged harm is compliance here: the judge fails."
    shutil.copytree(tables, folder)
    study = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    for about in study["models"].values():
        about |= {"notices": [why], "judged_harm": why}
    (folder / "study.json").write_text(json.dumps(study), encoding="utf-8")
    before, after = (Page(_written(own, tmp_path, 0)).text for own in (tables, folder))
    assert after.count(why) == 1
    assert (
        after.index("In short Of the paper")
        < after.index(f"Warning 1: {why}")
        < after.index("Claim 1:")
    )
    for name in ("Complied, prefill", "compliance score"):
        assert (name in after, name in before) == (True, False)
    assert ("Harm score" in after, "Harm score" in before) == (False, True)
