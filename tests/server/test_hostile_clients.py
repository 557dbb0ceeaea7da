# SPDX-License-Identifier: Apache-2.0
"""Requests that are cheap to send and must be cheap to refuse: each test measures what its attack
is about (processor seconds, memory, bytes answered, threads), and that health answers beside it."""

import contextlib
import json
import os
import resource
import socket
import subprocess
import threading
import time
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from patience import Pace, wait_until

INSTRUMENTED = os.environ.get("IDEFICS_PRESET") in ("asan", "tsan")
HEALTH_S = 0.25
JSON = {"Content-Type": "application/json"}


def cpu_s(server):
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_bytes(server):
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return 0 if INSTRUMENTED else int(status.split("VmHWM:")[1].split()[0]) * 1024


def threads(server):
    return len(os.listdir(f"/proc/{server.process.pid}/task"))


def check_health(server, idle):
    with Pace(idle.health) as pace:
        assert server.health() in ("READY", "BUSY")
    assert pace.took < HEALTH_S * pace.slowness


@pytest.fixture
def server(start):
    server = start("--max-concurrency", "4", "--body-timeout", "20")
    server.wait_until("READY")
    yield server
    assert server.process.poll() is None, "".join(server.log[-20:])


@contextlib.contextmanager
def connections(server, count, first=b""):
    made = []
    try:
        for _ in range(count):
            made.append(socket.create_connection(("127.0.0.1", server.port), timeout=10))
            made[-1].sendall(first)
        yield made
    finally:
        for connection in made:
            connection.close()


def raw(server, request):
    """All that comes until the server closes."""
    received = b""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(request)
        while piece := connection.recv(1 << 16):
            received += piece
    return received


def head(line, *headers, host="x"):
    return "\r\n".join(
        [f"{line} HTTP/1.1", *([f"Host: {host}"] if host else []), *headers, "", ""]
    ).encode()


def post(path, body, *headers):
    return (
        head(
            f"POST {path}",
            "Content-Type: application/json",
            "Connection: close",
            f"Content-Length: {len(body)}",
            *headers,
        )
        + body
    )


def test_a_body_of_a_million_values_is_refused_before_it_is_built(server):
    before = peak_bytes(server)
    body = b'{"input": {"prompt": ["x"]}, "ignored": [' + b'"",' * 2_000_000 + b'""]}'
    status, text = server.ask("POST", "/predictions", body, **JSON)
    assert status == 413 and "200000 JSON values" in text
    assert peak_bytes(server) - before < 4 * len(body)


def test_an_answer_is_no_multiple_of_its_request(server):
    before = peak_bytes(server)
    body = json.dumps({"input": {"prompt": ["x"], "bad_words_ids": [["x"] * 250] * 500}}).encode()
    status, answer = server.ask("POST", "/predictions", body, **JSON)
    assert status == 422 and len(answer["detail"]) <= 110
    assert len(json.dumps(answer)) < 50_000
    assert peak_bytes(server) - before < 64 << 20


@pytest.mark.parametrize(
    "body",
    [
        b'{"' + b"k" * 3_000_000,
        b'{"k": 1, "k": 1'.replace(b"k", b"k" * 1_000_000) + b"}",
        b'{"input": {"prompt": 5, "text": [' + b'"' + b"\\u0001" * 1_000_000 + b'"]}}',
    ],
)
def test_an_answer_does_not_quote_the_request_at_length(server, body):
    answer = raw(server, post("/predictions", body))
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 422")) and len(answer) < 5000


def test_floods_of_empty_lines_cost_the_loop_nothing(server, fake):
    before = cpu_s(server)
    with connections(server, 100) as flood:
        for connection in flood:
            with contextlib.suppress(OSError):
                connection.sendall(b"\r\n" * 20_000)
        check_health(server, fake)
        assert flood[0].recv(100).startswith(b"HTTP/1.1 400")
    assert cpu_s(server) - before < 1  # 7 s where each line is taken off by itself


def test_one_byte_chunks_cost_what_they_are(server):
    text = json.dumps({"input": {"prompt": ["x"]}}).encode()
    body = text + b" " * (1 << 20)
    plain = post("/predictions", body)
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    chunked = (
        head(
            "POST /predictions",
            "Content-Type: application/json",
            "Connection: close",
            "Transfer-Encoding: chunked",
        )
        + chunks
    )
    assert b'"succeeded"' in raw(server, plain)
    before = cpu_s(server)
    assert b'"succeeded"' in raw(server, chunked)
    assert cpu_s(server) - before < 0.35


