"""Where a study may be written: folders as people call them, and none of those that it reads."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lesion.plan import checks
from lesion.study import StudyError, load_study, read_config
from lesion_testing.workflow import Place

pytestmark = pytest.mark.slow

ODD = "Größe 1 – #2 [x] 'q' & co"


def test_a_folder_of_any_name_through_a_variable(fresh: Place) -> None:
    folder = fresh.folder / ODD
    fresh.inputs.rename(fresh.folder / "ein gaben #1")

    def change(config: dict[str, Any]) -> None:
        config["results"] = "${OUT}//x/../made/"
        config["sources"] = {
            "model": "file:$IN/model",
            "pranks": "file:$IN/pranks.jsonl",
        }
        for one in config["behaviours"].values():
            for key, text in one.items():
                if key in ("source", "responses"):
                    one[key] = str(text).replace("file:inputs", "file:~/ein gaben #1")
        for key in ("human_scores", "embedder"):
            text = str(config["judgements"][key])
            config["judgements"][key] = text.replace("file:inputs", "file:$IN")

    fresh.configure(change)
    places = {
        "OUT": str(folder),
        "IN": "ein gaben #1",
        "HOME": str(fresh.folder),
        # What tools keep below the home folder must not decide what is looked at here.
        "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", str(fresh.folder / "cache")),
    }
    done = fresh.snakemake("--until", "prompts", "model", **places)
    assert done.code == 0, done.text
    made = {path.stem for path in (folder / "made" / "tiny" / "pairs" / "prompts").iterdir()}
    assert made == {"alpha", "beta", "gamma", "letters", "sums", "denials"}
    assert (folder / "made" / "tiny" / "models" / "llama" / "lesion.json").is_file()
    assert not {"~", "$IN", "$OUT", "${OUT}"} & {path.name for path in fresh.folder.iterdir()}
    # The judge's job has folders for inputs. It is planned, and what was made is not made again.
    done = fresh.snakemake("-n", **places)
    assert done.code == 0, done.text
    assert "training the offline judges" in done.text
    assert "choosing and splitting prompts" not in done.text


def _refused(fresh: Place, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(fresh.folder)
    with pytest.raises(StudyError) as error:
        checks.check_study(load_study(read_config(fresh.study)))
    return str(error.value)


def _results(path: str, study: str = "tiny") -> Callable[[dict[str, Any]], None]:
    return lambda config: config.update(results=path, study=study)


@pytest.mark.parametrize(
    ("path", "study", "words"),
    [
        (".", "inputs", "`behaviours.alpha.source` reads (inputs/pranks.jsonl), or the other way"),
        ("inputs", "model", "written to inputs/model, which lies in what `models.llama.source`"),
        ("inputs/scorer_evals", "tiny", "which lies in what `judgements.human_scores` reads"),
        ("link/model", "tiny", "written to link/model/tiny, which lies in what `models.llama."),
        ("study.yaml", "tiny", "study.yaml is a file. Give a folder"),
        ("study.yaml/below", "tiny", "study.yaml is a file. Give a folder"),
    ],
)
def test_results_lie_apart_from_what_is_read(
    fresh: Place, monkeypatch: pytest.MonkeyPatch, path: str, study: str, words: str
) -> None:
    (fresh.folder / "link").symlink_to(fresh.inputs)
    fresh.configure(_results(path, study))
    said = _refused(fresh, monkeypatch)
    assert said.startswith("`results`: ")
    assert words in said


@pytest.mark.parametrize("below", ["src/lesion", "workflow/rules", "profiles", ""])
def test_results_lie_apart_from_the_code(
    fresh: Place, monkeypatch: pytest.MonkeyPatch, below: str
) -> None:
    checkout = Path(checks.__file__).parents[3]
    place = checkout / below
    fresh.configure(
        _results(str(place if below else place.parent), "tiny" if below else place.name)
    )
    assert "is a folder of lesion's own code. Give another one" in _refused(fresh, monkeypatch)


def test_a_file_that_snakemake_would_misread(fresh: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    (fresh.inputs / "embedder" / "a{b}.json").write_text("{}", encoding="utf-8")
    said = _refused(fresh, monkeypatch)
    assert said.startswith("`judgements.embedder`: inputs/embedder/a{b}.json: its name holds {, }")
