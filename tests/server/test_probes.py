# SPDX-License-Identifier: Apache-2.0
"""What platforms ask, in each state of the server; how it leaves; limits of time."""

import http.client
import json
import signal
import threading
import time

import pytest

from patience import wait_until
from test_queue_and_streams import ASYNC, put, state

READY_PATHS = ("/readyz", "/health", "/v2/health/ready", "/v2/models/idefics/ready", "/ping")
LIVE_PATHS = ("/livez", "/v2/health/live")


def statuses(server, paths):
    return {server.ask("GET", path)[0] for path in paths}


def model_of(server):
    return server.ask("GET", "/v1/models")[1]["data"][0]["id"]


def test_a_server_that_loads_is_alive_and_not_ready(start):
    server = start(FAKE_SETUP_DELAY="600")
    server.wait_until("STARTING")
    assert statuses(server, READY_PATHS) == {503} and statuses(server, LIVE_PATHS) == {200}
    assert "loading" in server.ask("GET", "/readyz")[1]


def test_runpod_is_told_that_it_loads(start):
    server = start(FAKE_SETUP_DELAY="600", PORT_HEALTH="5000")
    server.wait_until("STARTING")
    assert server.ask("GET", "/ping")[0] == 204


def test_a_busy_server_is_ready(start):
    server = start("--max-concurrency", "1")
    server.wait_until("READY")
    put(server, "a", "[sleep=600]a")
    wait_until(lambda: server.health() == "BUSY")
    assert statuses(server, READY_PATHS) == {200} and statuses(server, LIVE_PATHS) == {200}


def test_a_server_that_could_not_load_is_dead(start):
    server = start(FAKE_SETUP_FAIL="no such file")
    server.wait_until("SETUP_FAILED")
    assert statuses(server, READY_PATHS) == {503} and statuses(server, LIVE_PATHS) == {503}


def test_probes_need_no_key_and_the_rest_does(start):
    server = start("--api-key", "k")
    server.wait_until("READY")
    assert statuses(server, ("/readyz", "/livez", "/ping", "/v2/health/ready")) == {200}
    assert server.ask("GET", "/v2/models/idefics")[0] == 401


def test_the_open_inference_protocol_names_the_model(fake):
    name = "idefics"
    assert fake.ask("GET", f"/v2/models/{name}")[1]["name"] == name
    assert fake.ask("GET", "/v2/models/other")[0] == 404
    assert fake.ask("GET", "/v2/models/other/ready")[0] == 404
    assert fake.ask("GET", "/v2")[1]["version"]


@pytest.mark.parametrize("body, key", [
    ({"input": {"prompt": ["hello"]}}, "output"),
    ({"messages": [{"role": "user", "content": "hello"}]}, "error"),  # needs a tokenizer
    ({"prompt": "hello"}, "error"),
    ({"x": {"input": 1}}, "detail"),
    ([{"input": 1}], "detail"),
])
def test_invocations_go_where_their_body_belongs(fake, body, key):
    answer = fake.ask("POST", "/invocations", body)[1]
    assert key in answer, answer


def test_a_server_that_leaves_serves_until_its_delay_is_over(start):
    server = start("--drain-delay", "600", "--max-concurrency", "2")
    server.wait_until("READY")
    connection = server.connect()
    connection.request("GET", "/livez")
    connection.getresponse().read()
    server.process.send_signal(signal.SIGTERM)
    wait_until(lambda: server.ask("GET", "/readyz")[0] == 503)
    assert "about to stop" in server.ask("GET", "/readyz")[1]
    assert statuses(server, LIVE_PATHS) == {200}
    connection.request("POST", "/predictions", json.dumps({"input": {"prompt": ["x"]}}),
                       {"Content-Type": "application/json"})
    answer = connection.getresponse()
    assert answer.status == 200 and answer.getheader("Connection") == "close"
    assert json.loads(answer.read())["status"] == "succeeded"
    other = start("--drain-delay", "1")
    other.wait_until("READY")
    begun = time.monotonic()
    assert other.stop() == 0 and time.monotonic() - begun >= 1


