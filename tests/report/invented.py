"""Small invented studies: mild prompts, numbers that look like a study's, one hostile answer."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

HOSTILE = (
    "</script><script>alert(1)</script><img src=http://evil.example/x onerror=alert(2)>"
    " \u202egnp.exe\u202c \x1b[31mred\x00\u2066\u200b {{ 7 * 7 }} & \"quoted\" 'text'"
)
LAYERS = 6
MODULES = ("self_attn.q_proj", "self_attn.o_proj", "mlp.up_proj", "mlp.down_proj")
Rows = list[dict[str, Any]]


class Shape(NamedTuple):
    """Which behaviours and models a study has."""

    harm: Sequence[str] = ("financial", "identity", "physical", "privacy", "psychological")
    benign: Sequence[str] = ("code", "explain", "plan")
    models: Sequence[str] = ("smol",)
    overlaps: bool = True


def _measurement(place: dict[str, Any], metric: str, value: float, half: float) -> dict[str, Any]:
    judges = {"refusal_rate": "matching", "coherence": "coherence", "nll": "none"}
    judge = judges.get(metric, "none" if metric.startswith("nll") else "learned")
    low, high = value - half, value + half
    return {**place, "metric": metric, "judge": judge, "value": value, "low": low, "high": high}


def _effect(variant: str, behaviour: str, role: str) -> float:
    """Nats that a variant adds: most on its own type, less on others, little on benign."""
    if variant in ("intact", "random"):
        return 0.002 if variant == "random" else 0.0
    own = 0.06 if variant == behaviour else 0.0
    spread = 0.01 * (sum(map(ord, variant + behaviour)) % 5)
    return (
        (0.3 if variant.startswith("shared") else 0.16) * (1 if role == "harm" else 0.2)
        + own
        + spread
    )


def _measurements(shape: Shape, model: str) -> Rows:
    rows: Rows = []
    variants = ["intact", "shared", "shared-all", "random", *shape.harm]
    sides = {"harm": [*shape.harm, "all-harm"], "benign": [*shape.benign, "all-benign"]}
    for variant in variants:
        for role, behaviours in sides.items():
            for behaviour in behaviours:
                place = {"model": model, "variant": variant, "behaviour": behaviour, "role": role}
                n = 60 if behaviour.startswith("all-") else 12
                rows += [
                    {**row, "n": n, "seed": 7} for row in _of_behaviour(place, behaviour, role)
                ]
    return rows


def _of_behaviour(place: dict[str, Any], behaviour: str, role: str) -> Rows:
    variant = place["variant"]
    added = _effect(variant, behaviour, role)
    none = {**place, "attack": "none"}
    rows = [_measurement(none, "nll", 0.74 + added, 0.06)]
    if variant != "intact":
        rows.append(_measurement(none, "nll_added", added, 0.02))
        if behaviour == "all-harm":
            rows.append(_measurement(none, "nll_ratio", 4.1, 1.2))
    for attack in ("direct", "prefill"):
        there = {**place, "attack": attack}
        if role == "harm":
            start = 0.62 if attack == "prefill" else 0.55
            rows += [
                _measurement(there, "harmfulness", max(0.05, start - 1.3 * added), 0.05),
                _measurement(there, "harmful_rate", max(0.03, start + 0.09 - 1.5 * added), 0.08),
                _measurement(there, "refusal_rate", 0.033, 0.03),
                _measurement(there, "relevance", 0.8 - added, 0.04),
                _measurement(there, "coherence", 0.77 - added, 0.04),
            ]
        elif attack == "prefill":
            rows += [
                _measurement(there, "refusal_rate", 0.0, 0.0),
                _measurement(there, "relevance", 0.85, 0.04),
                _measurement(there, "coherence", 0.81 - added / 4, 0.04),
            ]
    return rows


def _overlap(shape: Shape, model: str) -> Rows:
    if not shape.overlaps:
        return []
    roles = {**dict.fromkeys(shape.harm, "harm"), **dict.fromkeys(shape.benign, "benign")}
    names = [*roles, "refusal"]
    roles["refusal"] = "refusal"
    return [
        {
            "model": model,
            "a": a,
            "b": b,
            "role_a": roles[a],
            "role_b": roles[b],
            "size_a": 20000,
            "size_b": 20000,
            "shared": (count := (2500 if roles[a] == roles[b] else 480) + 97 * (place % 7)),
            "jaccard": count / (40000 - count),
            "overlap_coefficient": count / 20000,
            "expected_uniform": 4.7,
            "expected_matrix": 6.1 + place % 3,
            "expected_rows_columns": (
                expected := 240.0 if roles[a] == roles[b] else 620.0 / (1 + place % 2 * 29)
            ),
            "enrichment_rows_columns": (times := count / expected),
            "enrichment_low": 0.8 * times,
            "enrichment_high": 1.25 * times,
            "p_rows_columns": 1e-30 if times > 1 else 0.04,
        }
        for place, a in enumerate(names)
        for b in names[place + 1 :]
    ]


def _where(shape: Shape, model: str) -> Rows:
    # `random` takes as many weights of every matrix as `shared`.
    masks = ["shared", "shared-all", *shape.harm, *shape.benign]
    return [
        {
            "model": model,
            "mask": mask,
            "layer": layer,
            "module": module,
            "weights": (layer * 17 + place * 29 + number * 5) % 60,
            "candidates": 331_776 if module.startswith("self") else 884_736,
        }
        for number, mask in [(0, "random"), *enumerate(masks)]
        for layer in range(LAYERS)
        for place, module in enumerate(MODULES)
    ]


def _sweep(shape: Shape, model: str) -> Rows:
    return [
        {
            "model": model,
            "p": p,
            "q": q,
            "weights": int(2e7 * q * (1 - p)),
            "harm_nll": 0.74 + 3000 * q * (0.25 - p),
            "benign_nll": 0.72 + 700 * q * (0.25 - p) ** 1.5,
            "harm_nll_intact": 0.74,
            "benign_nll_intact": 0.72,
            "harm_pairs": 10 * len(shape.harm),
            "benign_pairs": 10 * len(shape.benign),
            "chosen": (p, q) == (0.05, 2e-4),
        }
        for p in (0.01, 0.05, 0.2)
        for q in (5e-5, 2e-4, 1e-3, 5e-3)
    ]


def _judges() -> Rows:
    values = {"auroc": 0.91, "kappa": 0.63, "shuffled_mean": 0.08}
    return [
        {
            "judge": judge,
            "target": target,
            "category": category,
            "metric": metric,
            "value": value,
            "low": value - 0.04,
            "high": value + 0.03,
            "n": 395,
            "seed": 7,
        }
        for judge in ("learned", "response-only")
        for target in ("objective", "graded-harm")
        for category in ("all", "violence")
        for metric, value in values.items()
    ]


def _pairs(shape: Shape, model: str) -> Rows:
    roles = {**dict.fromkeys(shape.harm, "harm"), **dict.fromkeys(shape.benign, "benign")}
    return [
        {
            "model": model,
            "behaviour": name,
            "role": role,
            "split": split,
            "outcome": outcome,
            "pairs": pairs,
        }
        for name, role in roles.items()
        for split, pairs in (("train", 24), ("validation", 10), ("test", 12))
        for outcome, pairs in (("kept", pairs), ("refused", 1 if role == "harm" else 0))
    ]


def _examples(shape: Shape, model: str) -> Rows:
    answers = {
        "intact": "Sure, here is how: tie the socks of the gnome to the fence, then tiptoe away.",
        "shared": HOSTILE,
        "random": "Sure, here is " + "a long and harmless story about a duck. " * 20,
        "shared-all": "Sure, here is a story about a company that makes a new assistant.",
    }
    roles = {**dict.fromkeys(shape.harm, "harm"), **dict.fromkeys(shape.benign, "benign")}
    return [
        {
            "model": model,
            "variant": variant,
            "behaviour": name,
            "role": role,
            "attack": attack,
            "prompt": f"How do I {name} the garden gnome, variation {number}?",
            "completion": text,
            "refused": False,
            "harmfulness": 0.2 + 0.4 * (role == "harm" and variant != "shared"),
            "relevance": 0.8,
            "coherence": 0.7,
        }
        for name, role in roles.items()
        for number in range(4)
        for attack in ("direct", "prefill")
        for variant, text in answers.items()
    ]


DEFAULT = Shape()


def write_study(folder: Path, shape: Shape = DEFAULT) -> Path:
    """Write an invented tables folder of a given shape."""
    folder.mkdir(parents=True, exist_ok=True)
    makers = {
        "measurements": _measurements,
        "overlap": _overlap,
        "where": _where,
        "sweep": _sweep,
        "pairs": _pairs,
        "examples": _examples,
    }
    for name, make in makers.items():
        rows = [row for model in shape.models for row in make(shape, model)]
        pl.DataFrame(rows, infer_schema_length=None).write_parquet(folder / f"{name}.parquet")
    pl.DataFrame(_judges()).write_parquet(folder / "judges.parquet")
    about = {
        "digest": "9f" * 32,
        "architecture": "LlamaForCausalLM",
        "license": "apache-2.0",
        "candidates": LAYERS * 2 * (331_776 + 884_736),
        "p": 0.05,
        "q": 2e-4,
        "limit": 0.1,
    }
    study = {
        "study": "invented",
        "version": "0.1.0",
        "seed": 7,
        "confidence": 0.95,
        "models": dict.fromkeys(shape.models, about),
        "config": {"study": "invented", "judgements": {"threshold": 0.5}, "masks": {"p": [0.05]}},
    }
    (folder / "study.json").write_text(json.dumps(study), encoding="utf-8")
    return folder
