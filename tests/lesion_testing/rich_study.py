"""A study that uses everything, only to be planned: its sources are on the hub."""

from typing import Any

HUB = f"hf:some/repository@{'a' * 40}"
OTHER = f"hf:other/repository@{'b' * 40}"
LESSON = f"hf:third/repository@{'c' * 40}"
RECIPE = {"steps": 8, "batch_size": 4, "lora": {"rank": 2}}
LESSONS = [
    {"behaviours": ["sums"], "limit": 5},
    {"behaviours": ["alpha"], "answer": "refusal"},
    {"source": LESSON, "response": "answer", "rejected": "worse"},
    {"source": LESSON, "text": "text"},
]
STUDY: dict[str, Any] = {
    "study": "rich",
    "preset": "none",
    "sources": {"named": [HUB, OTHER]},
    "models": {
        "base": {"source": HUB, "chat": {"kwargs": {"thinking": False}, "system": "Be kind."}},
        "tuned": {
            "base": "base",
            "train": {
                **RECIPE,
                "method": "dpo",
                "mixture": LESSONS[:3],
                "refusals": HUB,
                "seeds": [1],
            },
        },
        "new": {
            "new": {},
            "pairs": "own",
            "train": {"steps": 4, "batch_size": 4, "mixture": LESSONS[3:]},
        },
    },
    "training_stages": {"family": ["base", "tuned"]},
    "behaviours": {
        "alpha": {"role": "harm", "source": "named", "where": {"column": "kind", "equals": "a"}},
        "beta": {"role": "harm", "source": HUB, "response": "answer", "limit": 20},
        "gamma": {"role": "harm", "source": HUB},
        "gamma-matched": {"role": "matched", "of": "gamma", "source": HUB, "limit": 20},
        "sums": {"role": "benign", "source": HUB},
        "code": {"role": "benign", "source": HUB},
        "no": {"role": "refusal", "source": HUB, "responses": HUB},
    },
    "scores": {"tail": {"p": 0.5, "q": 0.1}},
    "masks": {
        "p": [0.05, 0.1],
        "q": [0.001],
        "contrast": 0,  # truncated scores allow no other
        "preservation_pooling": "max",
        "controls": ["random", "wanda"],
        "shared": {"at_least": 2},
    },
    "responses": {
        "attacks": ["direct", "own-prefix", "please", "prefill", "refusal-ablation"],
        "refusal_ablation": {"scope": "global"},
        "templates": {"please": {"source": HUB, "prefill": "Yes"}},
        "variants": ["shared", "random", "alpha", "no"],
        "judged_variants": ["shared", "random"],
    },
    "equal_cost": {"masks": ["shared"], "largest": 0.05},
    "curve": {
        "families": ["shared", "random"],
        "sizes": [0.5, 2],
        "max_pairs": 3,
        "completions": True,
    },
    "understanding": {"minimal_pairs": HUB, "limit": 9, "variants": ["shared"]},
    "utility": {"tasks": ["hellaswag"], "limit": 9, "variants": ["shared"]},
    "retraining": {
        "again": {
            "models": ["base", "tuned"],
            "recipe": RECIPE,
            "behaviours": ["alpha"],
            "arms": ["unmodified", "shared", "shared-after"],
            "at": [0, 2],
            "pairs": 3,
            "prompts": 2,
            "questions": HUB,
            "narrow": "money",
            "judge": "rubric",
            "seeds": [3],
        }
    },
    "judgements": {
        "human_scores": HUB,
        "embedder": HUB,
        "judges": {
            "sr": {"kind": "strongreject", "source": HUB, "base": HUB},
            "hb": {"kind": "harmbench", "source": HUB, "template": "llama2"},
            "rubric": {
                "kind": "rubric",
                "url": "http://127.0.0.1:8000/v1",
                "model": "some",
                "api_key_env": "SOME_KEY",
                "parameters": {"temperature": 1},
            },
            "own": {"kind": "contrast", "source": HUB, "label": "bad", "elsewhere": HUB},
            "words": {"kind": "reference", "source": HUB},
        },
    },
}
