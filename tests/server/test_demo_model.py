# SPDX-License-Identifier: Apache-2.0
"""The demo model behind HTTP and on the command line gives the same answers in both."""

import contextlib
import http.client
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from conftest import ASSETS, SERVER, data_uri
from patience import wait_until

SCENE = ASSETS / "cat.jpg"
QUESTION = "What is in this image?"


def prompt(*images):
    return ["User: " + QUESTION, *images, "<end_of_utterance>", "\nAssistant:"]


@pytest.fixture
def bundle():
    named = os.environ.get("IDEFICS_DEMO_BUNDLE")
    if not named:
        pytest.skip("IDEFICS_DEMO_BUNDLE names no bundle: scripts/test.sh exports one")
    return named


@pytest.fixture
def scene():
    if not SCENE.is_file():
        pytest.skip("tests/assets/cat.jpg is not there: scripts/train_demo.py assets writes it")
    return data_uri(SCENE)


def test_prompt_and_image_text_give_the_same_answer(demo, scene):
    by_prompt = demo.predict(prompt=prompt(scene))[1]
    by_text = demo.predict(image=scene, text=QUESTION)[1]
    assert by_prompt["status"] == by_text["status"] == "succeeded"
    assert by_prompt["output"].strip() == by_text["output"] != ""
    assert by_text["metrics"]["image_count"] == 1
    full = demo.predict(prompt=prompt(scene), return_full_text=True)[1]["output"]
    assert QUESTION in full and full.endswith(by_prompt["output"])


def test_an_image_by_url_is_the_image_by_data_uri(demo, pictures, scene):
    by_url = demo.predict(prompt=prompt(f"{pictures.url}/cat.jpg"))[1]
    assert by_url["status"] == "succeeded", by_url
    assert by_url["output"] == demo.predict(prompt=prompt(scene))[1]["output"]
    assert "cat" in by_url["output"]


def test_a_prompt_of_two_images_is_answered(demo, pictures):
    images = [f"{pictures.url}/{name}" for name in ("cat.jpg", "count.jpg")]
    body = demo.predict(prompt=prompt(*images))[1]
    assert body["status"] == "succeeded" and body["metrics"]["image_count"] == 2


def test_text_only_prompts_are_answered(demo):
    body = demo.predict(prompt=["User: Hello.", "<end_of_utterance>", "\nAssistant:"])[1]
    assert body["status"] == "succeeded" and body["metrics"]["image_count"] == 0


def test_a_broken_image_fails_the_prediction_and_the_server_goes_on(demo):
    body = demo.predict(image="data:image/png;base64,aGVsbG8=", text="hi")[1]
    assert body["status"] == "failed" and body["error"]
    assert demo.health() == "READY"


def test_event_stream_pieces_join_to_the_output(demo):
    connection = demo.connect()
    connection.request("POST", "/predictions", json.dumps({"input": {"prompt": prompt()}}),
                       {"Content-Type": "application/json", "Accept": "text/event-stream"})
    events = [
        block.split("\n")
        for block in connection.getresponse().read().decode().strip().split("\n\n")
    ]
    data = [(lines[0].removeprefix("event: "), json.loads(lines[1].removeprefix("data: ")))
            for lines in events]
    pieces = "".join(value["chunk"] for kind, value in data if kind == "output")
    assert data[0][0] == "start" and data[-1][0] == "completed"
    assert data[-1][1]["output"] == pieces


def test_jsonl_agrees_with_http_and_goes_on_where_it_stopped(demo, bundle, tmp_path):
    lines = [{"id": f"q{i}", "prompt": prompt(), "max_new_tokens": i + 1} for i in range(12)]
    lines.append({"id": "bad", "text": "no image"})
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    command = [
        SERVER, "predict", "--model", bundle, "--jsonl", tmp_path / "in.jsonl", "-o",
        tmp_path / "out.jsonl", "--details"
    ]
    subprocess.run(command, check=True)
    whole = (tmp_path / "out.jsonl").read_text()
    answers = [json.loads(line) for line in whole.splitlines()]
    assert [answer["id"] for answer in answers] == [line["id"] for line in lines]
    assert answers[-1]["status"] == "failed" and "Field required" in answers[-1]["error"]
    for answer, line in zip(answers[7:12], lines[7:12], strict=True):
        assert answer["output"] == demo.predict(prompt=line["prompt"],
                                                max_new_tokens=line["max_new_tokens"])[1]["output"]
        assert len(answer["logprobs"]) == len(answer["token_ids"])
        assert all(len(top) == 5 for top in answer["logprobs"])
    (tmp_path / "out.jsonl").write_text("".join(whole.splitlines(keepends=True)[:5])
                                        + whole.splitlines()[5][:9])
    subprocess.run(command, check=True)
    again = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [answer["id"] for answer in again] == [line["id"] for line in lines]
    assert [answer.get("output")
            for answer in again] == [answer.get("output") for answer in answers]


def test_a_weight_file_that_is_cut_short_ends_the_server_with_a_line_that_names_it(
        start, bundle, tmp_path):
    copy = shutil.copytree(bundle, tmp_path / "bundle")
    server = start("--model", str(copy), "--device", "cpu", XDG_CACHE_HOME=str(tmp_path))
    server.wait_until("READY", 120)
    assert server.predict(prompt=["User: Hello."], max_new_tokens=8)[1]["status"] == "succeeded"
    weights = sorted(copy.glob("weights-*.safetensors"))
    for file in weights:
        os.truncate(file, 0)
    with contextlib.suppress(OSError, http.client.HTTPException):  # its connection breaks
        server.predict(prompt=["User: Hello."], max_new_tokens=8)
    assert server.wait() == 1
    lines = [json.loads(line) for line in server.log if "can no longer be read" in line]
    assert len(lines) == 1 and lines[0]["severity"] == "ERROR"
    assert any(str(file) in lines[0]["message"] for file in weights)


@pytest.mark.skipif(Path("/proc/sys/vm/overcommit_memory").read_text().strip() == "1",
                    reason="this system promises more memory than it has")
def test_a_kv_cache_that_cannot_be_held_is_told_with_its_flag(start, bundle):
    server = start("--model", bundle, "--kv-tokens", "2000000000")
    server.wait_until("SETUP_FAILED", 60)
    logs = server.ask("GET", "/health-check")[1]["setup"]["logs"]
    assert "2000000000 tokens of KV cache" in logs and "--kv-tokens" in logs, logs


def test_what_the_loaded_library_does_is_in_the_programs_log(start, bundle):
    """Its lines go through the program's log, in its form: one of them says where weights are."""
    server = start("--model", bundle, "--huge-pages", "true")
    server.wait_until("READY", 120)
    told = ("The weights are on huge pages", "but this system has none")

    def lines():
        return [json.loads(line)["message"] for line in list(server.log)]

    wait_until(lambda: any(words in line for line in lines() for words in told),
               what="a line of the library")
    assert not [line for line in lines() if "exception" in line]
