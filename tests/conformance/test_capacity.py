# SPDX-License-Identifier: Apache-2.0
"""Slots, idempotent PUT, cancel and clients that leave: cases 98-119."""

import concurrent.futures
import threading
import time
import urllib.parse

import pytest

from cases import case
from client import ASYNC, request
from patience import Pace, wait_until

BUSY = {"error": "At capacity - all prediction slots busy", "status": "failed"}
NOT_READY = {
    "error": "Setup has not finished yet. Wait until it has finished, or GET /health-check for "
             "status.",
    "status": "failed"
}


def start_async(server, prediction_id, text, hook=None):
    body = request(text, **({"webhook": hook.url} if hook else {}))
    answer = server.put(prediction_id, body, ASYNC)
    assert answer.status == 202, answer
    return answer


@case(98, "c", "a second prediction while the only slot is taken is 409, with coglet's body")
def test_busy(server):
    running = server.send("POST", "/predictions", request("[sleep=600]x", id="only"))
    server.wait_status("BUSY")
    answer = server.post(request())
    assert (answer.status, answer.json) == (409, BUSY)
    assert server.cancel("only") == 200
    assert running.answer().status == 200


@case(99,
      "c",
      "a valid request during setup, or after it failed, is 503 with coglet's body",
      fresh=True,
      ready=False,
      env={"FAKE_SETUP_DELAY": "2", "FAKE_SETUP_FAIL": "no"})
def test_not_ready(server):
    server.wait_listening()
    answer = server.post(request())
    assert (answer.status, answer.json) == (503, NOT_READY)
    server.wait_status("SETUP_FAILED")
    answer = server.post(request())
    assert (answer.status, answer.json) == (503, NOT_READY)


@case(100, "c", "PUT of a new id runs it under that id", any_engine=True)
def test_put(server):
    answer = server.put("put-1", request())
    assert (answer.status, answer.json["id"], answer.json["status"]) == (200, "put-1", "succeeded")


@case(101, "c", "an id in the body may equal the path's; another one is 422", any_engine=True)
def test_put_mismatch(server):
    answer = server.put("put-2", request(id="another"))
    assert answer.status == 422
    assert answer.json == {
        "detail": [{
            "loc": ["body", "id"], "type": "value_error",
            "msg": "prediction ID must match the ID supplied in the URL"
        }]
    }
    assert server.put("put-2", request(id="put-2")).status == 200


@case(102, "c", "an asynchronous PUT is 202 with id and status starting", any_engine=True)
def test_put_async(server):
    answer = start_async(server, "put-3", "x")
    assert (answer.json["id"], answer.json["status"]) == ("put-3", "starting")


@case(103, "c", "PUT of an id that runs is 202 with its snapshot, and it runs once")
@pytest.mark.parametrize("first", [ASYNC, {}], ids=["async", "sync"])
def test_put_again(server, hook, first):
    body = request("[sleep=600]x", webhook=hook.url)
    running = server.send("PUT", "/predictions/again", body, first)
    hook.wait_posts(1)
    for headers in (ASYNC, {}):
        answer = server.put("again", body, headers)
        assert (answer.status, answer.json["status"]) == (202, "processing")
        assert answer.json["input"]["text"] == "[sleep=600]x"
    assert server.cancel("again") == 200
    assert running.answer().status in (200, 202)
    hook.wait_completed()
    time.sleep(0.1)
    assert (hook.statuses().count("canceled"), hook.statuses().count("succeeded")) == (1, 0)


@case(104, "c", "PUT of an id that runs is 202 also when its input is wrong")
def test_put_again_with_wrong_input(server):
    start_async(server, "wrong", "[sleep=600]x")
    assert server.put("wrong", {"input": {"max_new_tokens": "many"}}).status == 202
    assert server.cancel("wrong") == 200


@case(105, "c", "PUT of another id while busy is 409")
def test_put_while_busy(server):
    start_async(server, "first", "[sleep=600]x")
    assert server.put("second", request()).status == 409
    assert server.cancel("first") == 200


@case(106, "c", "PUT of an id that has ended runs it again", any_engine=True)
def test_put_after_the_end(server):
    for _ in range(2):
        server.wait_status("READY")
        assert server.put("twice", request()).succeeded


@case(107, "ours", "200 racing PUTs with one id: one run, every answer 200 or 202, never 409",
      coglet="now and then one of them is 409", slots=1)
def test_racing_puts(server, hook):
    body = request("[sleep=600]x", webhook=hook.url)
    gate = threading.Barrier(50)

    def put(number):
        if number < 50:
            gate.wait()
        return server.put("race", body, ASYNC).status
    with concurrent.futures.ThreadPoolExecutor(50) as clients:
        assert set(clients.map(put, range(200))) == {202}
    assert server.cancel("race") == 200
    hook.wait_completed()
    time.sleep(0.1)
    assert (hook.statuses().count("canceled"), hook.statuses().count("succeeded")) == (1, 0)