def test_a_draining_server_refuses_on_an_open_port(start, hold):
    server = start("--max-concurrency", "2")
    server.wait_until("READY")
    put(server, "a", f"[hold=0,{hold}]a")
    wait_until(lambda: state(server, "a") == "processing")
    server.process.send_signal(signal.SIGTERM)
    wait_until(lambda: server.ask("GET", "/readyz")[0] == 503)
    connection = server.connect()
    connection.request("POST", "/predictions", json.dumps({"input": {"prompt": ["x"]}}),
                       {"Content-Type": "application/json"})
    answer = connection.getresponse()
    assert answer.status == 503 and answer.getheader("Connection") == "close"
    assert int(answer.getheader("Retry-After")) >= 1
    assert state(server, "a") == "processing"
    hold.touch()
    assert server.wait() == 0


def test_busy_says_when_to_come_back(start):
    server = start("--max-concurrency", "1", "--queue", "1")
    server.wait_until("READY")

    def refused():
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.request("POST", "/predictions", json.dumps({"input": {"prompt": ["x"]}}),
                           {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 409
        return int(answer.getheader("Retry-After"))
    for name in "abc":  # each runs for two seconds, the last one until the test is over
        put(server, name, "[sleep=600]a" if name == "c" else "[sleep=2]a")
        wait_until(lambda name=name: state(server, name) == "processing")
    put(server, "d", "x")
    assert 2 <= refused() <= 60


def test_what_waits_too_long_for_a_slot_fails(start):
    server = start("--max-concurrency", "1", "--queue", "4", "--queue-timeout", "0.5")
    server.wait_until("READY")
    put(server, "a", "[sleep=600]a")
    put(server, "b", "b")
    begun = time.monotonic()
    connection = server.connect()
    connection.request("POST", "/predictions", json.dumps({"input": {"prompt": ["x"]}}),
                       {"Content-Type": "application/json"})
    answer = connection.getresponse()
    assert answer.status == 503 and answer.getheader("Retry-After") and time.monotonic() > begun
    assert "--queue-timeout" in json.loads(answer.read())["error"]
    wait_until(lambda: state(server, "b") == "failed")
    assert state(server, "a") == "processing"


def test_what_runs_too_long_is_cancelled_and_fails(start):
    server = start("--max-concurrency", "1", "--queue", "4", "--request-timeout", "0.5")
    server.wait_until("READY")
    waiting = []
    thread = threading.Thread(target=lambda: waiting.append(
        server.predict("/predictions/a", "PUT", prompt=["[sleep=600]a"])))
    thread.start()
    wait_until(lambda: server.ask("GET", "/predictions/a")[0] == 200)  # it runs, or has ended
    put(server, "b", "[sleep=600]b")
    thread.join()
    status, body = waiting[0]
    assert status == 200 and body["status"] == "failed" and "--request-timeout" in body["error"]
    wait_until(lambda: state(server, "b") == "failed")
    assert server.health() == "READY"
    assert server.predict(prompt=["x"])[1]["status"] == "succeeded"


def test_a_proxy_says_how_long_it_waits(start):
    server = start("--max-concurrency", "1", "--queue", "4")
    server.wait_until("READY")
    long = {"input": {"prompt": ["[sleep=30]x"]}}
    status, body = server.ask("POST", "/predictions", long,
                              **{"X-Envoy-Expected-Rq-Timeout-Ms": "300"})
    assert status == 200 and body["status"] == "failed" and "Envoy" in body["error"]
    for nonsense in ("soon", "-1", "0", ""):
        assert server.ask("POST", "/predictions", {"input": {"prompt": ["x"]}},
                          **{"X-Envoy-Expected-Rq-Timeout-Ms": nonsense})[1][
                              "status"] == "succeeded"


def test_the_times_of_asynchronous_predictions_count_too(start):
    server = start("--request-timeout", "0.3")
    server.wait_until("READY")
    assert server.predict(_headers=ASYNC, prompt=["[sleep=600]a"])[0] == 202
    wait_until(lambda: server.ask("GET", "/health-check")[1]["concurrency"]["current"] == 0)
