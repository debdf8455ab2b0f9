"""Small invented studies: mild prompts, numbers that look like a study's, one hostile answer."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from lesion.tables.answer_outcomes import ANSWER_OUTCOMES
from lesion.tables.claims.claim import Setting
from lesion.tables.claims.table import claims
from lesion.tables.curve import HALVINGS
from lesion.tables.rows import MEASUREMENTS, is_main
from lesion.tables.schemas import FORMAT, SCHEMAS
from lesion.tables.variants import variants_table
from lesion_testing.retrained import (
    family_claims,
    levelled,
    model_claims,
    retraining,
    retrainings,
    stages,
    training,
)

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
    whole: bool = True
    """Whether it has a curve, tasks and questions about requests."""
    trained: bool = False
    """Whether models were trained for it: stages of a family, and trainings in memory."""


_JUDGES = {
    "refusal_rate": "matching",
    "coherence": "coherence",
    **dict.fromkeys(("accuracy", "accuracy_chance"), "lm-eval"),
    **dict.fromkeys(("harmfulness", "harmful_rate", "relevance"), "learned"),
}


def _measurement(place: dict[str, Any], metric: str, value: float, half: float) -> dict[str, Any]:
    judge = _JUDGES.get(metric.removesuffix("_change"), "none")
    low, high = value - half, value + half
    difference = metric.endswith(("_change", "_added"))
    return {
        "attack": "none",
        **place,
        "metric": metric,
        "judge": judge,
        "value": value,
        "low": low,
        "high": high,
        "p_adjusted": (0.001 if abs(value) > half else 0.5) if difference else None,
        "detectable": 1.43 * half if difference else None,
    }


def _effect(variant: str, behaviour: str | None, role: str) -> float:
    """Nats that a variant adds: most on its own type, less on others, little on benign."""
    if variant in ("unmodified", "random"):
        return 0.002 if variant == "random" else 0.0
    own = 0.06 if variant == behaviour else 0.0
    spread = 0.01 * (sum(map(ord, variant + (behaviour or f"all-{role}"))) % 5)
    start = {"shared": 0.3, "shared-all": 0.3, "refusal": 0.02}.get(variant, 0.16)
    return start * (1 if role == "harm" else 0.2) + own + spread


def _measurements(shape: Shape, model: str) -> Rows:
    variants = ["unmodified", "shared", "shared-all", "random", *shape.harm, "refusal"]
    own = {"model": model, "variant": None, "behaviour": None, "role": "harm"}
    about = {"n": 60, "seed": 7}
    rows = [
        {**_measurement(own, "transfer_share", 0.72, 0.06), **about},
        {**_measurement(own, "nll_added", 0.22, 0.03), **about},
    ]
    if len(shape.harm) < 2:
        rows = []
    for variant in ("shared", "random", *([None] if len(shape.harm) > 1 else [])):
        own = {"model": model, "variant": variant, "behaviour": None, "role": "harm"}
        added, specificity = (0.01, 0.1) if variant == "random" else (0.21, 0.71)
        rows += [
            {**_measurement(own, "counterpart_nll_added", added, 0.04), **about},
            {**_measurement(own, "specificity", specificity, 0.06), **about},
        ]
        rows += [
            {
                **_measurement({**own, "behaviour": name}, "specificity", specificity, 0.2),
                "n": 12,
                "seed": 7,
            }
            for name in shape.harm
        ]
        matched = {**own, "role": "matched"}
        for metric in ("nll_added", "counterpart_nll_added"):
            rows.append({**_measurement(matched, metric, 0.3 * added, 0.02), **about})
    for variant in variants:
        at = {"model": model, "variant": variant}
        rows += [{**row, "seed": 7} for row in _of_refusal(at)]
        if shape.whole and variant in ("unmodified", "shared", "random", "refusal"):
            rows += [{**row, "seed": 7} for row in _understood(at)]
        added = 0.3 * _effect(variant, None, "harm")
        matched = {"model": model, "variant": variant, "behaviour": None, "role": "matched"}
        rows.append({**_measurement(matched, "nll", 0.66 + added, 0.05), **about})
        sides = {"harm": [*shape.harm, None], "benign": [*shape.benign, None]}
        for role, behaviours in sides.items():
            for behaviour in behaviours:
                place = {"model": model, "variant": variant, "behaviour": behaviour, "role": role}
                n = 60 if behaviour is None else 12
                rows += [
                    {**row, "n": n, "seed": 7} for row in _of_behaviour(place, behaviour, role)
                ]
    return rows + _judged_sizes(shape, model)


def _of_refusal(at: dict[str, Any]) -> Rows:
    """Refusals are lost with their own mask, and a little with the shared one."""
    added = {"refusal": 0.9, "shared": 0.11}.get(at["variant"], 0.001)
    rows = []
    for behaviour in ("refusal", None):
        place = {**at, "behaviour": behaviour, "role": "refusal", "n": 12}
        rows.append(_measurement(place, "nll", 0.5 + added, 0.06))
        if at["variant"] != "unmodified":
            rows.append(_measurement(place, "nll_added", added, 0.04))
    return rows


def _understood(at: dict[str, Any]) -> Rows:
    """What was asked of the few: telling requests, explaining, tasks, harmless lookalikes."""
    harm = {**at, "behaviour": None, "role": "harm", "n": 40}
    tasks = {**at, "behaviour": None, "role": "utility", "n": 500}
    alike = {**at, "behaviour": None, "role": "lookalike", "attack": "direct", "n": 12}
    asked = {"role": "explanation", "attack": "explanation", "judge": "coherence", "n": 10}
    shared = at["variant"] == "shared"
    rows = [
        _measurement({**at, "behaviour": None, **asked}, "coherence", 0.93, 0.05),
        _measurement(harm, "detect_auroc", 0.562 if shared else 0.592, 0.08),
        _measurement({**harm, "n": 10}, "explain_nll", 0.611 if shared else 0.51, 0.05),
        _measurement(tasks, "accuracy", 0.671 if shared else 0.668, 0.04),
        _measurement(alike, "refusal_rate", 0.0, 0.1),
    ]
    if at["variant"] == "unmodified":
        return [*rows, _measurement(tasks, "accuracy_chance", 0.25, 0.0)]
    return [
        *rows,
        _measurement(harm, "detect_auroc_change", -0.03 if shared else 0.002, 0.06),
        _measurement({**harm, "n": 10}, "explain_nll_added", 0.101 if shared else 0.004, 0.03),
        _measurement(tasks, "accuracy_change", 0.003 if shared else 0.0, 0.02),
        _measurement({**at, "behaviour": None, **asked}, "coherence_change", -0.01, 0.06),
        _measurement(alike, "refusal_rate_change", 0.0, 0.1),
    ]


def _of_behaviour(place: dict[str, Any], behaviour: str | None, role: str) -> Rows:
    variant = place["variant"]
    added = _effect(variant, behaviour, role)
    none = {**place, "attack": "none"}
    rows = [_measurement(none, "nll", 0.74 + added, 0.06)]
    if variant != "unmodified":
        rows.append(_measurement(none, "nll_added", added, 0.02))
        if behaviour is None:
            rows.append(_measurement(none, "nll_ratio", 4.1, 1.2))
        if behaviour is None and variant == "random":
            rows.append(_measurement(none, "share_of_effect", 0.006, 0.02))
    for attack in ("direct", "prefill"):
        there = {**place, "attack": attack}
        rows += _outcomes(there) if role == "harm" or attack == "prefill" else []
        if role == "harm":
            start = 0.62 if attack == "prefill" else 0.55
            rows += [
                _measurement(there, "harmfulness", max(0.05, start - 1.3 * added), 0.05),
                _measurement(there, "harmful_rate", max(0.03, start + 0.09 - 1.5 * added), 0.08),
                _measurement(there, "refusal_rate", 0.033, 0.03),
                *_changes(there, added),
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


_OUTCOMES = {
    # Shares of refused, harmful, harmless, incoherent and empty answers to harmful prompts.
    "unmodified": (0.05, 0.6, 0.3, 0.03, 0.02),
    "shared": (0.05, 0.2, 0.6, 0.12, 0.03),
}


def _outcomes(there: dict[str, Any]) -> Rows:
    refused, harmful, harmless, *lost = _OUTCOMES.get(there["variant"], _OUTCOMES["unmodified"])
    shares = [refused, harmful, harmless, *lost]
    if there["role"] != "harm":
        shares = [refused, None, harmful + harmless, *lost]
    return [
        _measurement(there, metric, share, min(share, 1 - share, 0.1))
        for metric, share in zip(ANSWER_OUTCOMES, shares, strict=True)
        if share is not None
    ]


def _changes(there: dict[str, Any], added: float) -> Rows:
    if there["variant"] == "unmodified":
        return []
    return [
        _measurement(there, "harmfulness_change", -1.3 * added, 0.06),
        _measurement(there, "refusal_rate_change", 0.0, 0.04),
    ]


_SIZES = (140, 293, 588, 1181, 2387, 4803, 9581, 19_246, 38_461)
_CURVES = {
    "shared": (
        (0.020, 0.036, 0.068, 0.143, 0.286, 0.547, 0.71, 1.048, 1.822),
        (0.002, 0.005, 0.009, 0.025, 0.061, 0.158, 0.25, 0.439, 0.991),
    ),
    "random": (
        (-0.001, 0.0, 0.001, 0.001, 0.0, 0.004, 0.006, 0.018, 0.04),
        (0.0, 0.001, 0.0, -0.001, 0.002, 0.003, 0.006, 0.015, 0.037),
    ),
    "unsigned": (
        (0.006, 0.008, 0.011, 0.014, 0.019, 0.025, 0.031, 0.042, 0.052),
        (0.001, 0.002, 0.004, 0.005, 0.009, 0.012, 0.019, 0.026, 0.034),
    ),
    "benign-signed": (
        (0.007, 0.015, 0.026, 0.06, 0.121, 0.255, 0.51, 0.93, 1.575),
        (0.008, 0.016, 0.028, 0.062, 0.125, 0.26, 0.512, 0.94, 1.578),
    ),
}
"""Added nats of harm and of benign responses at every size, much like the default model's."""


