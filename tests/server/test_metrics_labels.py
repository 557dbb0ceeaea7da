# SPDX-License-Identifier: Apache-2.0
"""Requests by API and by why they were refused, downloads by how they ended, streams, which build
and model run, and where the metrics page stands."""

import json
import threading

import pytest

from conftest import ASSETS, ROOT, Server, data_uri
from patience import wait_until
from ports import free_port
from test_metrics import page, samples, value
from test_queue_and_streams import put, state

TOKENIZER = str(ROOT / "weights/demo/tokenizer.model")
KEY = {"Authorization": "Bearer k"}
VERTEX = "/its/predict"
PICTURE = ASSETS / "several.jpg"

# Where each API is asked, a good body, and one that it refuses.
APIS = {
    "cog": ("/predictions", {"input": {"prompt": ["x"]}}, {"input": {"prompt": 7}}),
    "replicate": ("/v1/predictions", {"input": {"prompt": ["x"]}}, {"input": {"prompt": 7}}),
    "openai": ("/v1/completions", {"model": "*", "prompt": "x"}, {"model": "*", "prompt": 7}),
    "tgi": ("/generate", {"inputs": "x"}, {"inputs": 7}),
    "vertex": (VERTEX, {"instances": [{"prompt": ["x"]}]}, {"instances": []}),
}


def sums(server, family):
    """{(api, the other label): count} of what is not 0."""
    found = {}
    for (name, labels), count in samples(page(server)).items():
        if name == f"idefics_{family}_total" and count:
            named = dict(labels)
            found[named.pop("api"), *named.values()] = count
    return found


@pytest.fixture(scope="module")
def keyed():
    server = Server("--api-key", "k", "--served-model-name", "*", "--max-body-bytes", "2000",
                    FAKE_TOKENIZER=TOKENIZER, AIP_PREDICT_ROUTE=VERTEX)
    server.wait_until("READY")
    yield server
    assert server.stop() == 0


@pytest.mark.parametrize("api", APIS)
def test_each_api_counts_its_own(keyed, api):
    path, good, bad = APIS[api]

    def of_api(family):
        return {key[1]: count for key, count in sums(keyed, family).items() if key[0] == api}
    assert keyed.ask("POST", path, good, **KEY)[0] in (200, 201)
    wait_until(lambda: of_api("requests_finished") == {"eos": 1})
    assert keyed.ask("POST", path, bad, **KEY)[0] == (400 if api == "openai" else 422)
    assert keyed.ask("POST", path, good)[0] == 401
    assert keyed.ask("POST", path, {"long": "x" * 3000}, **KEY)[0] == 413
    refused = of_api("requests_rejected")
    assert refused == {"invalid": 1, "unauthorized": 1, "too_large": 1}
    assert value(keyed, "idefics_request_duration_seconds_count", api=api) == 1


def test_who_asks_for_no_prediction_is_not_counted_as_refused(keyed):
    before = sums(keyed, "requests_rejected")
    for path in ("/v1/models", "/predictions/x", "/nowhere"):
        assert keyed.ask("GET", path)[0] == 401
    assert sums(keyed, "requests_rejected") == before


def test_what_is_sent_is_finished_or_rejected(start):
    server = start("--max-concurrency", "1", "--queue", "2")
    server.wait_until("READY")
    put(server, "a", "[sleep=600]a")
    put(server, "b", "b")
    put(server, "c", "c")
    assert server.predict(prompt=["x"])[0] == 409
    assert server.predict(prompt=["y"])[0] == 409
    assert server.ask("POST", "/predictions", "{")[0] == 400
    assert server.ask("POST", "/predictions", {"id": "a", "input": {"prompt": ["x"]}})[0] == 409
    server.ask("POST", "/predictions/a/cancel")
    wait_until(lambda: [state(server, name) for name in "abc"] == ["canceled", *["succeeded"] * 2])
    assert server.predict(prompt=["[fail]x"])[0] == 200
    assert sums(server, "requests_finished") == {
        ("cog", "canceled"): 1, ("cog", "eos"): 2, ("cog", "error"): 1}
    assert sums(server, "requests_rejected") == {
        ("cog", "queue_full"): 2, ("cog", "invalid"): 1, ("cog", "id_in_flight"): 1}


def test_what_waits_too_long_is_rejected(start):
    server = start("--max-concurrency", "1", "--queue", "2", "--queue-timeout", "0.5")
    server.wait_until("READY")
    for name in "abc":
        put(server, name, "[sleep=600]x")
    wait_until(lambda: [state(server, name) for name in "bc"] == ["failed", "failed"])
    assert sums(server, "requests_finished") == {}
    assert sums(server, "requests_rejected") == {("cog", "queue_timeout"): 2}


