"""Complete prompts with vLLM: a program that vLLM's own Python runs, and that knows no `lesion`.

It reads one JSON object from its standard input, and writes a line of JSON for each prompt, in
order, to the file descriptor that is its argument: the new tokens, and why they end.
"""

import json
import os
import sys

SLICE = 256
"""Prompts passed to vLLM at once; progress is reported after each slice."""


def complete_prompts() -> None:
    """Load the folder's model and complete the prompts greedily."""
    pipe = int(sys.argv[1])
    # vLLM's own processes outlive this one by a moment, and would keep the pipe open.
    os.set_inheritable(pipe, False)
    request = json.load(sys.stdin)
    from vllm import LLM, SamplingParams  # type: ignore[import-not-found]

    model = LLM(**request["model"])
    how = SamplingParams(**request["sampling"])
    with os.fdopen(pipe, "w") as out:
        for start in range(0, len(request["prompts"]), SLICE):
            prompts = request["prompts"][start : start + SLICE]
            rows = [{"prompt_token_ids": prompt} for prompt in prompts]
            for output in model.generate(rows, how, use_tqdm=False):
                answer = output.outputs[0]
                out.write(json.dumps((list(answer.token_ids), answer.finish_reason)) + "\n")
            out.flush()


if __name__ == "__main__":
    complete_prompts()
