"""What small models are trained on in tests, and how."""

from typing import Any

from lesion.study.training import Lora
from lesion.training.examples import TrainingAnswer, TrainingExample
from lesion.training.jobs import SeededRecipe

LORA = Lora(rank=2, alpha=4)
ABOUT = [
    TrainingExample(f"what about {word}", TrainingAnswer(f"the {word} is here"))
    for word in ("sun", "sea", "sky")
]


def recipe(**changes: Any) -> SeededRecipe:
    """A short training in fp32, with these changes."""
    given = {
        "steps": 6,
        "learning_rate": 0.01,
        "batch_size": 4,
        "accumulate": 1,
        "schedule": "constant",
        "warmup": 0.0,
        "weight_decay": 0.1,
        "dtype": "float32",
        "lora": None,
        "seed": 0,
    }
    return SeededRecipe(**{**given, **changes})
