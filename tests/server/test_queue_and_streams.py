# SPDX-License-Identifier: Apache-2.0
"""The waiting queue (--queue), the history of event streams, and a backend that is broken."""

import json
import signal
import threading

import pytest

from patience import wait_until

ASYNC = {"Prefer": "respond-async"}


def put(server, name, text):
    return server.predict(f"/predictions/{name}", "PUT", ASYNC, prompt=[text])[0]


def state(server, name):
    return server.ask("GET", f"/predictions/{name}")[1]["status"]


@pytest.fixture
def queued(start):
    server = start("--max-concurrency", "1", "--queue", "2")
    server.wait_until("READY")
    return server


def test_predictions_wait_in_order_and_beyond_the_queue_the_answer_is_409(queued):
    assert put(queued, "a", "[sleep=600]a") == 202
    assert [put(queued, "b", "[sleep=0.2]b"), put(queued, "c", "c")] == [202, 202]
    wait_until(lambda: state(queued, "a") == "processing")
    assert [state(queued, "b"), state(queued, "c")] == ["starting", "starting"]
    health = queued.ask("GET", "/health-check")[1]
    assert health["status"] == "BUSY" and health["queue"] == {"max": 2, "current": 2}
    status, body = queued.predict(prompt=["d"])
    assert status == 409 and "capacity" in body["error"]
    assert put(queued, "b", "again") == 202  # a repeat of a waiting one
    assert queued.ask("POST", "/predictions/a/cancel")[0] == 200
    wait_until(lambda: state(queued, "c") == "succeeded")
    assert [state(queued, "a"), state(queued, "b")] == ["canceled", "succeeded"]
    begun = [queued.ask("GET", f"/predictions/{name}")[1]["started_at"] for name in "abc"]
    assert begun == sorted(begun) and queued.health() == "READY"


def test_a_free_place_in_the_queue_is_ready(queued):
    put(queued, "a", "[sleep=600]a")
    wait_until(lambda: state(queued, "a") == "processing")
    assert queued.health() == "READY"
    assert queued.ask("POST", "/predictions/a/cancel")[0] == 200


def test_a_canceled_waiting_prediction_ends_at_once_and_frees_its_place(queued):
    put(queued, "a", "[sleep=600]a")
    put(queued, "b", "b")
    put(queued, "c", "c")
    assert queued.ask("POST", "/predictions/b/cancel")[0] == 200
    assert state(queued, "b") == "canceled"
    assert queued.ask("POST", "/predictions/b/cancel")[0] == 404
    assert put(queued, "d", "d") == 202
    assert queued.ask("POST", "/predictions/a/cancel")[0] == 200
    wait_until(lambda: state(queued, "d") == "succeeded")
    assert state(queued, "c") == "succeeded"


def test_a_client_that_leaves_takes_its_waiting_prediction_along(queued):
    put(queued, "a", "[sleep=600]a")
    connection = queued.connect()
    connection.request("POST", "/predictions", json.dumps({"input": {"prompt": ["x"]}}),
                       {"Content-Type": "application/json"})
    wait_until(lambda: queued.ask("GET", "/health-check")[1]["queue"]["current"] == 1)
    connection.close()
    wait_until(lambda: queued.ask("GET", "/health-check")[1]["queue"]["current"] == 0)
    queued.ask("POST", "/predictions/a/cancel")


def test_a_stop_lets_waiting_predictions_run(queued, hold):
    answers = []
    clients = [
        threading.Thread(
            target=lambda: answers.append(
                queued.predict(prompt=[f"[hold=0,{hold}]x"])[1]["status"])) for _ in range(3)
    ]
    for client in clients:
        client.start()
    wait_until(lambda: queued.ask("GET", "/health-check")[1].get("queue", {}).get("current") == 2)
    queued.process.send_signal(signal.SIGTERM)
    wait_until(lambda: queued.ask("GET", "/readyz")[0] == 503)
    hold.touch()
    assert queued.wait() == 0
    for client in clients:
        client.join()
    assert answers == ["succeeded"] * 3


def open_stream(server, name, text=None):
    """-> the connection and its response; without `text` it attaches."""
    connection = server.connect()
    method, path = ("PUT", f"/predictions/{name}")
    connection.request(method, path, json.dumps({"input": {"prompt": [text or "x"]}}),
                       {"Content-Type": "application/json", "Accept": "text/event-stream"})
    return connection, connection.getresponse()


def events(response):
    blocks = [
        block.split("\n") for block in response.read().decode().strip().split("\n\n")
        if not block.startswith(":")
    ]
    return [(lines[0].removeprefix("event: "), json.loads(lines[1].removeprefix("data: ")))
            for lines in blocks]