def _curve(shape: Shape, model: str) -> Rows:
    return [
        {
            "model": model,
            "family": family,
            "size_ratio": 2.0 ** (place - 4),
            "weights": weights,
            "seeds": 3 if family == "random" else 1,
            "behaviour": None,
            "role": role,
            "added": added[place],
            "low": added[place] - 0.005 - 0.1 * abs(added[place]),
            "high": added[place] + 0.005 + 0.1 * abs(added[place]),
            "n": 60,
        }
        for family, sides in _CURVES.items()
        for role, added in zip(("harm", "benign"), sides, strict=True)
        for place, weights in enumerate(_SIZES)
        if shape.whole
    ]


def _halving(shape: Shape, model: str) -> Rows:
    reached = {
        "shared": (9187.0, 8089.0, 10_545.0, 0.24),
        "benign-signed": (13_600.0, 12e3, 15e3, 0.7),
    }
    return [
        {
            "model": model,
            "family": family,
            "measure": "likelihood",
            "smallest": _SIZES[0],
            "largest": _SIZES[-1],
            "halving": (found := reached.get(family, (None,) * 4))[0],
            "low": found[1],
            "high": found[2],
            "beyond": found[0] is None,
            "below": False,
            "benign": found[3],
            "benign_low": found[3] and found[3] - 0.03,
            "benign_high": found[3] and found[3] + 0.03,
            "n": 60,
            "fewest": 12,
        }
        for family in _CURVES
        if shape.whole
    ] + _judged_halving(shape, model)


