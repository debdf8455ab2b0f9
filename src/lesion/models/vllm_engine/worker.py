"""Complete prompts with vLLM: a program that vLLM's own Python runs, and that knows no `lesion`.

It reads one JSON object from its standard input, and writes a line of JSON for each prompt, in
order, to the file descriptor that is its argument: the new tokens, and why they end.
"""

import json
import os
import sys
from typing import Any

SLICE = 256
"""Prompts handed over at once: between slices one sees how far it is."""


def complete_prompts() -> None:
    """Load the folder's model and complete the prompts greedily."""
    pipe = int(sys.argv[1])
    # vLLM's own processes outlive this one by a moment, and would keep the pipe open.
    os.set_inheritable(pipe, False)
    asked = json.load(sys.stdin)
    from vllm import LLM, SamplingParams  # type: ignore[import-not-found]

    model = LLM(**asked["model"])
    how = SamplingParams(**asked["sampling"])
    with os.fdopen(pipe, "w") as out:
        for start in range(0, len(asked["prompts"]), SLICE):
            prompts = asked["prompts"][start : start + SLICE]
            for one in _generate(model, prompts, how):
                out.write(json.dumps(one) + "\n")
            out.flush()


def _generate(model: Any, prompts: list[list[int]], how: Any) -> list[tuple[list[int], str]]:
    done = model.generate([{"prompt_token_ids": one} for one in prompts], how, use_tqdm=False)
    return [(list(one.outputs[0].token_ids), one.outputs[0].finish_reason) for one in done]


if __name__ == "__main__":
    complete_prompts()
