# SPDX-License-Identifier: Apache-2.0
"""Server-sent events: cases 120-137. The stream variant, unless a case says otherwise."""

import json
import socket
import time
from typing import Any

import pytest

from cases import case
from client import ASYNC, SSE, inputs, request
from patience import wait_until

STREAM: dict[str, Any] = {"output": "stream"}
LAGGED = "SSE stream lagged; events were dropped"
TRUNCATED = "SSE stream replay truncated; events were dropped"


def names(events):
    return [name for name, _ in events]


def chunks(events):
    return [data["chunk"] for name, data in events if name == "output"]


@case(120, "c", "Accept: text/event-stream is answered by start, output …, completed", **STREAM)
def test_stream(server):
    stream = server.stream(request("[chunks=3]x"))
    assert stream.status == 200
    assert stream.headers["Content-Type"].startswith("text/event-stream")
    assert stream.headers["Cache-Control"] == "no-cache"
    events = stream.all()
    assert names(events) == ["start", "output", "output", "output", "completed"]
    assert events[0][1]["status"] == "processing" and events[0][1]["id"] == events[-1][1]["id"]


@case("120b", "c",
      "a frame is an event line, a data line and an empty line, with the keys of coglet", **STREAM)
def test_frames(server):
    answer = server.post(request("é", id="frames"), SSE)
    start, output, completed, rest = answer.body.decode().split("\n\n")
    assert start == 'event: start\ndata: {"id":"frames","status":"processing"}'
    assert output == 'event: output\ndata: {"chunk":"é","index":0}'
    assert completed.startswith("event: completed\ndata: {") and completed.count(
        "\n") == 1 and rest == ""


@case(121, "c", "pieces are numbered from 0 and together are the output of completed", **STREAM)
def test_indexes(server):
    events = server.stream(request("[chunks=20]x")).all()
    assert [data["index"] for name, data in events if name == "output"] == list(range(20))
    assert chunks(events) == events[-1][1]["output"] == [f"x-{n}" for n in range(20)]


@case(122, "c", "completed has id, status and predict_time", **STREAM)
def test_completed(server):
    name, body = server.stream(request("x", id="sse-1")).all()[-1]
    assert (name, body["id"], body["status"]) == ("completed", "sse-1", "succeeded")
    assert body["metrics"]["predict_time"] >= 0


@case(123, "c", "a failure ends the stream with completed, status failed and the error", **STREAM)
def test_failure(server):
    events = server.stream(request("[chunks=3][fail_after=1,broken lens]x")).all()
    assert (events[-1][0], events[-1][1]["status"]) == ("completed", "failed")
    assert "broken lens" in events[-1][1]["error"]
    assert chunks(events) == ["x-0"]


@case(124, "c", "a cancel ends the stream with completed, status canceled", **STREAM)
def test_cancel(server):
    stream = server.stream(request("[chunks=50000][delay=0.02]x", id="sse-2"))
    assert stream.next()[0] == "start" and stream.next()[0] == "output"
    assert server.cancel("sse-2") == 200
    name, body = stream.all()[-1]
    assert (name, body["status"]) == ("completed", "canceled")


@case(125, "c", "text/event-stream is found in a list; */* asks for JSON", **STREAM)
def test_accept(server):
    wanted = {"Accept": "application/json, text/event-stream;q=0.9"}
    assert names(server.stream(request(), headers=wanted).all())[-1] == "completed"
    server.wait_status("READY")
    assert server.post(request(), {"Accept": "*/*"}).succeeded


@case(126, "c", "it wins over Prefer: respond-async", **STREAM)
def test_accept_and_prefer(server):
    assert names(server.stream(request(), headers={**SSE, **ASYNC}).all())[-1] == "completed"


@case(127, "ours", "the string variant streams too, and completed holds the string", coglet="406")
def test_string_variant(server):
    events = server.stream(request("[chunks=2]x")).all()
    assert names(events)[0] == "start" and events[-1][1]["output"] == "x-0x-1"
    assert "".join(chunks(events)) == "x-0x-1"


@case(128, "c", "a PUT of a running id with SSE gets everything from the start, then what follows",
      **STREAM)
