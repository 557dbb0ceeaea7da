# SPDX-License-Identifier: Apache-2.0
"""Request ids, log lines and spans; the oracle of what is sent is OTLP's official schema."""

import gzip
import json
import os
import re
import signal
import subprocess
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from conftest import ASSETS
from patience import wait_until
from ports import free_port, listens
from test_metrics import value

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{CALLER}-01"
PARENT_ID = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-01")


class Local(BaseHTTPRequestHandler):
    """/v1/traces takes spans; a GET gives a picture; any other POST is a webhook."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        local = self.server
        status = 200
        if self.path == "/v1/traces":
            local.asked.set()
            local.go_on.wait()
            local.exports.append((self.headers, body))
            status = local.replies.pop(0) if local.replies else 200
            if status == 200:
                assert self.headers["Content-Type"] == "application/x-protobuf"
                if self.headers["Content-Encoding"] == "gzip":  # rotel's
                    body = gzip.decompress(body)
                request = ExportTraceServiceRequest.FromString(body)
                ours = self.headers["User-Agent"].startswith("cog-idefics/")
                assert request.SerializeToString() == body or not ours, "not as protobuf writes it"
                local.requests.append(request)
        else:
            local.posts.append(self.headers)
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self):
        self.server.gets.append(self.headers)
        picture = (ASSETS / "cat.jpg").read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(picture)))
        self.end_headers()
        self.wfile.write(picture)

    def log_message(self, *_):
        pass


class Collector(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Local)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.exports, self.requests, self.posts, self.gets, self.replies = [], [], [], [], []
        self.go_on = threading.Event()  # until then it does not answer
        self.go_on.set()
        self.asked = threading.Event()  # spans have come
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def spans(self):
        return [span for request in list(self.requests) for part in request.resource_spans
                for scope in part.scope_spans for span in scope.spans]

    def wait_for(self, *names):
        """{name: span} once there is one of each."""
        wait_until(lambda: set(names) <= {span.name for span in self.spans()}, 30,
                   f"the spans {names}")
        return {span.name: span for span in self.spans()}


@pytest.fixture
def collector():
    server = Collector()
    yield server
    server.go_on.set()
    server.shutdown()


@pytest.fixture
def traced(start, collector):
    """traced("--flag", NAME="value") -> a server that exports at once."""
    def run(*flags, **environment):
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
                       "OTEL_BSP_SCHEDULE_DELAY": "20", **environment}
        server = start("--allow-private-urls", "--webhook-hosts", "any", *flags, **environment)
        server.wait_until("READY")
        return server
    return run


def attributes(span):
    def plain(value):
        kind = value.WhichOneof("value")
        if kind == "array_value":
            return [plain(item) for item in value.array_value.values]
        return getattr(value, kind)
    return {pair.key: plain(pair.value) for pair in span.attributes}


def lines(server, message):
    found = [json.loads(line) for line in list(server.log)]
    return [line for line in found if line["message"] == message]


def answer_headers(server, path="/predictions", **headers):
    connection = server.connect()
    connection.request("POST", path, json.dumps({"input": {"prompt": ["x"]}}),
                       {"Content-Type": "application/json", **headers})
    response = connection.getresponse()
    response.read()
    connection.close()
    return response


def test_a_request_has_an_id_that_its_answer_and_its_lines_show(start):
    server = start("--access-log")
    server.wait_until("READY")
    given = answer_headers(server, **{"X-Request-Id": "mine:1.a", "traceparent": PARENT})
    assert given.getheader("X-Request-Id") == "mine:1.a"
    for bad in ("a b", "x" * 201, 'a"b'):
        made = answer_headers(server, **{"X-Request-Id": bad})
        assert re.fullmatch("req_[0-9a-f]{32}", made.getheader("X-Request-Id"))
    missing = answer_headers(server, "/nowhere?key=secret")
    wait_until(lambda: len(lines(server, "Answered")) == 5, 10)
    ended = lines(server, "Prediction ended")[0]
    answered = lines(server, "Answered")
    for line in (ended, answered[0]):
        assert (line["request_id"], line["trace_id"]) == ("mine:1.a", TRACE)
        assert line["span_id"] == CALLER
    assert "trace_id" not in answered[1]
    assert (answered[0]["method"], answered[0]["path"], answered[0]["status"]) == (
        "POST", "/predictions", 200)
    assert answered[0]["duration"] > 0 and answered[0]["client"]
    assert (answered[-1]["path"], answered[-1]["status"]) == ("/nowhere", 404)
    assert answered[-1]["request_id"] == missing.getheader("X-Request-Id")
    assert "secret" not in "".join(server.log)


def test_probes_have_no_line_and_streams_end_with_theirs(start):
    server = start("--access-log", "--output", "stream")
    server.wait_until("READY")
    for path in ("/livez", "/readyz", "/metrics"):
        server.ask("GET", path)
    connection = server.connect()
    connection.request("POST", "/predictions",
                       json.dumps({"input": {"prompt": ["[sleep=0.5]x"]}}),
                       {"Content-Type": "application/json", "Accept": "text/event-stream"})
    connection.getresponse().read()
    assert server.stop() == 0
    shown = lines(server, "Answered")
    assert {line["path"] for line in shown} <= {"/predictions", "/health-check"}
    assert shown[-1]["path"] == "/predictions" and shown[-1]["duration"] >= 0.5


def test_a_request_is_one_tree_of_spans(traced, collector):
    server = traced()
    answer_headers(server, "/predictions", traceparent=PARENT, tracestate="a=b",
                   **{"User-Agent": "me"})
    found = collector.wait_for("POST /predictions", "generate_content")
    root, job = found["POST /predictions"], found["generate_content"]
    assert root.trace_id.hex() == job.trace_id.hex() == TRACE
    assert root.parent_span_id.hex() == CALLER and job.parent_span_id == root.span_id
    assert (root.kind, job.kind) == (2, 1)
    assert root.trace_state == job.trace_state == "a=b"
    assert root.start_time_unix_nano <= job.start_time_unix_nano <= job.end_time_unix_nano
    assert job.end_time_unix_nano <= root.end_time_unix_nano
    about = attributes(root)
    assert (about["http.request.method"], about["http.route"], about["http.response.status_code"],
            about["user_agent.original"]) == ("POST", "/predictions", 200, "me")
    assert attributes(job)["gen_ai.operation.name"] == "generate_content"
    resource = collector.requests[0].resource_spans[0].resource
    assert attributes(resource)["service.name"] == "cog-idefics"


def test_the_spans_of_a_model_say_what_it_did(traced, collector):
    bundle = os.environ.get("IDEFICS_DEMO_BUNDLE")
    if not bundle:
        pytest.skip("IDEFICS_DEMO_BUNDLE names no bundle: scripts/test.sh exports one")
    server = traced("--model", bundle)
    secret = "What is in this picture?"
    prompt = ["User:", collector.url + "/cat.jpg?key=hidden", secret, "<end_of_utterance>",
              "\nAssistant:"]
    status, answer = server.predict(prompt=prompt, max_new_tokens=20)
    assert status == 200 and answer["status"] == "succeeded", answer
    found = collector.wait_for("POST /predictions", "generate_content", "GET", "idefics.preprocess",
                               "idefics.encode", "idefics.prefill", "idefics.decode")
    job = found["generate_content"]
    about = attributes(job)
    assert about["gen_ai.request.max_tokens"] == 20
    assert about["gen_ai.usage.input_tokens"] == answer["metrics"]["input_token_count"]
    assert about["gen_ai.usage.output_tokens"] == answer["metrics"]["output_token_count"]
    assert about["gen_ai.response.finish_reasons"] == [answer["metrics"]["finish_reason"]]
    parts = [found[name] for name in ("GET", "idefics.preprocess", "idefics.prefill",
                                      "idefics.encode", "idefics.decode")]
    starts = [part.start_time_unix_nano for part in parts]
    assert starts == sorted(starts)
    assert found["idefics.encode"].end_time_unix_nano <= found["idefics.prefill"].end_time_unix_nano
    for part in parts:
        assert part.parent_span_id == job.span_id and part.trace_id == job.trace_id
        assert part.end_time_unix_nano <= job.end_time_unix_nano
    assert server.predict(prompt=prompt, max_new_tokens=20)[0] == 200
    wait_until(lambda: sum(span.name == "generate_content" for span in collector.spans()) == 2, 30)
    assert sum(span.name == "idefics.encode" for span in collector.spans()) == 1, "it was cached"
    sent = b"".join(body for _, body in collector.exports)
    for hidden in (secret.encode(), b"hidden", answer["output"].encode()):
        assert len(hidden) > 5 and hidden not in sent


def test_webhooks_and_image_hosts_are_told_our_own_place(traced, collector):
    server = traced()
    body = {"input": {"prompt": [collector.url + "/a.jpg?k=1"]}, "webhook": collector.url + "/h"}
    server.ask("POST", "/predictions", body, traceparent=PARENT, tracestate="a=b")
    wait_until(lambda: sum(span.name == "POST" for span in collector.spans()) == 3, 30)
    found = collector.wait_for("POST", "GET", "generate_content")
    job = found["generate_content"].span_id
    posts = [span for span in collector.spans() if span.name == "POST"]
    assert [attributes(span)["idefics.webhook.event"] for span in posts] == [
        "start", "output", "completed"]
    for headers, span in zip(collector.posts, posts, strict=True):
        assert PARENT_ID.fullmatch(headers["traceparent"]).groups() == (TRACE, span.span_id.hex())
        assert headers["tracestate"] == "a=b" and span.parent_span_id == job and span.kind == 3
    get = collector.gets[0]
    assert PARENT_ID.fullmatch(get["traceparent"]).groups() == (TRACE, found["GET"].span_id.hex())
    assert get["tracestate"] is None and found["GET"].parent_span_id == job
    assert attributes(found["GET"])["url.full"] == collector.url + "/a.jpg"


def test_without_a_collector_headers_pass_as_they_came_and_images_are_told_nothing(
        start, collector):
    server = start("--allow-private-urls", "--webhook-hosts", "any")
    server.wait_until("READY")
    server.ask("POST", "/predictions",
               {"input": {"prompt": [collector.url + "/a.jpg"]}, "webhook": collector.url + "/h"},
               traceparent=PARENT, tracestate="a=b")
    wait_until(lambda: len(collector.posts) == 3, 30)
    assert {(post["traceparent"], post["tracestate"]) for post in collector.posts} == {
        (PARENT, "a=b")}
    assert collector.gets[0]["traceparent"] is None


@pytest.mark.parametrize("header", [PARENT[:-1], PARENT.upper(), PARENT + "-x", "ff" + PARENT[2:],
                                    f"00-{'0' * 32}-{CALLER}-01", f"00-{TRACE}-{'0' * 16}-01", ""])
def test_a_header_that_is_none_begins_a_new_trace(traced, collector, header):
    answer_headers(traced(), traceparent=header)
    root = collector.wait_for("POST /predictions")["POST /predictions"]
    assert root.trace_id.hex() != TRACE and root.parent_span_id == b""


def test_a_later_version_counts_by_its_first_fields(traced, collector):
    answer_headers(traced(), traceparent="42" + PARENT[2:] + "-more")
    root = collector.wait_for("POST /predictions")["POST /predictions"]
    assert (root.trace_id.hex(), root.parent_span_id.hex()) == (TRACE, CALLER)


@pytest.mark.parametrize("sampler, header, exported", [
    ("", PARENT[:-1] + "0", False), ("always_on", PARENT[:-1] + "0", True),
    ("always_off", PARENT, False), ("parentbased_always_off", PARENT, True),
    ("parentbased_always_off", "", False), ("traceidratio:0", PARENT, False),
    ("parentbased_traceidratio:1", "", True)])
def test_who_is_sampled(traced, collector, sampler, header, exported):
    name, _, argument = sampler.partition(":")
    server = traced(OTEL_TRACES_SAMPLER=name, OTEL_TRACES_SAMPLER_ARG=argument)
    answer_headers(server, traceparent=header)
    assert server.stop() == 0  # sends what there is
    assert bool(collector.spans()) == exported


def test_half_of_the_traces(traced, collector):
    server = traced(OTEL_TRACES_SAMPLER="traceidratio", OTEL_TRACES_SAMPLER_ARG="0.5")
    for _ in range(100):
        answer_headers(server)
    assert server.stop() == 0
    traces = Counter(span.trace_id for span in collector.spans() if span.kind == 2)
    assert 20 < len(traces) < 80 and set(traces.values()) == {1}


def test_probes_begin_no_trace(traced, collector):
    server = traced()
    for path in ("/livez", "/readyz", "/metrics", "/ping"):
        server.ask("GET", path)
    server.ask("GET", "/livez", traceparent=PARENT)
    collector.wait_for("GET /livez")
    assert server.stop() == 0
    routes = [span.name for span in collector.spans() if "health-check" not in span.name]
    assert routes == ["GET /livez"]


def test_a_failure_is_an_error(traced, collector):
    server = traced()
    server.predict(prompt=[collector.url.replace("127.0.0.1", "nowhere.invalid") + "/a.jpg"])
    found = collector.wait_for("generate_content", "GET", "POST /predictions")
    for name in ("generate_content", "GET"):
        assert found[name].status.code == 2 and attributes(found[name])["error.type"], name
    assert found["POST /predictions"].status.code == 0


def test_variables_of_the_environment(traced, collector):
    server = traced(OTEL_EXPORTER_OTLP_HEADERS="x-key=a%20b, x-other=c",
                    OTEL_SERVICE_NAME="ours", OTEL_EXPORTER_OTLP_PROTOCOL="grpc",
                    OTEL_RESOURCE_ATTRIBUTES="service.name=no,deployment.environment=test",
                    OTEL_BSP_MAX_QUEUE_SIZE="many")
    answer_headers(server)
    collector.wait_for("POST /predictions")
    headers, _ = collector.exports[0]
    assert (headers["x-key"], headers["x-other"]) == ("a b", "c")
    about = attributes(collector.requests[0].resource_spans[0].resource)
    assert (about["service.name"], about["deployment.environment"]) == ("ours", "test")
    assert server.stop() == 0
    told = "".join(server.log)
    assert "grpc" in told and "OTEL_BSP_MAX_QUEUE_SIZE" in told


@pytest.mark.parametrize("off", [{"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none"}])
def test_tracing_can_be_turned_off(traced, collector, off):
    server = traced(**off)
    answer_headers(server, traceparent=PARENT)
    assert server.stop() == 0 and collector.exports == []


def test_a_collector_that_is_busy_is_asked_again(traced, collector):
    collector.replies = [503, 429]
    server = traced()
    answer_headers(server)
    collector.wait_for("POST /predictions", "generate_content")
    assert collector.exports[0][1] == collector.exports[1][1] == collector.exports[2][1]
    wait_until(lambda: value(server, "idefics_trace_spans_total", outcome="exported") > 0, 10)
    assert value(server, "idefics_trace_spans_total", outcome="dropped") == 0


def test_a_collector_that_refuses_costs_its_spans_only(traced, collector):
    collector.replies = [400] * 50
    server = traced()
    answer_headers(server)
    wait_until(lambda: value(server, "idefics_trace_spans_total", outcome="dropped") >= 2, 20)
    assert value(server, "idefics_trace_spans_total", outcome="exported") == 0
    server.stop()
    assert sum("answers 400" in line for line in server.log) == 1


def test_a_collector_that_hangs_holds_up_nobody(traced, collector):
    """Every request ends while it hangs; every span is exported or counted as dropped."""
    collector.go_on.clear()
    server = traced(OTEL_BSP_MAX_QUEUE_SIZE="10", OTEL_BSP_MAX_EXPORT_BATCH_SIZE="5",
                    OTEL_EXPORTER_OTLP_TIMEOUT="600000")
    assert answer_headers(server).status == 200
    assert collector.asked.wait(60)
    for _ in range(40):
        assert answer_headers(server).status == 200
    dropped = value(server, "idefics_trace_spans_total", outcome="dropped")
    assert dropped >= 40
    collector.go_on.set()
    # What was in the queue, and one to five that were on their way.
    wait_until(lambda: value(server, "idefics_trace_spans_total", outcome="exported") > 10, 20)
    assert value(server, "idefics_trace_spans_total", outcome="dropped") == dropped
    assert server.stop() == 0
    spans = [span.span_id for span in collector.spans()]
    assert 10 < len(spans) == len(set(spans)) <= 15


def test_a_real_collector_takes_them_and_hands_them_on(start, collector, tmp_path):
    rotel = pytest.importorskip("rotel", reason="rotel, a collector, is not installed")
    agent = Path(rotel.__file__).parent / "rotel-agent"
    port = free_port()
    process = subprocess.Popen(
        [agent, "start", "--otlp-http-endpoint", f"127.0.0.1:{port}", "--otlp-grpc-endpoint",
         f"127.0.0.1:{free_port()}", "--exporter", "otlp", "--otlp-exporter-protocol", "http",
         "--otlp-exporter-endpoint", collector.url, "--otlp-exporter-compression", "none",
         "--log-file", str(tmp_path / "log"), "--pid-file", str(tmp_path / "pid")],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: listens(port), 60, "the collector")
        server = start(OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port}",
                       OTEL_BSP_SCHEDULE_DELAY="20")
        server.wait_until("READY")
        answer_headers(server, traceparent=PARENT)
        found = collector.wait_for("POST /predictions", "generate_content")
        assert found["generate_content"].trace_id.hex() == TRACE
        wait_until(lambda: value(server, "idefics_trace_spans_total", outcome="exported") >= 2, 20)
        assert value(server, "idefics_trace_spans_total", outcome="dropped") == 0
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