def test_what_comes_too_early_or_too_late_is_rejected(start, hold):
    server = start("--drain-delay", "0", "--drain-timeout", "600", FAKE_SETUP_HOLD=str(hold))
    server.wait_until("STARTING")
    assert server.predict(prompt=["x"])[0] == 503
    hold.touch()
    server.wait_until("READY")
    put(server, "a", "[sleep=600]a")
    wait_until(lambda: state(server, "a") == "processing")
    assert server.ask("POST", "/shutdown")[0] == 200
    wait_until(lambda: value(server, "idefics_server_state", state="draining") == 1)
    wait_until(lambda: server.predict(prompt=["x"])[0] == 503)
    refused = sums(server, "requests_rejected")
    assert refused[("cog", "not_ready")] == 1 and refused[("cog", "draining")] == 1
    server.ask("POST", "/predictions/a/cancel")


def test_what_there_is_no_room_for_is_rejected(start):
    server = start("--memory-budget", "6000000", "--body-timeout", "0.5",
                   FAKE_TOKENIZER=TOKENIZER)
    server.wait_until("READY")
    assert server.predict(prompt=["x" * 7_000_000])[0] == 503
    for length, path in (("1000000", "/predictions"), ("10", "/predictions"),
                         ("10", "/v1/chat/completions")):
        slow = server.connect()
        slow.putrequest("POST", path)
        slow.putheader("Content-Type", "application/json")
        slow.putheader("Content-Length", length)
        slow.endheaders(b"{")
        assert slow.getresponse().status == 408
    assert sums(server, "requests_rejected") == {
        ("cog", "no_memory"): 1, ("cog", "body_timeout"): 2, ("openai", "body_timeout"): 1}


@pytest.fixture
def two_clients(tmp_path):
    """Whose keys are a and b."""
    keys = tmp_path / "keys"
    keys.write_text("first:a\nsecond:b\n")
    return "--api-key-file", str(keys), "--served-model-name", "*"


def as_client(key):
    return {"Authorization": f"Bearer {key}"}


def test_a_client_has_so_many_at_once(start, two_clients):
    server = start(*two_clients, "--client-concurrency", "2", "--max-concurrency", "1", "--queue",
                   "9", FAKE_TOKENIZER=TOKENIZER)
    server.wait_until("READY")
    long = {"input": {"prompt": ["[sleep=30]x"]}}
    for name in ("one", "two"):
        assert server.ask("PUT", f"/predictions/{name}", long, Prefer="respond-async",
                          **as_client("a"))[0] == 202
    for path, body in (("/predictions", long), ("/v1/completions", {"model": "*", "prompt": "x"}),
                       ("/generate", {"inputs": "x"})):
        status, answer = server.ask("POST", path, body, **as_client("a"))
        assert status == 429 and "--client-concurrency" in json.dumps(answer), path
    assert server.ask("PUT", "/predictions/other", long, Prefer="respond-async",
                      **as_client("b"))[0] == 202
    assert sums(server, "requests_rejected") == {
        (api, "rate_limited"): 1 for api in ("cog", "openai", "tgi")}
    for name in ("one", "two", "other"):
        server.ask("POST", f"/predictions/{name}/cancel", **as_client("a"))


def test_a_client_comes_as_often_as_it_may(start, two_clients):
    server = start(*two_clients, "--client-rate", "0.001", FAKE_TOKENIZER=TOKENIZER)
    server.wait_until("READY")
    body = {"model": "*", "prompt": "x"}
    assert server.ask("POST", "/v1/completions", body, **as_client("a"))[0] == 200
    connection = server.connect()
    connection.request("POST", "/v1/completions", json.dumps(body),
                       {"Content-Type": "application/json", **as_client("a")})
    answer = connection.getresponse()
    assert answer.status == 429 and b"--client-rate" in answer.read()
    assert 900 < int(answer.headers["Retry-After"]) <= 1000
    assert server.ask("POST", "/v1/completions", body, **as_client("b"))[0] == 200
    assert sums(server, "requests_rejected") == {("openai", "rate_limited"): 1}


def test_whoever_asks_a_broken_model_is_rejected(start):
    server = start()
    server.wait_until("READY")
    assert server.predict(prompt=["[crash]x"])[1]["status"] == "failed"
    assert server.predict(prompt=["x"])[0] == 503
    assert sums(server, "requests_rejected") == {("cog", "broken"): 1}
    assert server.stop() == 1


def outcomes(server):
    found = {}
    for (name, labels), count in samples(page(server)).items():
        if name == "idefics_image_fetch_seconds_count" and count:
            found[dict(labels)["outcome"]] = count
    return found


def test_downloads_are_counted_by_how_they_ended(start, pictures):
    server = start("--allow-private-urls", "--image-hosts", "127.0.0.1", "--max-image-bytes",
                   str(PICTURE.stat().st_size))
    server.wait_until("READY")

    def ask(*urls):
        return server.predict(prompt=["x", *urls])[1]["status"]
    assert ask(pictures.url + "/several.jpg") == "succeeded"
    assert ask(pictures.url + "/none.png") == "failed"
    assert ask(f"http://127.0.0.1:{free_port()}/x.png") == "failed"
    assert ask("http://example.invalid/x.png") == "failed"
    elsewhere = pictures.url.replace("127.0.0.1", "localhost") + "/several.jpg"
    assert ask(f"{pictures.url}/to?{elsewhere}") == "failed"
    assert outcomes(server) == {"ok": 1, "http_error": 1, "network": 1, "denied": 2}
    size = PICTURE.stat().st_size
    # What came with the answers that were no pictures are bytes, too.
    assert size <= value(server, "idefics_image_fetch_bytes_total") < size + 100