@case(108, "c", "a percent-encoded id stands for itself, also with a slash", any_engine=True)
@pytest.mark.parametrize("encoded, plain", [("a%20b", "a b"), ("a%2Fb", "a/b"), ("%C3%A9", "é")])
def test_encoded_id(server, encoded, plain):
    answer = server.put(encoded, request())
    assert (answer.status, answer.json["id"]) == (200, plain)


@case("108c", "c", "a percent sign that begins no escape stands for itself", any_engine=True)
@pytest.mark.parametrize("wanted", ["a%", "a%zz", "%2"])
def test_lone_percent(server, wanted):
    answer = server.put(wanted, request())
    assert (answer.status, answer.json["id"]) == (200, wanted), answer


@case("108b", "c", "an id that is no UTF-8 is 400", any_engine=True)
def test_id_of_broken_utf8(server):
    assert server.put("%ff", request()).status == 400


@case(109, "c", "cancel of an unknown id is 404 with {}", any_engine=True)
def test_cancel_unknown(server):
    answer = server.ask("POST", "/predictions/nobody/cancel")
    assert (answer.status, answer.json) == (404, {})


@case("109b", "c", "cancel without an id is 404 with {}", any_engine=True)
def test_cancel_without_id(server):
    answer = server.ask("POST", "/predictions//cancel")
    assert (answer.status, answer.json) == (404, {})


@case("109c", "c", "cancel does not look at its body or content type", any_engine=True)
@pytest.mark.parametrize("body, kind", [("{bad", "application/json"), ("x", "text/plain")])
def test_cancel_with_body(server, body, kind):
    answer = server.ask("POST", "/predictions/nobody/cancel", body, {"Content-Type": kind})
    assert (answer.status, answer.json) == (404, {})


@case(110, "c",
      "cancel of an asynchronous prediction: {}, its webhook says canceled within 1 s, then READY")
def test_cancel_async(server, idle, hook):
    start_async(server, "cancel-1", "[sleep=600]x", hook)
    hook.wait_posts(1)
    time.sleep(0.2)
    with Pace(idle.health) as pace:
        answer = server.ask("POST", "/predictions/cancel-1/cancel")
        assert (answer.status, answer.json) == (200, {})
        assert hook.wait_completed()[-1].json["status"] == "canceled"
    assert pace.took < pace.slowness
    server.wait_status("READY", seconds=1)


@case(111, "c", "cancel of a synchronous prediction: its own request is answered 200 canceled")
def test_cancel_sync(server):
    running = server.send("PUT", "/predictions/cancel-2", request("[sleep=600]x"))
    server.wait_status("BUSY")
    time.sleep(0.2)
    assert server.cancel("cancel-2") == 200
    answer = running.answer()
    assert (answer.status, answer.json["status"]) == (200, "canceled")


@case(112, "c", "cancel three times in a row: each is 200 or 404")
def test_cancel_thrice(server):
    start_async(server, "cancel-3", "[sleep=600]x")
    time.sleep(0.2)
    assert {server.cancel("cancel-3") for _ in range(3)} <= {200, 404}
    server.wait_status("READY")
    assert server.cancel("cancel-3") == 404


@case(113, "c", "cancel of an ended prediction is 404", any_engine=True)
def test_cancel_ended(server):
    server.put("ended", request())
    server.wait_status("READY")
    assert server.cancel("ended") == 404


@case(
    114, "c",
    "a cancel during a step that cannot be interrupted takes effect after it, and is posted once")
def test_cancel_uninterruptible(server, hook):
    start_async(server, "stuck", "[block=5]x", hook)
    hook.wait_posts(1)
    assert server.cancel("stuck") == 200
    assert hook.wait_completed(30)[-1].json["status"] == "canceled"
    time.sleep(0.2)
    assert hook.statuses().count("canceled") == 1


@case(115,
      "hard",
      "cancel racing completion, 200 times: one terminal state each, the slot is always free again",
      coglet="the slot may stay taken for good",
      slots=1)
def test_cancel_races_the_end(server, hook):
    seen = set()
    for number in range(200):
        running = server.send("PUT", f"/predictions/end-{number}",
                              request("[sleep=0.002]x", webhook=hook.url))
        time.sleep(number % 5 / 1000)
        assert server.cancel(f"end-{number}") in (200, 404)
        answer = running.answer()
        assert answer.status == 200
        seen.add(answer.json["status"])
    assert seen <= {"succeeded", "canceled"}
    wait_until(lambda: sum(map(hook.statuses().count, ("succeeded", "canceled"))) == 200, 10,
               "200 last posts")
    assert {post.json["id"] for post in hook.posts} == {f"end-{number}" for number in range(200)}


@case("115b", "hard", "cancel racing the start, 200 times: the slot is always free again",
      coglet="the slot may stay taken for good", slots=1)
def test_cancel_races_the_start(server):
    for number in range(200):
        start_async(server, f"start-{number}", "[sleep=600]x")
        assert server.cancel(f"start-{number}") == 200
        server.wait_status("READY", seconds=1)


@case(116, "c", "a synchronous client that leaves cancels its prediction")
def test_disconnect(server):
    running = server.send("POST", "/predictions", request("[sleep=600]x"))
    server.wait_status("BUSY")
    time.sleep(0.3)
    running.close()
    server.wait_status("READY", seconds=10)


