# SPDX-License-Identifier: Apache-2.0
"""Vertex AI's contract for custom containers, played by its variables."""

import os
import subprocess

import pytest

from conftest import FAKE_SERVER, Server
from ports import free_port

HEALTH, PREDICT = "/its/health", "/v1/endpoints/7/deployedModels/9:predict"


@pytest.fixture
def vertex(start):
    server = start("--max-concurrency", "2", AIP_HEALTH_ROUTE=HEALTH, AIP_PREDICT_ROUTE=PREDICT)
    server.wait_until("READY")
    return server


def predict(server, **body):
    return server.ask("POST", PREDICT, body)


def test_the_port_is_the_platforms():
    port = free_port()
    process = subprocess.Popen([FAKE_SERVER], stderr=subprocess.DEVNULL,
                               env={**os.environ, "AIP_HTTP_PORT": str(port), "PORT": "1"})
    server = Server.__new__(Server)
    server.port, server.process, server.log = port, process, []
    try:
        server.wait_until("READY")
    finally:
        process.terminate()
        assert process.wait(timeout=60) == 0


def test_health_is_readiness(start):
    server = start(FAKE_SETUP_DELAY="600", AIP_HEALTH_ROUTE=HEALTH)
    server.wait_until("STARTING")
    assert server.ask("GET", HEALTH)[0] == 503
    ready = start("--api-key", "k", AIP_HEALTH_ROUTE=HEALTH, AIP_PREDICT_ROUTE=PREDICT)
    ready.wait_until("READY")
    assert ready.ask("GET", HEALTH)[0] == 200  # without a key
    assert predict(ready, instances=[{"prompt": ["a"]}])[0] == 401


def test_instances_become_predictions_in_their_order(vertex):
    prompts = [f"[sleep={0.2 if i == 0 else 0}]{i}" for i in range(7)]
    single = [vertex.predict(prompt=[prompt])[1]["output"] for prompt in prompts]
    status, answer = predict(vertex, instances=[{"prompt": [prompt]} for prompt in prompts])
    assert (status, answer) == (200, {"predictions": single})
    assert len(set(single)) == 7


def test_parameters_count_for_all_and_an_instance_may_differ(vertex):
    _, plain = predict(vertex, instances=[{"prompt": ["a"]}, {"prompt": ["b"]}])
    status, given = predict(vertex, instances=[{"prompt": ["a"]}, {}], parameters={
        "prompt": ["b"], "max_new_tokens": 9})
    assert status == 200 and given == plain


@pytest.mark.parametrize("body, told", [
    ({}, "instances"), ({"instances": []}, "instances"),
    ({"instances": {"prompt": "a"}}, "instances"),
    ({"instances": [{"prompt": ["a"]}] * 129}, "128"), ({"instances": ["a"]}, "instances[0]"),
    ({"instances": [{"prompt": ["a"]}, {"prompt": ["a"], "max_new_tokens": "many"}]},
     "instances[1]"),
    ({"instances": [{"prompt": ["a"]}], "parameters": 1}, "parameters")])
def test_what_is_no_request_is_refused_whole(vertex, body, told):
    status, answer = vertex.ask("POST", PREDICT, body)
    assert status == 422 and told in answer["error"]


def test_one_failure_is_the_answer(vertex):
    status, answer = predict(vertex, instances=[{"prompt": ["a"]},
                                                {"prompt": ["http://127.0.0.1:1/a.png"]}])
    assert status == 400 and answer["error"].startswith("instances[1]: ")
    assert vertex.health() == "READY"