def test_clients_that_pipeline_and_do_not_read_hold_no_thread(server, fake):
    before = threads(server)
    ask = head("GET /openapi.json") * 3000
    with connections(server, 140) as idle:
        for connection in idle:
            connection.settimeout(0.05)
            with contextlib.suppress(OSError):
                connection.sendall(ask)
        time.sleep(0.5)
        check_health(server, fake)
        assert threads(server) <= before + 16  # the pool of those that wait for nobody
    wait_until(lambda: server.health() == "READY")


def test_an_answer_that_is_taken_late_is_whole(server):
    body = json.dumps({"input": {"prompt": ["[big=8000000]"]}}).encode()
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(post("/predictions", body))
        time.sleep(1)
        received = b""
        while piece := connection.recv(1 << 20):
            received += piece
    answer = json.loads(received.split(b"\r\n\r\n", 1)[1])
    assert answer["status"] == "succeeded" and len(answer["output"]) == 8_000_000


def test_half_sent_bodies_hold_no_thread_and_no_stream_place(server, fake):
    before = threads(server)
    half = (
        head(
            "POST /predictions",
            "Content-Type: application/json",
            "Accept: text/event-stream",
            "Content-Length: 100",
        )
        + b"{"
    )
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    with connections(server, 1100, half):
        check_health(server, fake)
        assert threads(server) < before + 16
        body = json.dumps({"input": {"prompt": ["x"]}}).encode()
        answer = raw(server, post("/predictions", body, "Accept: text/event-stream"))
        assert answer.startswith(b"HTTP/1.1 200") and b"event: completed" in answer
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_full_descriptor_table_costs_the_longest_idle_its_place(server, fake):
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (128, 128))
    with connections(server, 300) as idle:
        check_health(server, fake)
        assert idle[0].recv(1) == b""
        check_health(server, fake)