def test_attach(server, hold):
    server.put("sse-3", request(f"[chunks=6][hold=3,{hold}]x"), ASYNC)
    time.sleep(0.8)
    late = server.stream(request(), "sse-3")
    hold.touch()
    events = late.all()
    assert names(events)[0] == "start" and names(events)[-1] == "completed"
    assert chunks(events) == [f"x-{n}" for n in range(6)]


def begin_and_wait(server, hook, prediction_id, text, pieces):
    """Begins an asynchronous prediction; returns once so many of its pieces are out."""
    server.put(prediction_id, request(text, webhook=hook.url, webhook_events_filter=["output"]),
               ASYNC)
    wait_until(lambda: hook.posts and len(hook.posts[-1].json["output"]) == pieces, 20,
               f"{pieces} pieces")


@case(129, "c", "COG_STREAM_HISTORY_CAPACITY=0: who attaches late gets only what follows", **STREAM,
      env={"COG_STREAM_HISTORY_CAPACITY": "0", "COG_THROTTLE_RESPONSE_INTERVAL": "0"})
def test_no_history(server, hook, hold):
    begin_and_wait(server, hook, "sse-4", f"[chunks=6][hold=3,{hold}]x", 3)
    late = server.stream(request(), "sse-4")
    hold.touch()
    events = late.all()
    assert "start" not in names(events) and names(events)[-1] == "completed"
    assert 0 < len(chunks(events)) < 6 and chunks(events)[-1] == "x-5"


@case(130,
      "c",
      "COG_STREAM_HISTORY_CAPACITY=2: who misses three events is told so, and the stream ends",
      **STREAM,
      env={"COG_STREAM_HISTORY_CAPACITY": "2", "COG_THROTTLE_RESPONSE_INTERVAL": "0"})
def test_short_history(server, hook, hold):
    begin_and_wait(server, hook, "sse-5", f"[chunks=5][hold=4,{hold}]x", 4)
    events = server.stream(request(), "sse-5").all()
    assert events == [("error", {"error": TRUNCATED, "skipped": 3})]
    server.cancel("sse-5")


@case("130b",
      "c",
      "a history of nonsense is the default one",
      **STREAM,
      env={"COG_STREAM_HISTORY_CAPACITY": "many"})
def test_nonsense_history(server, hold):
    server.put("sse-6", request(f"[chunks=3][hold=1,{hold}]x"), ASYNC)
    time.sleep(0.6)
    late = server.stream(request(), "sse-6")
    hold.touch()
    assert len(chunks(late.all())) == 3


@case(131, "c", "two subscribers see the same", **STREAM)
def test_two_subscribers(server, hold):
    first = server.stream(request(f"[chunks=5][hold=1,{hold}]x", id="sse-7"))
    first.next()
    second = server.stream(request(), "sse-7")
    hold.touch()
    assert second.next()[0] == "start"
    assert first.all() == second.all()


@case(132, "c", "when the creator's stream is closed the prediction is cancelled", **STREAM)
def test_creator_leaves(server, hook):
    stream = server.stream(request("[chunks=50000][delay=0.02]x", id="sse-8", webhook=hook.url,
                                   webhook_events_filter=["completed"]))
    stream.next()
    time.sleep(0.1)
    stream.close()
    assert hook.wait_completed()[-1].json["status"] == "canceled"


@case("132b", "c", "when one who attached leaves, it goes on", **STREAM)
def test_attached_leaves(server, hook, hold):
    server.put(
        "sse-9",
        request(f"[chunks=4][hold=1,{hold}]x", webhook=hook.url,
                webhook_events_filter=["completed"]),
        ASYNC)
    stream = server.stream(request(), "sse-9")
    stream.next()
    stream.close()
    time.sleep(0.1)
    hold.touch()
    assert hook.wait_completed()[-1].json["status"] == "succeeded"


@case(133, "c", "after 15 s of silence there is a comment", **STREAM)
def test_keep_alive(server):
    stream = server.stream(request("[sleep=20]x"))
    assert names(stream.all())[-1] == "completed"
    assert stream.comments == [": keep-alive"]