def fake_with(start, **environment):
    server = start("--max-concurrency", "4", **environment)
    server.wait_until("READY")
    return server


def test_a_late_stream_gets_the_history_and_then_the_same_events(start, hold):
    server = fake_with(start)
    first = open_stream(server, "s", f"[chunks=3][log=l][hold=1,{hold}]x")[1]
    wait_until(lambda: server.ask("GET", "/predictions/s")[1].get("output") == ["x-0"])
    second = open_stream(server, "s")[1]
    hold.touch()
    both = [events(first), events(second)]
    assert both[0] == both[1]
    assert [name
            for name, _ in both[0]] == ["start", "log", "output", "output", "output", "completed"]


def test_without_history_a_late_stream_gets_only_what_follows(start, hold):
    server = fake_with(start, COG_STREAM_HISTORY_CAPACITY="0")
    put(server, "s", f"[log=l][chunks=2][hold=1,{hold}]x")
    wait_until(lambda: server.ask("GET", "/predictions/s")[1].get("output") == ["x-0"])
    late = open_stream(server, "s")[1]
    hold.touch()
    assert [name for name, _ in events(late)] == ["output", "completed"]


def test_a_history_that_lost_events_is_an_error_with_their_number(start):
    server = fake_with(start, COG_STREAM_HISTORY_CAPACITY="2")
    put(server, "s", "[chunks=5][delay=0.05]x")
    put(server, "t", "[log=1][log=2][log=3][log=4][sleep=600]x")
    wait_until(lambda: server.ask("GET", "/predictions/t")[1]["logs"].count("\n") == 4)
    status = open_stream(server, "t")[1]
    assert status.status == 200
    assert events(status) == [
        ("error", {"error": "SSE stream replay truncated; events were dropped", "skipped": 3})
    ]


def test_a_bad_history_capacity_is_ignored_with_a_warning(start, hold):
    server = fake_with(start, COG_STREAM_HISTORY_CAPACITY="many")
    put(server, "t", f"[logs=100,0][hold=0,{hold}]x")
    wait_until(lambda: server.ask("GET", "/predictions/t")[1]["logs"].count("\n") == 100)
    late = open_stream(server, "t")[1]
    hold.touch()
    assert len(events(late)) == 103
    assert server.stop() == 0
    assert any("COG_STREAM_HISTORY_CAPACITY" in line and "ignored" in line for line in server.log)


def test_a_burst_of_many_events_reaches_a_client_that_reads(start):
    found = events(open_stream(fake_with(start), "s", "[chunks=5000]x")[1])
    assert [data["index"] for name, data in found if name == "output"] == list(range(5000))
    assert found[-1][0] == "completed"


def test_a_stream_that_is_not_read_gets_lagged_and_does_not_hold_the_engine(start):
    server = fake_with(start)
    connection, response = open_stream(server, "s", f"[chunks=3000]{'y' * 6000}")
    wait_until(lambda: server.ask("GET", "/health-check")[1]["concurrency"]["current"] == 0)
    found = events(response)
    name, data = found[-1]
    assert name == "error" and data["error"] == "SSE stream lagged; events were dropped"
    indices = [data["index"] for name, data in found if name == "output"]
    # How many is a matter of speed.
    assert len(indices) < 3000 and indices == list(range(len(indices)))
    assert data["skipped"] > 0
    assert state(server, "s") == "succeeded"  # a slow client has not left
    connection.close()


def test_too_many_streams_are_refused_with_429(start):
    server = fake_with(start)
    put(server, "s", "[sleep=600]x")
    streams = [open_stream(server, "s") for _ in range(1024)]
    assert all(response.status == 200 for _, response in streams)
    _, refused = open_stream(server, "s")
    assert (refused.status,
            json.loads(refused.read())) == (429, {"error": "Too many stream subscribers"})
    counted = 'api="cog",reason="too_many_streams"} 1'
    assert counted in server.ask("GET", "/metrics")[1]
    assert server.predict(prompt=["x"])[1]["status"] == "succeeded"
    streams.pop()[0].close()
    wait_until(lambda: open_stream(server, "s")[1].status == 200)
    for connection, _ in streams:
        connection.close()


def test_an_engine_that_broke_for_good_is_defunct_and_predictions_get_503(start):
    server = fake_with(start)
    status, body = server.predict(prompt=["[crash]x"])
    assert (status, body["status"]) == (200, "failed") and "crashed" in body["error"]
    assert server.health() == "DEFUNCT"
    status, body = server.predict(prompt=["x"])
    assert (status, body["status"]) == (503, "failed") and "restart" in body["error"]
    assert server.ask("GET", "/health-check")[1]["concurrency"]["current"] == 0
    assert server.stop() == 1 and "Stopped with a model that had failed for good" in server.log[-1]
