"""Seconds to load the default model beyond the imports: `python benchmarks/load.py`."""

import time
from pathlib import Path

started = time.monotonic()
from transformers.models.llama import modeling_llama  # noqa: E402, F401

from lesion.models.load import load  # noqa: E402
from lesion.study.job import Device  # noqa: E402

imported = time.monotonic()
loaded = load(Path("results/default/models/smollm2-135m-instruct"), Device(dtype="float32"))
done = time.monotonic()
millions = sum(p.numel() for p in loaded.model.parameters()) / 1e6
seconds = f"{millions:.0f} M parameters and the tokenizer {done - imported:.2f} s"
print(f"imports {imported - started:.2f} s; {seconds}")
