# SPDX-License-Identifier: Apache-2.0
"""Whether the real server answers real requests on this device: a line for each check.

    server_check.py BUNDLE [--device cuda]
"""

import argparse
import contextlib
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bench"))
from common import PICTURE, ROOT, Server, data_uri, new_picture

from ports import free_port

TOGETHER = 16
LENGTH = {"max_new_tokens": 16, "min_new_tokens": 16}


class Asked:
    """A running server, asked as a user would."""

    def __init__(self, server: Server) -> None:
        self._url = f"http://127.0.0.1:{server.port}"

    def call(self, path: str, body: Any = None, method: str = "POST",
             **headers: str) -> tuple[int, bytes]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self._url + path, data, {"Content-Type": "application/json", **headers}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=120) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def text(self, prompt: list[str], **inputs: Any) -> str:
        status, body = self.call("/predictions", {"input": {
            "prompt": prompt, **LENGTH, **inputs}})
        prediction = json.loads(body)
        if status != 200 or prediction["status"] != "succeeded":
            raise AssertionError(f"{status}: {body[:300]!r}")
        return "".join(prediction["output"])


def check(name: str, run: Callable[[], str]) -> bool:
    """`run` says what it saw; AssertionError says what is wrong."""
    try:
        print(f"ok    {name}: {run()}", flush=True)
        return True
    except Exception as error:  # the next check may tell more
        print(f"FAIL  {name}: {type(error).__name__}: {error}", flush=True)
        return False


def picture() -> str:
    return data_uri(PICTURE.read_bytes())


def few_shot(asked: Asked) -> str:
    shots = [part for number in range(4) for part in ("User: What is it?", new_picture(),
                                                      f"\nAssistant: thing {number}.\n")]
    return repr(asked.text([*shots, "User: What is it?", picture(), "\nAssistant:"]))


def stream(asked: Asked) -> str:
    prompt = ["Tell me about", picture()]
    status, body = asked.call("/predictions", {"input": {
        "prompt": prompt, **LENGTH}}, Accept="text/event-stream")
    events = [frame.split("\ndata: ", 1) for frame in body.decode().split("\n\n") if frame]
    pieces = [json.loads(data) for event, data in events if event == "event: output"]
    text = "".join(piece["chunk"] for piece in pieces)
    whole = asked.text(prompt)
    assert status == 200 and text == whole, f"streamed {text!r}, answered {whole!r}"
    return f"{len(pieces)} pieces"


def batch_is_alone(asked: Asked) -> str:
    prompts = [[f"Question {number}: " + "and so on " * number, new_picture()]
               for number in range(TOGETHER)]
    alone = [asked.text(prompt) for prompt in prompts]
    with ThreadPoolExecutor(TOGETHER) as pool:
        together = list(pool.map(asked.text, prompts))
    same = sum(a == b for a, b in zip(alone, together, strict=True))
    assert same == TOGETHER, f"only {same} of {TOGETHER} answers are those of a request alone"
    return f"{same} of {TOGETHER} answers"


def sampled(asked: Asked) -> str:
    inputs = {"decoding_strategy": "Top P Sampling", "temperature": 1.0, "top_p": 0.9, "seed": 7}
    first, again = (asked.text(["Once upon a time"], **inputs) for _ in range(2))
    assert first == again, f"one seed, two answers: {first!r}, {again!r}"
    return repr(first)


def cancel(asked: Asked) -> str:
    body = {"id": "kit-cancel", "input": {"prompt": ["Go on"], "max_new_tokens": 1024,
                                          "min_new_tokens": 1024}}
    status, _ = asked.call("/predictions", body, Prefer="respond-async")
    assert status == 202, status
    status, _ = asked.call("/predictions/kit-cancel/cancel")
    assert status == 200, status
    while True:
        now = json.loads(asked.call("/predictions/kit-cancel", method="GET")[1])
        if now["status"] not in ("starting", "processing"):
            break
    assert now["status"] in ("canceled", "succeeded"), now["status"]
    asked.text(["Still there?"])
    return now["status"]


def too_much_memory(bundle: Path, device: str) -> str:
    """A KV cache that no device has: set-up fails with a clear line, and the process lives on as
    Cog's does, until it is stopped."""
    port = free_port()
    process = subprocess.Popen(
        [str(ROOT / "scripts/idefics-server"), "serve", "--model", str(bundle), "--device", device,
         "--host", "127.0.0.1", "--port", str(port), "--kv-tokens", "2000000000"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        health: dict[str, Any] = {"status": "STARTING"}
        while health["status"] == "STARTING":
            assert process.poll() is None, f"it ended with {process.returncode}"
            time.sleep(0.2)
            with contextlib.suppress(OSError):
                url = f"http://127.0.0.1:{port}/health-check"
                health = json.loads(urllib.request.urlopen(url, timeout=5).read())
        assert health["status"] == "SETUP_FAILED", health
        return health["setup"]["logs"].strip().splitlines()[-1][:300]
    finally:
        process.terminate()
        assert process.wait(60) == 0, process.returncode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    with Server(options.bundle, "--device", options.device, "--queue", "64") as server:
        print(f"READY after {server.seconds_to_ready:.1f} s", flush=True)
        asked = Asked(server)
        passed = [
            check("text", lambda: repr(asked.text(["Hello, my name is"]))),
            check("picture", lambda: repr(asked.text(["This is", picture()]))),
            check("few-shot", lambda: few_shot(asked)),
            check("stream", lambda: stream(asked)),
            check("seed", lambda: sampled(asked)),
            check("batch = alone", lambda: batch_is_alone(asked)),
            check("cancel", lambda: cancel(asked)),
        ]
    passed.append(check("out of memory",
                        lambda: too_much_memory(options.bundle, options.device)))
    print(f"{sum(passed)} of {len(passed)} checks passed", flush=True)
    sys.exit(0 if all(passed) else 1)


if __name__ == "__main__":
    main()