@case("116b", "hard", "clients that leave at once, 100 times: the slot is free within 1 s", slots=1,
      coglet="the slot may stay taken for good")
def test_disconnect_races_the_start(server):
    for number in range(100):
        running = server.send("POST", "/predictions", request("[sleep=600]x"))
        time.sleep(number % 4 / 1000)
        running.close()
        server.wait_status("READY", seconds=1)


@case(117, "c", "an asynchronous client that leaves does not cancel its prediction")
def test_async_disconnect(server, hook):
    exchange = server.send("PUT", "/predictions/gone", request("[sleep=0.5]x", webhook=hook.url),
                           ASYNC)
    exchange.answer()
    assert hook.wait_completed()[-1].json["status"] == "succeeded"


@case(118, "c", "after a cancel the next prediction succeeds and has nothing of the one before")
def test_after_a_cancel(server):
    start_async(server, "dirty", "[log=dirty][metric=dirty:1][sleep=600]x")
    time.sleep(0.3)
    server.cancel("dirty")
    server.wait_status("READY")
    body = server.predict("clean")
    assert (body["status"], body["output"]) == ("succeeded", "clean")
    assert "dirty" not in body["logs"] and "dirty" not in body["metrics"]


@case(119, "c", "five slots: five run, the sixth is 409, each has its own metrics", slots=5)
def test_five_slots(server, hold):
    running = [
        server.send("POST", "/predictions", request(f"[metric=n:{n}][hold=0,{hold}]{n}"))
        for n in range(5)
    ]
    server.wait_status("BUSY")
    refused = server.post(request())
    assert refused.status == 409 and "capacity" in refused.json["error"]
    hold.touch()
    for number, one in enumerate(running):
        body = one.answer().json
        assert (body["output"], body["metrics"]["n"]) == (str(number), number)


@case(199,
      "hard",
      "ids of any length and content neither touch a file nor lose a slot",
      coglet="300 bytes, NUL, emoji lose the slot for ever; ../ makes folders",
      fresh=True)
@pytest.mark.parametrize(
    "wanted",
    ["x" * 300, "x" * 4000, "a\0b", "🙂" * 80, "../../../tmp/cog-escape", "a\nb", "%", "\u202e"],
    ids=["300", "4000", "NUL", "emoji", "dots", "newline", "percent", "direction"])
def test_strange_ids(server, wanted):
    answer = server.post(request(id=wanted))
    assert answer.status in (200, 422), answer
    assert answer.status == 422 or answer.json["id"] == wanted
    assert server.put(urllib.parse.quote(wanted, safe=""),
                      request()).status in (200, 400, 404, 414, 422)
    server.wait_status("READY", seconds=2)
    assert server.post(request()).status == 200


@case(200,
      "ours",
      "POST with an id that runs is 409: two of one id cannot both be cancelled",
      slots=2,
      fresh=True,
      coglet="runs it a second time")
def test_post_of_a_running_id(server):
    start_async(server, "same", "[sleep=600]x")
    time.sleep(0.1)
    assert server.post(request(id="same")).status == 409
    assert server.cancel("same") == 200


@case(201,
      "ours",
      "GET shows a running prediction, and an ended one for a while",
      coglet="405: there is no polling")
def test_polling(server, hold):
    start_async(server, "poll", f"[log=hi][hold=0,{hold}]x")
    wait_until(lambda: server.get("/predictions/poll").json["status"] == "processing")
    hold.touch()
    wait_until(lambda: server.get("/predictions/poll").json["status"] == "succeeded")
    body = server.get("/predictions/poll").json
    assert (body["output"], body["logs"]) == ("x", "hi\n")


@case(
    202,
    "ours",
    "--queue 1: one prediction waits for the slot, the next is 409; a waiting one can be cancelled",
    coglet="there is no queue",
    only_ours=True,
    tuning=("--queue", "1"),
    fresh=True)
def test_queue(server, hook):
    start_async(server, "runs", "[sleep=600]x")
    waiting = start_async(server, "waits", "y", hook)
    assert waiting.json["status"] == "starting"
    assert server.post(request()).status == 409
    assert server.cancel("runs") == 200
    assert hook.wait_completed()[-1].json["output"] == "y"
    server.wait_status("READY")
    start_async(server, "runs", "[sleep=600]x")
    start_async(server, "waits", "y")
    assert server.cancel("waits") == 200
    wait_until(lambda: server.get("/predictions/waits").json["status"] == "canceled", 2)
    assert server.cancel("runs") == 200


@case(203,
      "ours",
      "the /v1 alias serves Replicate's own client: create, poll, cancel",
      coglet="404",
      any_engine=True)
def test_v1(server):
    answer = server.ask("POST", "/v1/predictions", request(version="v1"))
    assert answer.status in (200, 201, 202), answer
    assert answer.json["version"] and answer.json["model"]
    path = f"/v1/predictions/{answer.json['id']}"
    wait_until(lambda: server.get(path).json["status"] == "succeeded", 30)
    assert {"model", "version", "output"} <= set(server.get(path).json)
    assert server.ask("POST", path + "/cancel").status < 500
