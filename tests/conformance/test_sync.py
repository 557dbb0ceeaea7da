# SPDX-License-Identifier: Apache-2.0
"""POST /predictions, answered when it has ended: cases 43-62."""

import concurrent.futures
import datetime
import http.client
import json
import re

import pytest

from cases import case
from client import PICTURE, data_uri, inputs, png, request


def assert_succeeded(answer):
    assert answer.succeeded, answer
    return answer.json


@case(43,
      "c",
      "a valid request succeeds, with an id of coglet's form and predict_time",
      any_engine=True)
def test_success(server):
    body = assert_succeeded(server.post(request("hello")))
    assert re.fullmatch("pred_[0-9a-f]+", body["id"])
    assert body["metrics"]["predict_time"] >= 0


@case("43b", "c", "the output is what the engine said")
@pytest.mark.parametrize("output, wanted", [("string", "a-0a-1"), ("stream", ["a-0", "a-1"])])
def test_output(start, output, wanted):
    assert start(output=output).predict("[chunks=2]a")["output"] == wanted


@case(44, "c", "a given id is sent back", any_engine=True)
def test_own_id(server):
    assert assert_succeeded(server.post(request(id="my-id")))["id"] == "my-id"


@case(45, "c", "what the engine writes to stdout and stderr is in logs, in order")
def test_logs(server):
    lines = server.predict("[log=one][err=two][log=three]x")["logs"]
    assert [line for line in lines.splitlines()
            if line in ("one", "two", "three")] == ["one", "two", "three"]


@case(46, "c", "the engine's metrics stand beside predict_time")
def test_metrics(server):
    metrics = server.predict('[metric=tokens:3][metric=kind:"fast"][metric=ok:true]x')["metrics"]
    assert (metrics["tokens"], metrics["kind"], metrics["ok"]) == (3, "fast", True)
    assert metrics["predict_time"] >= 0


@case("46b", "c", "a dot in a metric's name makes an object")
def test_nested_metrics(server):
    metrics = server.predict("[metric=time.load:1][metric=time.run:2]x")["metrics"]
    assert metrics["time"] == {"load": 1, "run": 2}


@case(
    47, "c",
    "a failure of the engine is 200 with status failed and its message, and the server is READY "
    "again"
)
def test_failure(server):
    answer = server.post(request("[fail=the lens is dirty]x"))
    assert (answer.status, answer.json["status"]) == (200, "failed")
    assert "the lens is dirty" in answer.json["error"]
    server.wait_status("READY", seconds=1)


@case("47b",
      "ours",
      "the error is the message itself",
      coglet="`Prediction failed: ` goes before it, also twice")
def test_error_text(server):
    assert server.post(request("[fail=the lens is dirty]x")).json["error"] == "the lens is dirty"


@case(48,
      "ours",
      "a failure keeps the logs and the output so far",
      coglet="logs are emptied, output is dropped",
      output="stream")
def test_failure_keeps_output(server):
    body = server.predict("[log=before][chunks=5][fail_after=2,broken]x")
    assert (body["status"], body["output"], body["logs"]) == ("failed", ["x-0", "x-1"], "before\n")


@case(49, "c", "a crash of the engine is 200 with status failed", fresh=True)
def test_crash(server):
    assert server.post(request("[crash]x")).json["status"] == "failed"


@case("49b", "ours", "after a crash the next prediction succeeds or health says DEFUNCT",
      coglet="UNHEALTHY and 409 for ever", fresh=True)
def test_after_a_crash(server):
    server.post(request("[crash]x"))
    answer = server.post(request())
    assert answer.status == 200 or server.status() == "DEFUNCT", (answer, server.status())


@case(50, "c", "no pieces at all: an empty list or an empty string")
@pytest.mark.parametrize("output, wanted", [("string", ""), ("stream", [])])
def test_no_pieces(start, output, wanted):
    body = start(output=output).predict("[chunks=0]x")
    assert (body["status"], body["output"]) == ("succeeded", wanted)


@case(51, "c", "text beyond ASCII survives, in order and whole")
def test_unicode(server):
    text = "日本 🙂 é \u2028 \\ \" \u0001"
    assert server.predict(text)["output"] == text


@case("51b", "c", "JSON escapes, surrogate pairs included, are what they stand for")
def test_escapes(server):
    body = f'{{"input":{{"image":"{PICTURE}","text":"\\ud83d\\ude42\\u00e9\\/"}}}}'
    answer = server.ask("POST", "/predictions", body, {"Content-Type": "application/json"})
    assert answer.json["output"] == "🙂é/"


@case(52, "c", "a data URI of 20 MB is accepted")
def test_large_input(server):
    picture = data_uri(png() + b"\0" * 15_000_000)
    answer = server.post({"input": inputs(image=picture)})
    assert_succeeded(answer)


@case("52b", "c", "an output of 5 MB arrives whole")
def test_large_output(server):
    assert server.predict("[big=5000000]x")["output"] == "x" * 5_000_000