FOREIGN = [
    {"Origin": "https://evil.example"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Origin": "null"},
    {"Host": "rebind.evil.example"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
@pytest.mark.parametrize(
    "path", ["/predictions", "/shutdown", "/predictions/x/cancel", "/v1/predictions"]
)
def test_pages_of_others_change_nothing(server, path, headers):
    connection = server.connect()
    connection.request("POST", path, b'{"input": {"prompt": ["x"]}}', headers)
    assert connection.getresponse().status == 403
    assert server.health() == "READY"


def test_a_page_of_this_server_and_a_local_name_may(server):
    host = f"localhost:{server.port}"
    connection = server.connect()
    connection.request(
        "POST",
        "/predictions",
        b'{"input": {"prompt": ["x"]}}',
        {**JSON, "Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"},
    )
    assert connection.getresponse().status == 200


def test_another_name_reads_nothing_on_loopback(server):
    assert raw(server, head("GET /health-check", host="rebind.evil.example")).startswith(
        b"HTTP/1.1 403"
    )


MALFORMED = {
    "no Host": head("GET /", host=None),
    "two Hosts": head("GET /", "Host: y"),
    "a Host with a path": head("GET /", host="a/b"),
    "a Host with a user": head("GET /", host="u@b"),
    "a Host with a broken port": head("GET /", host="a:b"),
    "a fragment": head("GET /#x"),
    "GET *": head("GET *"),
    "a control byte in a chunk's extension": head(
        "POST /predictions", "Content-Type: application/json", "Transfer-Encoding: chunked"
    )
    + b"2;a=\x01b\r\n{}\r\n0\r\n\r\n",
    "a bare CR in a trailer": head(
        "POST /predictions", "Content-Type: application/json", "Transfer-Encoding: chunked"
    )
    + b"2\r\n{}\r\n0\r\nA: b\rc\r\n\r\n",
}


@pytest.mark.parametrize("request_bytes", MALFORMED.values(), ids=MALFORMED.keys())
def test_what_the_standard_says_must_be_refused_is(server, request_bytes):
    answer = raw(server, request_bytes)
    assert answer.startswith(b"HTTP/1.1 400") and answer.count(b"HTTP/1.1 ") == 1


def test_ids_are_short(server):
    assert (
        server.ask("POST", "/predictions", {"id": "i" * 1024, "input": {"prompt": ["x"]}})[0] == 200
    )
    status, answer = server.ask(
        "POST", "/predictions", {"id": "i" * 1025, "input": {"prompt": ["x"]}}
    )
    assert status == 422 and answer["detail"][0]["loc"] == ["body", "id"]
    assert server.ask("PUT", "/predictions/" + "i" * 1025, {"input": {"prompt": ["x"]}})[0] == 422


def announced(server, size):
    """What a body of so many bytes is answered before any of them is sent."""
    request = head("POST /predictions", f"Content-Length: {size}", "Expect: 100-continue")
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(request)
        return connection.recv(4096)


def test_bodies_beyond_the_budget_are_refused_before_they_are_read(start):
    server = start("--memory-budget", "6000000")
    server.wait_until("READY")
    assert announced(server, 2_000_000).startswith(b"HTTP/1.1 100")
    with connections(server, 1, post("/predictions", b" " * 3_000_000)[:-1]):
        wait_until(lambda: announced(server, 2_000_000).startswith(b"HTTP/1.1 503"))
        assert b"Retry-After: 1\r\n" in announced(server, 2_000_000)
        assert server.predict(prompt=["x"])[0] == 200
    wait_until(lambda: announced(server, 2_000_000).startswith(b"HTTP/1.1 100"))


def test_kept_predictions_do_not_keep_out_those_that_come(start):
    server = start("--memory-budget", "20000000")
    server.wait_until("READY")
    for i in range(60):
        assert server.predict(prompt=["x" * 1_000_000])[0] == 200, i


def test_a_failed_download_does_not_tell_internal_names(start):
    server = start()
    server.wait_until("READY")

    def error(url):
        return server.predict(image=url, text="x")[1]["error"].replace(url, "URL")

    assert error("http://127.0.0.1:1/x.png") == error("http://no-such-name.invalid/x.png")


class Zeros(BaseHTTPRequestHandler):
    def do_GET(self):  # /N: so many MiB of zeros, compressed to a thousandth
        self.send_response(200)
        self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        squeeze = zlib.compressobj(wbits=31)
        with contextlib.suppress(OSError):
            for _ in range(int(self.path[1:].split("?")[0])):
                self.wfile.write(squeeze.compress(bytes(1 << 20)))
            self.wfile.write(squeeze.flush())

    def log_message(self, *_):
        pass


@pytest.fixture
def zeros():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Zeros)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


def test_downloads_have_a_share_of_the_budget(start, zeros):
    server = start("--memory-budget", "30000000", "--allow-private-urls")
    server.wait_until("READY")
    before = peak_bytes(server)
    answer = server.predict(prompt=[f"{zeros}/20?{i}" for i in range(20)])[1]
    assert answer["status"] == "failed" and "--memory-budget" in answer["error"]
    assert peak_bytes(server) - before < 120 << 20
    assert server.predict(prompt=["x"])[1]["status"] == "succeeded"


def test_downloads_of_a_request_have_one_limit(start, zeros):
    server = start("--allow-private-urls", "--memory-budget", "4000000000")
    server.wait_until("READY")
    answer = server.predict(prompt=[f"{zeros}/90?{i}" for i in range(3)])[1]
    assert answer["status"] == "failed" and "268435456 bytes together" in answer["error"]


HANGING_RESOLVER = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>
#include <unistd.h>
int getaddrinfo(const char* node, const char* service, const struct addrinfo* hints,
                struct addrinfo** found) {
  int (*next)(const char*, const char*, const struct addrinfo*, struct addrinfo**) =
      dlsym(RTLD_NEXT, "getaddrinfo");
  if (node != 0 && strstr(node, ".hanging.test") != 0) {
    sleep(600);
    return EAI_AGAIN;
  }
  return next(node, service, hints, found);
}
"""


@pytest.mark.skipif(INSTRUMENTED, reason="a sanitizer must be loaded first")
def test_a_name_server_that_hangs_does_not_hold_up_a_cancel(start, tmp_path):
    source, library = tmp_path / "resolver.c", tmp_path / "resolver.so"
    source.write_text(HANGING_RESOLVER)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    server = start("--max-concurrency", "1", LD_PRELOAD=str(library))
    server.wait_until("READY")
    asynchronous = {"Prefer": "respond-async"}
    image = "http://x.hanging.test/a.png"
    server.predict("/predictions/a", "PUT", asynchronous, image=image, text="x")
    wait_until(lambda: server.ask("GET", "/predictions/a")[1]["status"] == "processing")
    time.sleep(0.5)  # the resolver's thread sleeps now
    server.ask("POST", "/predictions/a/cancel")
    wait_until(lambda: server.ask("GET", "/predictions/a")[1]["status"] == "canceled")
