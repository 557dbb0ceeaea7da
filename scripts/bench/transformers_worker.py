# SPDX-License-Identifier: Apache-2.0
"""Runs IDEFICS by transformers on the CPU, one JSON job a line; the rival of the benchmarks.

bf16, SDPA attention, inference mode, as many threads as the machine has CPUs, warmed up: what a careful user would run.
Jobs: {"do": "decode", "new_tokens": N}, {"do": "prefill", "prompt_tokens": N, "images": N}, {"do": "vision"}.
Answers: {"seconds": of one token, of the prompt's forward, of one picture}.
"""

import json
import os
import sys
import time
import warnings
from typing import Any, Dict

warnings.filterwarnings("ignore")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
import torch  # noqa: E402
import transformers  # noqa: E402


class Worker:
    def __init__(self, checkpoint: str):
        torch.set_num_threads(os.cpu_count())
        torch.manual_seed(0)
        self._model = transformers.IdeficsForVisionText2Text.from_pretrained(
            checkpoint, torch_dtype=torch.bfloat16, low_cpu_mem_usage=True, attn_implementation="sdpa").eval()
        self._size = self._model.config.vision_config.image_size

    def _inputs(self, prompt_tokens: int, images: int) -> Dict[str, torch.Tensor]:
        ids = torch.randint(10, 31000, (1, prompt_tokens))
        count = max(images, 1)  # without a picture the processor sends one of zeros that nothing sees
        mask = torch.full((1, prompt_tokens, count), int(images > 0))
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "image_attention_mask": mask,
                "pixel_values": torch.randn(1, count, 3, self._size, self._size, dtype=torch.bfloat16)}

    def _generate(self, inputs: Dict[str, torch.Tensor], new_tokens: int) -> float:
        start = time.perf_counter()
        self._model.generate(**inputs, max_new_tokens=new_tokens, min_new_tokens=new_tokens, do_sample=False)
        return time.perf_counter() - start

    def decode(self, new_tokens: int) -> float:
        """Of one token; two lengths, so that the prompt and the picture cancel."""
        inputs = self._inputs(5, 0)
        self._generate(inputs, 2)  # reads what memory had lost
        short = self._generate(inputs, 2)
        return (self._generate(inputs, 2 + new_tokens) - short) / new_tokens

    def prefill(self, prompt_tokens: int, images: int) -> float:
        return self._generate(self._inputs(prompt_tokens, images), 1)

    def vision(self) -> float:
        pixels = self._inputs(1, 1)["pixel_values"][0]
        model = self._model.model
        start = time.perf_counter()
        hidden = model.vision_model(pixel_values=pixels).last_hidden_state
        if model.config.use_resampler:
            model.perceiver_resampler(hidden)
        return time.perf_counter() - start


def main() -> None:
    start = time.perf_counter()
    with torch.inference_mode():
        worker = Worker(sys.argv[1])
        loaded = time.perf_counter() - start
        worker.prefill(4, 1)
        print(json.dumps({"transformers": transformers.__version__, "torch": torch.__version__,
                          "load_seconds": loaded}), flush=True)
        for line in sys.stdin:
            job: Dict[str, Any] = json.loads(line)
            print(json.dumps({"seconds": getattr(worker, job.pop("do"))(**job)}), flush=True)


if __name__ == "__main__":
    main()