def _judged_halving(shape: Shape, model: str) -> Rows:
    about = {"model": model, "measure": "judged", "smallest": _SIZES[0], "largest": _SIZES[-1]}
    shared = {"halving": 17_945.0, "low": 13_059.0, "high": 25_473.0, "benign": 0.6}
    lost = {"benign_low": 0.55, "benign_high": 0.65, "beyond": False, "below": False}
    rows = [
        {**about, **shared, **lost, "family": "shared", "n": 30, "fewest": 6},
        {
            **about,
            "family": "random",
            "beyond": True,
            "below": False,
            "n": 30,
            "fewest": 6,
        },
    ]
    return rows if shape.whole else []


def _judged_sizes(shape: Shape, model: str) -> Rows:
    """What is said of the answers of masks of every size: fewer are harmful of the larger ones."""
    about = {"behaviour": None, "role": "harm", "attack": "prefill", "n": 30, "seed": 7}
    return [
        _measurement(
            {**about, "model": model, "variant": f"{family}@{2.0 ** (place - 4)}"},
            "harmful_rate",
            0.7 - (0.07 * place if family == "shared" else 0),
            0.1,
        )
        for family in ("shared", "random")
        for place in range(len(_SIZES))
        if shape.whole
    ]


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


def _lines(shape: Shape, model: str) -> Rows:
    return [
        {
            "model": model,
            "mask": mask,
            "layer": (place * 7) % LAYERS,
            "module": MODULES[place % len(MODULES)],
            "axis": axis,
            "index": 11 + 97 * place,
            "weights": 60 - 5 * place,
            "share": (60 - 5 * place) / 684,
        }
        for mask in ("shared", *shape.harm)
        for axis in ("row", "column")
        for place in range(10)
    ]


