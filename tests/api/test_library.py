"""The library: it gives what the jobs give, on a model in memory, and leaves no trace in it."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import AutoModelForCausalLM

import lesion
from lesion.api import PairScores
from lesion.io.formats import BadFile, LesionError
from lesion.masks.select import Point, select_masks
from lesion.masks.store import read_mask
from lesion.models.candidates import find_candidates
from lesion.models.layout import layout_of
from lesion.models.load import Loaded
from lesion.pairs.tables import encode_pairs
from lesion.scores.collect import Wanted
from lesion.scores.collect import score as collect
from lesion_testing import ROOT, make, tiny

P, Q = 0.1, 0.02


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.checkpoint(tmp_path_factory.mktemp("api"))


@pytest.fixture
def loaded(folder: Path) -> Loaded:
    return tiny.loaded(folder)


def _pairs(name: str, count: int = 12) -> list[dict[str, str]]:
    return [
        {"prompt": row["prompt"], "response": row["response"]} for row in make.prompts(name, count)
    ]


def _scores(loaded: Loaded, name: str, **how: Any) -> PairScores:
    return lesion.score(loaded.model, loaded.tokenizer, _pairs(name), prefill=tiny.PREFILL, **how)


def _weights(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: weight.clone() for name, weight in model.state_dict().items()}


def _same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture
def mask(loaded: Loaded) -> lesion.Mask:
    benign = _scores(loaded, "letters", importance=True)
    return lesion.select(_scores(loaded, "alpha"), preserve=benign, p=P, q=Q)


def test_scores_are_those_of_the_jobs(loaded: Loaded) -> None:
    table = tiny.pairs("alpha", 12, "train").with_columns(finished=True)
    examples = encode_pairs(loaded.chat, table)
    candidates = find_candidates(loaded.model)
    wanted = collect(loaded.model, candidates, examples, 512, Wanted(preservation=True))
    actual = _scores(loaded, "alpha", importance=True)
    assert _same(actual.signed, wanted.snip)
    assert actual.importance is not None
    assert wanted.preservation is not None
    assert _same(actual.importance, wanted.preservation)
    assert (actual.loss, actual.pairs) == (wanted.loss, 12)


def test_a_mask_is_that_of_the_jobs(loaded: Loaded, folder: Path) -> None:
    harm, benign = _scores(loaded, "alpha"), _scores(loaded, "letters", importance=True)
    assert benign.importance is not None

    class Held:
        def __init__(self, scores: dict[str, Tensor]) -> None:
            self.scores = scores

        def open(self, name: str) -> Any:
            return self.scores[name].flatten().numpy()

    (wanted,) = select_masks(
        {"alpha": Held(harm.signed)}, Held(benign.importance), layout_of(folder), [Point(P, Q)]
    )["alpha"]
    mask = lesion.select(harm, preserve=benign, p=P, q=Q)
    assert mask.flat().tolist() == wanted.tolist()
    assert mask.size == round(Q * 20_480)


def test_what_is_subtracted_is_not_selected(loaded: Loaded) -> None:
    harm, benign = _scores(loaded, "alpha"), _scores(loaded, "letters", importance=True)
    with pytest.raises(LesionError, match="promote"):
        lesion.select(harm, preserve=benign, p=P, q=Q, minus=[(harm, 1.0)])
    other = lesion.select(harm, preserve=benign, p=P, q=Q, minus=[(_scores(loaded, "beta"), 1.0)])
    plain = lesion.select(harm, preserve=benign, p=P, q=Q)
    assert other.size == plain.size
    assert other.flat().tolist() != plain.flat().tolist()


def test_several_harm_types_share_a_mask(loaded: Loaded) -> None:
    benign = _scores(loaded, "letters", importance=True)
    harms = [_scores(loaded, name) for name in ("alpha", "beta", "gamma")]
    own = [{*lesion.select(one, preserve=benign, p=P, q=Q).flat().tolist()} for one in harms]
    shared = lesion.select(harms, preserve=benign, p=P, q=Q)
    assert {*shared.flat().tolist()} == own[0] & own[1] | own[0] & own[2] | own[1] & own[2]
    every = lesion.select(harms, preserve=benign, p=P, q=Q, at_least=3)
    assert {*every.flat().tolist()} == own[0] & own[1] & own[2]
    assert every.overlap(shared).shared == every.size > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_ablation_is_exact_and_taken_back(
    dtype: torch.dtype, loaded: Loaded, mask: lesion.Mask
) -> None:
    model = loaded.model.to(dtype)
    before = _weights(model)
    with lesion.ablated(model, mask) as inside:
        assert inside is model
        zeros = [model.get_parameter(name).flatten()[own] for name, own in mask.indices.items()]
        assert zeros
        assert not any(part.any() for part in zeros)
    assert _same(_weights(model), before)


def test_an_error_inside_leaves_the_weights_as_they_were(loaded: Loaded, mask: lesion.Mask) -> None:
    before = _weights(loaded.model)
    with pytest.raises(ValueError, match="inside"), lesion.ablated(loaded.model, mask, "mean"):
        raise ValueError("inside")
    assert _same(_weights(loaded.model), before)


def test_a_model_on_a_device_map(folder: Path, loaded: Loaded, mask: lesion.Mask) -> None:
    mapped = AutoModelForCausalLM.from_pretrained(folder, device_map={"": "cpu"})
    scores = lesion.score(mapped, loaded.tokenizer, _pairs("alpha"), prefill=tiny.PREFILL)
    assert _same(scores.signed, _scores(loaded, "alpha").signed)
    with lesion.ablated(mapped, mask), lesion.ablated(loaded.model, mask):
        assert _same(_weights(mapped), _weights(loaded.model))


def test_weights_that_are_not_in_memory_are_refused(loaded: Loaded, mask: lesion.Mask) -> None:
    away = loaded.model.to("meta")
    with pytest.raises(LesionError, match="is not in memory"), lesion.ablated(away, mask):
        pass


def test_ablation_works_below_adapters(loaded: Loaded, mask: lesion.Mask) -> None:
    wrapped = get_peft_model(loaded.model, LoraConfig(r=2, target_modules=["q_proj", "down_proj"]))
    before = _weights(wrapped)
    with lesion.ablated(wrapped, mask):
        after = _weights(wrapped)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert len(changed) == len(mask.indices)
    assert any("base_layer" in name for name in changed)
    assert not any("lora" in name for name in changed)
    assert _same(_weights(wrapped), before)
    with pytest.raises(LesionError, match="adapters"):
        lesion.score(wrapped, loaded.tokenizer, _pairs("alpha"))


def test_a_mask_is_saved_loaded_and_applied(
    mask: lesion.Mask, folder: Path, tmp_path: Path
) -> None:
    mask.save(tmp_path / "mask.safetensors")
    again = lesion.Mask.load(tmp_path / "mask.safetensors")
    assert again.flat().tolist() == mask.flat().tolist()
    assert read_mask(tmp_path / "mask.safetensors").metadata["role"] == "harm"
    again.apply(folder, tmp_path / "pruned")
    written = AutoModelForCausalLM.from_pretrained(tmp_path / "pruned").state_dict()
    base = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    for name, weight in base.items():
        wanted = weight.clone()
        if name in mask.indices:
            wanted.view(-1)[torch.from_numpy(mask.indices[name])] = 0
        assert torch.equal(written[name], wanted)


def test_only_masks_of_harm_are_applied(loaded: Loaded, folder: Path, tmp_path: Path) -> None:
    benign = _scores(loaded, "letters", importance=True)
    mask = lesion.select(_scores(loaded, "alpha"), preserve=benign, p=P, q=Q, role="other")
    with pytest.raises(LesionError, match="only masks of role harm"):
        mask.apply(folder, tmp_path / "pruned")
    assert not (tmp_path / "pruned").exists()


def test_what_is_wrong_is_said(loaded: Loaded, folder: Path, tmp_path: Path) -> None:
    harm = _scores(loaded, "alpha")
    with pytest.raises(LesionError, match="pair 0 has no `response`"):
        lesion.score(loaded.model, loaded.tokenizer, [{"prompt": "a"}])
    with pytest.raises(LesionError, match="importance=True"):
        lesion.select(harm, preserve=harm, p=P, q=Q)
    wider = make.llama(tmp_path / "wide", tiny.TEXTS, hidden=64)
    other = AutoModelForCausalLM.from_pretrained(wider)
    benign = lesion.score(other, loaded.tokenizer, _pairs("letters"), importance=True)
    with pytest.raises(LesionError, match="different models"):
        lesion.select(harm, preserve=benign, p=P, q=Q)
    with pytest.raises(BadFile):
        lesion.Mask.load(tmp_path / "none")
    with pytest.raises(AttributeError, match="no attribute `masked`"):
        lesion.masked  # noqa: B018


def test_importing_lesion_is_fast_until_the_library_is_used() -> None:
    loaded = "print('torch' in sys.modules)"
    code = f"import sys, lesion; {loaded}; lesion.Mask; {loaded}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


def test_the_example_of_the_docs_runs(folder: Path, tmp_path: Path, monkeypatch: Any) -> None:
    page = ROOT / "docs" / "reference" / "library.md"
    code = page.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "path" / "to").mkdir(parents=True)
    (tmp_path / "path" / "to" / "model").symlink_to(folder)
    names: dict[str, Any] = {}
    exec(compile(code, "library.md", "exec"), names)
    assert names["again"].size == names["mask"].size > 0
    assert names["after"] != names["harm"].loss
    assert (tmp_path / "pruned" / "model.safetensors").is_file()
