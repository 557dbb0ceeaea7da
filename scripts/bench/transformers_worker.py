# SPDX-License-Identifier: Apache-2.0
"""Runs IDEFICS by transformers, on a GPU where there is one, one JSON job a line; the rival of the
benchmarks.

bf16 (or the type named behind the folder), SDPA attention, inference mode, as many threads as the
machine has CPUs, warmed up: what a careful user would run. Jobs: {"do": "decode", "new_tokens": N},
{"do": "prefill", "prompt_tokens": N, "images": N}, {"do": "vision"}. Answers: {"seconds": of one
token, of the prompt's forward, of one picture}. The first line says versions and, of a GPU, the
read speed in GB/s before the model is loaded.
"""

import json
import os
import sys
import time
import warnings
from typing import Any

warnings.filterwarnings("ignore")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
import torch  # noqa: E402
import transformers  # noqa: E402
from transformers.generation.streamers import BaseStreamer  # noqa: E402


class Clock(BaseStreamer):
    """generate() hands it the prompt and then every new token."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, value: torch.Tensor) -> None:
        self.times.append(time.perf_counter())

    def end(self) -> None:
        pass


DTYPES = {"bf16": torch.bfloat16, "f32": torch.float32}
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def wait_for_device() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def read_bandwidth() -> float:
    """GB/s of a GPU that adds up 4 GiB; the best of some."""
    numbers = torch.ones(1 << 30, dtype=torch.float32, device=DEVICE)
    best = 0.0
    for _ in range(10):
        wait_for_device()
        start = time.perf_counter()
        numbers.sum()
        wait_for_device()
        best = max(best, numbers.nbytes / (time.perf_counter() - start) / 1e9)
    return best


class Worker:
    def __init__(self, checkpoint: str, dtype: torch.dtype):
        torch.set_num_threads(os.cpu_count())
        torch.manual_seed(0)
        self._model = transformers.IdeficsForVisionText2Text.from_pretrained(
            checkpoint,
            torch_dtype=dtype,
            low_cpu_mem_usage=True,
            attn_implementation="sdpa").to(DEVICE).eval()
        self._dtype = dtype
        self._size = self._model.config.vision_config.image_size

    def _inputs(self, prompt_tokens: int, images: int) -> dict[str, torch.Tensor]:
        ids = torch.randint(10, self._model.config.vocab_size, (1, prompt_tokens))
        # Without a picture the processor sends one of zeros that nothing sees.
        count = max(images, 1)
        mask = torch.full((1, prompt_tokens, count), int(images > 0))
        pixels = torch.randn(1, count, 3, self._size, self._size, dtype=self._dtype)
        return {"input_ids": ids.to(DEVICE), "attention_mask": torch.ones_like(ids, device=DEVICE),
                "image_attention_mask": mask.to(DEVICE), "pixel_values": pixels.to(DEVICE)}

    def _token_times(self, inputs: dict[str, torch.Tensor], new_tokens: int) -> list[float]:
        """When the prompt was handed over, and when each new token was there."""
        clock = Clock()
        self._model.generate(**inputs,
                             max_new_tokens=new_tokens,
                             min_new_tokens=new_tokens,
                             do_sample=False,
                             streamer=clock)
        return clock.times

    def decode(self, new_tokens: int) -> float:
        """Of one token after the first: the prompt and the picture that generate() wants are not in
        it."""
        times = self._token_times(self._inputs(5, 0), new_tokens)
        return (times[-1] - times[1]) / (new_tokens - 1)

    def prefill(self, prompt_tokens: int, images: int) -> float:
        inputs = self._inputs(prompt_tokens, images)
        start = time.perf_counter()
        return self._token_times(inputs, 1)[-1] - start

    def vision(self) -> float:
        pixels = self._inputs(1, 1)["pixel_values"][0]
        model = self._model.model
        wait_for_device()
        start = time.perf_counter()
        hidden = model.vision_model(pixel_values=pixels).last_hidden_state
        if model.config.use_resampler:
            model.perceiver_resampler(hidden)
        wait_for_device()
        return time.perf_counter() - start


def main() -> None:
    facts: dict[str, Any] = {
        "transformers": transformers.__version__, "torch": torch.__version__, "device": DEVICE
    }
    if DEVICE == "cuda":
        facts["read_bandwidth"] = read_bandwidth()
        torch.cuda.empty_cache()
    start = time.perf_counter()
    with torch.inference_mode():
        worker = Worker(sys.argv[1], DTYPES[sys.argv[2]])
        facts["load_seconds"] = time.perf_counter() - start
        worker.prefill(4, 1)  # reads all weights, starts the threads
        worker.decode(8)
        print(json.dumps(facts), flush=True)
        for line in sys.stdin:
            job: dict[str, Any] = json.loads(line)
            print(json.dumps({"seconds": getattr(worker, job.pop("do"))(**job)}), flush=True)


if __name__ == "__main__":
    main()