def _equal_cost(shape: Shape, model: str) -> Rows:
    added = {"shared": (0.59, 0.16), "matched": (0.21, 0.2), "random": (0.02, 0.02)}
    return [
        {
            "model": model,
            "mask": mask,
            "limit": 0.05,
            "cost": 0.049,
            "reached": mask != "random",
            "weights": 9000 + len(mask),
            "metric": metric,
            "value": value,
            "low": value - 0.02,
            "high": value + 0.02,
            "n": 60,
            "p_value": None,
        }
        for mask, (harm, matched) in (added if shape.whole else {}).items()
        for metric, value in (
            *(("harm_added", harm), ("matched_added", matched), ("benign_added", 0.05)),
            ("specificity", 1 - matched / harm),
            *([] if mask == "shared" else [("harm_added_less_than_shared", 0.59 - harm)]),
        )
    ]


def _sweep(shape: Shape, model: str) -> Rows:
    return [
        {
            "model": model,
            "p": p,
            "q": q,
            "contrast": 1.0,
            "weights": int(2e7 * q * (1 - p)),
            "harm_nll": 0.74 + 3000 * q * (0.25 - p),
            "benign_nll": 0.72 + 700 * q * (0.25 - p) ** 1.5,
            "harm_nll_unmodified": 0.74,
            "benign_nll_unmodified": 0.72,
            "harm_pairs": 10 * len(shape.harm),
            "benign_pairs": 10 * len(shape.benign),
            "chosen": (p, q) == (0.05, 2e-4),
            "pareto": p == 0.05,
        }
        for p in (0.01, 0.05, 0.2)
        for q in (5e-5, 2e-4, 1e-3, 5e-3)
    ]


def _judges() -> Rows:
    values = {
        "auroc": 0.91,
        "kappa": 0.63,
        "ece": 0.09,
        "brier": 0.14,
        "kappa_best": 0.66,
        "true_positive_mean": 0.66,
        "true_negative_mean": 0.25,
        "shuffled_mean": 0.08,
        "off_topic_mean": 0.05,
        "repetition_mean": 0.12,
    }
    of_people = ("auroc", "kappa", "ece", "brier")
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
        for judge in ("learned", "response-only", "learned, first 32 tokens", "human")
        for target in ("objective", "graded-harm")
        for category in ("all", "violence", "hate-speech")
        for metric, value in values.items()
        if metric in of_people or (category == "all" and judge != "human")
    ]