@case(134, "c", "log and metric events have the documented fields", **STREAM)
def test_log_and_metric(server):
    events = server.stream(request("[log=out][err=bad][metric=tokens:3]x")).all()
    logs = [data for name, data in events if name == "log"]
    assert {"source": "stdout", "data": "out\n"} in logs and {"source": "stderr", "data": "bad\n"
                                                              } in logs
    assert [data for name, data in events
            if name == "metric"] == [{"name": "tokens", "value": 3, "mode": "replace"}]


@case("134b",
      "ours",
      "events come in the order in which they were emitted",
      coglet="logs come by another way, late",
      **STREAM)
def test_order(server):
    events = server.stream(request("[chunks=3][chunk_log][chunk_metric=n]x")).all()
    assert names(events) == ["start", *["log", "metric", "output"] * 3, "completed"]


@case(135, "c", "1024 pieces arrive complete at a client that reads", **STREAM)
def test_many_pieces(server):
    assert len(chunks(server.stream(request("[chunks=1024][delay=0.0005]x")).all())) == 1024


@case(
    136, "c",
    "a client that does not read does not slow the engine; it gets the rest, or is told of the gap",
    **STREAM)
def test_slow_reader(server, hook):
    with socket.create_connection((server.host, server.port), timeout=60) as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        text = json.dumps({"input": inputs("[chunks=3000]" + "y" * 1500), "webhook": hook.url,
                           "webhook_events_filter": ["completed"]})
        slow.sendall((
            f"POST /predictions HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\nConnection: "
            f"close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n{text}"
        ).encode())
        assert hook.wait_completed(60)[-1].json["status"] == "succeeded"
        received = b""
        while not received.endswith(b"0\r\n\r\n") and (piece := slow.recv(1 << 20)):
            received += piece
    assert b"event: completed" in received or LAGGED.encode() in received


@case(137, "c", "a shutdown lets an open stream reach completed", **STREAM, fresh=True)
def test_shutdown(server):
    stream = server.stream(request("[chunks=8][delay=0.1]x"))
    stream.next()
    assert server.ask("POST", "/shutdown").status == 200
    events = stream.all()
    assert names(events)[-1] == "completed" and len(chunks(events)) == 8
    assert server.wait_exit() == 0


@case(204, "c", "wrong input is 422 before a stream begins", **STREAM, any_engine=True)
def test_invalid(server):
    assert server.post({"input": {}}, SSE).status == 422


@case(205, "c", "a stream while the slot is taken is 409", **STREAM)
def test_busy(server):
    server.put("sse-10", request("[sleep=600]x"), ASYNC)
    server.wait_status("BUSY")
    assert server.post(request(), SSE).status == 409
    assert server.cancel("sse-10") == 200


@case(206, "hard", "line ends in a piece cannot forge an event", **STREAM)
def test_forged_events(server):
    text = "a\n\nevent: completed\ndata: {}\n\r\r\n\u2028"
    events = server.stream(request(text)).all()
    assert chunks(events) == [text] and names(events) == ["start", "output", "completed"]


@case(207,
      "hard",
      "streams that are closed at once, 50 times: the slot is free within 1 s",
      **STREAM,
      coglet="the slot may stay taken for good")
def test_closed_at_once(server):
    for number in range(50):
        stream = server.stream(request("[chunks=50000][delay=0.02]x"))
        assert stream.headers["Content-Type"].startswith("text/event-stream")
        time.sleep(number % 4 / 1000)
        stream.close()
        wait_until(lambda: server.status() == "READY", 1, "READY")


@case(208, "c", "a prediction that was begun synchronously can be watched too", **STREAM)
def test_attach_to_sync(server, hold):
    running = server.send("PUT", "/predictions/sse-11", request(f"[chunks=3][hold=1,{hold}]x"))
    server.wait_status("BUSY")
    stream = server.stream(request(), "sse-11")
    hold.touch()
    assert names(stream.all())[-1] == "completed"
    assert running.answer().succeeded


@case(209, "c", "without stream variant or stream wish, Accept has no say", any_engine=True)
@pytest.mark.parametrize("accept", ["text/html", "application/xml", "text/*", "*/*;q=0"])
def test_other_accept(server, accept):
    assert server.post(request(), {"Accept": accept}).succeeded