@case(53, "c", "a body of 110 MB is 413, or the connection ends before it is all sent")
def test_too_large(server):
    try:
        answer = server.ask("POST", "/predictions", b'{"input":"' + b"x" * 110_000_000 + b'"}',
                            {"Content-Type": "application/json"})
        assert answer.status == 413
    except (BrokenPipeError, ConnectionResetError):
        pass
    assert server.status() == "READY"


@case(54, "c", "Expect: 100-continue is answered before the body is sent")
def test_expect_continue(server):
    body = json.dumps({"input": inputs(image=data_uri(png() + b"\0" * 1_500_000))}).encode()
    connection = http.client.HTTPConnection(server.host, server.port, timeout=10)
    connection.putrequest("POST", "/predictions")
    for name, value in (("Content-Type", "application/json"), ("Content-Length", len(body)),
                        ("Expect", "100-continue")):
        connection.putheader(name, value)
    connection.endheaders()
    assert connection.sock.recv(25, 2).startswith(b"HTTP/1.1 100 Continue")  # 2: MSG_PEEK
    connection.send(body)
    response = connection.getresponse()
    assert (response.status, json.loads(response.read())["status"]) == (200, "succeeded")


@case(55, "c", "a chunked body is accepted", any_engine=True)
def test_chunked(server):
    body = json.dumps(request()).encode()
    pieces = (body[at:at + 50] for at in range(0, len(body), 50))
    assert_succeeded(
        server.ask("POST", "/predictions", pieces, {"Content-Type": "application/json"}))


@case(56, "c", "two predictions in a row share nothing")
def test_no_leak(server):
    server.predict("[log=mine][metric=mine:1]a")
    body = server.predict("b")
    assert body["output"] == "b" and "mine" not in body["logs"] and "mine" not in body["metrics"]


@case(57, "c", "unknown keys beside input are ignored", any_engine=True)
def test_unknown_keys(server):
    assert_succeeded(server.post(request(created_at="2026-01-01T00:00:00Z", version="v", model="m",
                                         output_file_prefix="http://x/", other={"deep": [1]})))


@case(58, "c", "input null, absent or empty: an entry each for image and text", any_engine=True)
@pytest.mark.parametrize("body", [{"input": None}, {}, {"input": {}}])
def test_no_input(server, body):
    answer = server.post(body)
    assert answer.status == 422
    assert sorted(entry["loc"][2] for entry in answer.json["detail"]) == ["image", "text"]
    assert {entry["msg"] for entry in answer.json["detail"]} == {"Field required"}


@case(59, "c", "context of strings is accepted, of numbers or null is 422", any_engine=True)
def test_context(server):
    assert_succeeded(server.post(request(context={"a": "b"})))
    assert server.post(request(context={"a": 1})).status == 422
    assert server.post(request(context=None)).status == 422


@case(60, "c", "Prefer: wait changes nothing", any_engine=True)
def test_prefer_wait(server):
    assert_succeeded(server.post(request(), {"Prefer": "wait=5"}))


@case("60b",
      "ours",
      "respond-async is found among other preferences, in any case",
      coglet="the whole value must equal it")
@pytest.mark.parametrize("value",
                         ["respond-async, wait=5", "Respond-Async", "wait;x=1, respond-async"])
def test_prefer_list(server, value):
    assert server.post(request(), {"Prefer": value}).status == 202


@case(61, "c", "nothing in an answer is null", any_engine=True)
def test_no_nulls(server):
    for text in ("x", "[fail=no]x"):
        server.wait_status("READY")
        assert None not in server.post(request(text)).json.values()


@case(62, "ours", "created_at, started_at and completed_at are there, in order, with an offset",
      coglet="an answer has no times", any_engine=True)
def test_times(server):
    body = assert_succeeded(server.post(request()))
    moments = [
        datetime.datetime.fromisoformat(body[name])
        for name in ("created_at", "started_at", "completed_at")
    ]
    assert moments == sorted(moments)
    assert all(moment.utcoffset() is not None for moment in moments)


@case(175,
      "ours",
      "the answer holds the input, with defaults filled in",
      coglet="an answer has no input",
      any_engine=True)
def test_input_is_sent_back(server):
    body = assert_succeeded(server.post(request("hello")))
    assert (body["input"]["text"], body["input"]["top_p"]) == ("hello", 0.8)


@case(176,
      "ours",
      "connections are kept: 300 predictions over one, also after an error answer",
      coglet="409 between them")
def test_keep_alive(server):
    connection = http.client.HTTPConnection(server.host, server.port, timeout=10)
    for number in range(300):
        connection.request("POST", "/predictions", json.dumps(request()),
                           {"Content-Type": "application/json"})
        response = connection.getresponse()
        assert (number, response.status) == (number, 200)
        response.read()
        assert not response.will_close


@case(177, "ours", "eight clients on eight slots: each gets its own output, logs and metrics",
      coglet="a slot may not be free yet: 409", slots=8)
def test_parallel_clients(server):
    def ask(number):
        return server.post(request(f"[log=line {number}][metric=n:{number}]{number}")).json
    with concurrent.futures.ThreadPoolExecutor(8) as clients:
        for number, body in enumerate(clients.map(ask, range(200))):
            assert (body["output"], body["logs"],
                    body["metrics"]["n"]) == (str(number), f"line {number}\n", number)