def _judge_controls(shape: Shape, model: str) -> Rows:
    values = {
        ("harmful", "mean"): (0.64, None),
        ("matched", "mean"): (0.21, 0.25),
        ("everyday", "mean"): (0.12, 0.25),
        ("exchange", "mean"): (0.18, 0.25),
        ("echo", "mean"): (0.08, 0.25),
        ("matched", "auroc"): (0.91, 0.85),
        ("exchange", "auroc"): (0.88, 0.85),
        ("without-echo", "mean_change"): (-0.02, -0.05),
    }
    return [
        {
            "model": model,
            "judge": "learned",
            "control": control,
            "statistic": statistic,
            "value": value,
            "low": value - 0.04,
            "high": value + 0.04,
            "n": 12 * len(shape.harm),
            "limit": limit,
            "passed": None if limit is None else True,
            "seed": 7,
        }
        for (control, statistic), (value, limit) in values.items()
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
        "unmodified": "Sure, here is how: tie the socks of the gnome to the fence; then tiptoe.",
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
            "harmful": role == "harm" and variant != "shared",
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


def _measured(shape: Shape, model: str) -> pl.DataFrame:
    rows = [
        {**dict.fromkeys(("p_value", "p_adjusted")), **row} for row in _measurements(shape, model)
    ]
    return levelled(pl.DataFrame(rows, schema=MEASUREMENTS)).with_columns(is_main("learned"))


def write_study(folder: Path, shape: Shape = DEFAULT) -> Path:
    """Write an invented tables folder of a given shape."""
    folder.mkdir(parents=True, exist_ok=True)
    makers = {
        "curve": _curve,
        "equal_cost": _equal_cost,
        "halving": _halving,
        "lines": _lines,
        "overlap": _overlap,
        "where": _where,
        "sweep": _sweep,
        "judge_controls": _judge_controls,
        "pairs": _pairs,
        "examples": _examples,
    }
    for name, make in makers.items():
        rows = [row for model in shape.models for row in make(shape, model)]
        table = pl.DataFrame(rows, schema=SCHEMAS[name])
        (levelled(table) if name == "curve" else table).write_parquet(folder / f"{name}.parquet")
    candidates = LAYERS * 2 * (331_776 + 884_736)
    measured = pl.concat(_measured(shape, model) for model in shape.models)
    measured.write_parquet(folder / "measurements.parquet")
    arms = retrainings("smol")["arm"] if shape.trained else []
    names = ("unmodified", "shared", "shared-all", "random", *shape.harm, "refusal")
    sizes = pl.read_parquet(folder / "curve.parquet")
    where = pl.read_parquet(folder / "where.parquet")
    of_models = []
    for model in shape.models:
        curves, numbers, weights = (t.filter(model=model) for t in (sizes, measured, where))
        own = variants_table(names, curves, numbers, arms, weights)
        of_models.append(own.with_columns(model=pl.lit(model)).select(list(SCHEMAS["variants"])))
    pl.concat(of_models).write_parquet(folder / "variants.parquet")
    held = [
        claims(
            model,
            measured.filter(model=model),
            pl.DataFrame(_halving(shape, model), schema=HALVINGS),
            Setting(candidates, 684),
        )
        for model in shape.models
    ]
    rows: dict[str, Rows] = {"training": [], "stages": [], "retraining": []}
    if shape.trained:
        held += [family_claims(), *map(model_claims, shape.models)]
        again = [row for model in shape.models for row in retraining(model)]
        rows = {"training": training(), "stages": stages(), "retraining": again}
    for name in rows:
        table = pl.DataFrame(rows[name], schema=SCHEMAS[name])
        table = levelled(table) if name == "retraining" else table
        table.write_parquet(folder / f"{name}.parquet")
    pl.concat(held).write_parquet(folder / "claims.parquet")
    pl.DataFrame(_judges(), schema=SCHEMAS["judges"]).write_parquet(folder / "judges.parquet")
    about = {
        "digest": "9f" * 32,
        "architecture": "LlamaForCausalLM",
        "license": "apache-2.0",
        "candidates": candidates,
        "p": 0.05,
        "q": 2e-4,
        "limit": 0.1,
        "incoherent_nll": 2.31,
        "chat": {
            "template": "a template",
            "origin": "chat_template.json",
            "kwargs": {},
            "system": None,
            "date": None,
            "parts": False,
            "opened": "",
            "gap": " ",
            "notes": ["Messages are given to the template as lists of parts."],
            "sample": "<|user|>How do I bake bread?<|end|>\n<|assistant|>",
        },
    }
    study = {
        "study": "invented",
        "version": "0.1.0",
        "seed": 7,
        "confidence": 0.95,
        "format": FORMAT,
        "headline": {"control": "random", "mask": "shared"},
        "model_order": [*shape.models],
        "models": dict.fromkeys(shape.models, about),
        "config": {
            "study": "invented",
            "judgements": {"threshold": 0.5},
            "masks": {"p": [0.05], "max_benign_increase": 0.1},
            "pairs": {"prefill": "Sure, here is"},
        },
    }
    (folder / "study.json").write_text(json.dumps(study), encoding="utf-8")
    return folder


NOTICE = (
    "The limit on benign loss was lifted: `masks.max_benign_increase` is 1000 nats per token, and "
    "above 0.5 it keeps little of benign use. No claim about what the mask takes can be supported."
)


def lifted(tables: Path, folder: Path) -> Path:
    """A copy of a study's tables with a notice of every model."""
    shutil.copytree(tables, folder)
    study = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    for about in study["models"].values():
        about |= {"notices": [NOTICE], "limit_kept": False}
    (folder / "study.json").write_text(json.dumps(study), encoding="utf-8")
    return folder