def test_a_download_that_takes_too_long_is_counted_as_such(start, pictures):
    server = start("--allow-private-urls", "--fetch-timeout", "1")
    server.wait_until("READY")
    assert server.predict(prompt=["x", pictures.url + "/slow"])[1]["status"] == "failed"
    assert outcomes(server) == {"timeout": 1}
    # What it sent until then are bytes, too.
    assert value(server, "idefics_image_fetch_bytes_total") <= 100


def test_a_download_that_is_too_large_ends_the_others(start, pictures):
    server = start("--allow-private-urls", "--max-image-bytes", "100")
    server.wait_until("READY")
    urls = [pictures.url + "/slow", pictures.url + "/several.jpg"]
    assert server.predict(prompt=["x", *urls])[1]["status"] == "failed"
    assert outcomes(server) == {"too_large": 2} or outcomes(server) == {"too_large": 1,
                                                                        "canceled": 1}


def test_open_streams_are_counted(fake):
    connection = fake.connect()
    connection.request("POST", "/predictions",
                       json.dumps({"input": {"prompt": ["[sleep=600]x"]}}),
                       {"Content-Type": "application/json", "Accept": "text/event-stream"})
    answer = connection.getresponse()
    assert answer.status == 200 and value(fake, "idefics_event_streams") == 1
    connection.close()
    answer.close()
    wait_until(lambda: value(fake, "idefics_event_streams") == 0)


def test_what_is_no_request_is_counted_as_an_answer(start):
    server = start()
    server.wait_until("READY")
    connection = server.connect()
    connection.connect()
    connection.sock.sendall(b"no request\r\n\r\n")
    assert connection.sock.recv(20).startswith(b"HTTP/1.1 400")
    assert value(server, "idefics_http_requests_total", method="OTHER", route="other",
                 code="400") == 1


def test_metrics_may_have_a_port_of_their_own(start, hold):
    port = free_port()
    server = start("--metrics-port", str(port), "--api-key", "k")
    server.wait_until("READY")
    assert server.ask("GET", "/metrics", **KEY)[0] == 404
    assert server.ask("POST", "/predictions", {"input": {"prompt": ["x"]}}, **KEY)[0] == 200
    metrics = Server.__new__(Server)
    metrics.port = port
    assert value(metrics, "idefics_ready") == 1
    assert value(metrics, "idefics_requests_finished_total", api="cog", finish_reason="eos") == 1
    assert [metrics.ask("GET", path)[0] for path in ("/livez", "/readyz")] == [200, 200]
    assert metrics.ask("POST", "/predictions", {"input": {"prompt": ["x"]}})[0] == 404
    put_by_key = threading.Thread(target=lambda: server.ask(
        "POST", "/predictions", {"input": {"prompt": [f"[hold=0,{hold}]x"]}}, **KEY))
    put_by_key.start()
    wait_until(lambda: value(metrics, "idefics_requests_running") == 1)
    server.process.terminate()
    wait_until(lambda: value(metrics, "idefics_server_state", state="draining") == 1)
    assert metrics.ask("GET", "/readyz")[0] == 503
    hold.touch()
    put_by_key.join()
    assert server.wait() == 0


def test_a_port_that_is_taken_ends_the_start(start):
    port = free_port()
    server = start("--metrics-port", str(port), port=port)
    assert server.wait() == 1
    assert any(str(port) in line for line in server.log)


def test_others_names_can_be_left_out(start):
    server = start("--metrics-alias", "none")
    server.wait_until("READY")
    assert "vllm:" not in page(server) and "idefics_requests_running" in page(server)


def test_the_program_says_which_it_is(start):
    server = start(IDEFICS_REVISION="abc")
    server.wait_until("READY")
    infos = {name: dict(labels) for (name, labels) in samples(page(server))
             if name.endswith("_info")}
    version = (ROOT / "VERSION").read_text().split("\n", maxsplit=1)[0].split()[1]
    build = infos["idefics_build_info"]
    assert build["version"] == version and build["revision"] == "abc"
    assert build["torch"].startswith("2.") and build["cuda"] == "none"
    assert infos["idefics_model_info"]["weights"] == "none"


def test_the_model_says_which_it_is_and_its_cache_what_it_holds(demo):
    labels = next(dict(labels) for (name, labels) in samples(page(demo))
                  if name == "idefics_model_info")
    assert labels["device"] == "cpu" and labels["format"] == "6"
    assert {labels["weights"], labels["dtype"]} <= {"f32", "bf16", "f16", "int8", "int4"}

    def held():
        return [value(demo, "idefics_image_cache_entries", state=state)
                for state in ("pinned", "cached")]
    body = demo.predict(prompt=[data_uri(PICTURE), "What?"], max_new_tokens=16)[1]
    assert body.get("status") == "succeeded", body
    wait_until(lambda: held()[0] == 0)
    assert 1 <= held()[1] <= value(demo, "idefics_image_cache_capacity_entries")
