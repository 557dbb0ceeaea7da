# SPDX-License-Identifier: Apache-2.0
"""The metrics page: its two forms, and that what was sent is what it counts."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from patience import wait_until
from test_queue_and_streams import put, state

OPEN = "application/openmetrics-text; version=1.0.0"
SAMPLE = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:[a-z_]+="(?:[^"\\]|\\.)*",?)*)\})? (\S+)')


def page(server, accept="*/*"):
    return server.ask("GET", "/metrics", Accept=accept)[1]


def samples(text):
    """{(name, labels without the model's name): value}; fails where a line is of no known form."""
    found = {}
    for line in text.splitlines():
        if line.startswith("#"):
            assert re.fullmatch(r"# (HELP|TYPE) \S+ .+|# EOF", line), line
            continue
        name, labels, value = SAMPLE.fullmatch(line).groups()
        pairs = frozenset(pair for pair in re.findall(r'([a-z_]+)="([^"]*)"', labels or "")
                          if pair[0] != "model_name")
        assert (name, pairs) not in found, line
        found[name, pairs] = float(value)
    return found


def value(server, name, **labels):
    return samples(page(server))[name, frozenset(labels.items())]


@pytest.mark.parametrize("accept", ["*/*", OPEN])
def test_each_family_has_one_head_and_its_samples_follow(fake, accept):
    text = page(fake, accept)
    heads = re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M)
    assert len({name for name, _ in heads}) == len(heads) > 40
    family = kind = None
    for line in text.splitlines():
        if line.startswith("# TYPE"):
            family, kind = line.split()[2:]
        elif not line.startswith("#"):
            name = re.match(r"[^{ ]+", line)[0]
            ends = {"counter": ("_total",), "gauge": ("",),
                    "histogram": ("_bucket", "_sum", "_count")}[kind]
            counts = kind == "counter" and accept != OPEN
            stem = family.removesuffix("_total") if counts else family
            assert name in [stem + end for end in ends], (family, line)
    assert text.endswith("# EOF\n") == (accept == OPEN)


def test_a_histogram_rises_and_ends_with_its_count(fake):
    fake.predict(prompt=["x"])
    found = samples(page(fake))
    name = "idefics_request_duration_seconds"
    cog = ("api", "cog")
    buckets = [(float(dict(labels)["le"]), count) for (each, labels), count in found.items()
               if each == f"{name}_bucket" and cog in labels]
    counts = [count for _, count in sorted(buckets)]
    assert counts == sorted(counts) and counts[-1] == found[f"{name}_count", frozenset({cog})] > 0
    assert found["vllm:e2e_request_latency_seconds_count", frozenset()] == counts[-1]


def test_what_was_sent_is_what_is_counted(start):
    server = start("--max-concurrency", "2", "--queue", "1")
    server.wait_until("READY")
    for _ in range(7):
        assert server.predict(prompt=["x"])[1]["status"] == "succeeded"
    assert server.predict(prompt=["[fail]x"])[0] == 200
    put(server, "a", "[sleep=600]a")
    put(server, "b", "[sleep=600]b")
    put(server, "c", "[sleep=600]c")
    assert server.predict(prompt=["x"])[0] == 409
    wait_until(lambda: state(server, "b") == "processing")
    assert value(server, "idefics_requests_running") == 2
    assert value(server, "idefics_requests_waiting") == 1
    for name in "cab":
        assert server.ask("POST", f"/predictions/{name}/cancel")[0] == 200
    wait_until(lambda: value(server, "idefics_requests_running") == 0)
    ends = {reason: value(server, "idefics_requests_finished_total", api="cog",
                          finish_reason=reason)
            for reason in ("eos", "length", "stop", "canceled", "error")}
    assert ends["canceled"] == 3 and ends["error"] == 1 and sum(ends.values()) == 11, ends
    assert value(server, "idefics_requests_rejected_total", api="cog", reason="queue_full") == 1
    assert value(server, "idefics_http_requests_total", method="POST", route="/predictions",
                 code="200") == 8
    assert value(server, "idefics_http_requests_total", method="PUT", route="/predictions/{id}",
                 code="202") == 3
    assert value(server, "idefics_ready") == 1


def test_clients_make_no_series(start):
    server = start()
    server.wait_until("READY")
    before = len(samples(page(server)))
    for i in range(50):
        server.ask("GET", f"/no/such/{i}")
        server.ask("GET", f"/predictions/{i}")
        server.ask(f"M{i}", "/predictions")
    assert len(samples(page(server))) <= before + 4


def test_tokens_are_counted(demo):
    def counts():
        found = samples(page(demo))
        return [found[f"idefics_{name}_total", frozenset()]
                for name in ("prompt_tokens", "generation_tokens", "engine_steps")]
    before = counts()
    metrics = demo.predict(prompt=["Hello"], max_new_tokens=8)[1]["metrics"]
    prompt, new, steps = (b - a for a, b in zip(before, counts(), strict=True))
    assert prompt == metrics["input_token_count"] and new == metrics["output_token_count"]
    assert steps > 0


def test_webhook_posts_are_counted_by_what_became_of_them(start):
    server = start("--webhook-hosts", "any")
    server.wait_until("READY")

    def count(event, outcome):
        return value(server, "idefics_webhook_deliveries_total", event=event, outcome=outcome)
    assert count("completed", "gave_up") == 0 and value(server, "idefics_http_connections") >= 1
    for path in ("/predictions", "/nowhere"):  # its own: a prediction's object is a good request
        server.ask("POST", "/predictions",
                   {"input": {"prompt": ["x"]}, "webhook": f"http://127.0.0.1:{server.port}{path}",
                    "webhook_events_filter": ["completed"]})
    wait_until(lambda: value(server, "idefics_webhook_backlog") == 0, 20)
    assert (count("completed", "delivered"), count("completed", "gave_up")) == (1, 1)
    assert count("start", "delivered") == 0


def answered(server, sampled):
    """The trace of a request whose caller does or does not want its spans."""
    trace = os.urandom(16).hex()
    server.ask("POST", "/predictions", {"input": {"prompt": ["x"]}},
               traceparent=f"00-{trace}-00f067aa0ba902b7-{sampled:02}")
    return trace


def test_openmetrics_has_an_exemplar_of_a_recorded_request(start):
    sys.path += map(str, Path(os.environ.get("IDEFICS_DEPLOY_ENV", "")).glob(
        "lib/python3*/site-packages"))
    parser = pytest.importorskip("prometheus_client.openmetrics.parser",
                                 reason="prometheus-client is not installed")
    server = start(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")
    server.wait_until("READY")
    answered(server, sampled=False)
    assert "trace_id" not in page(server, OPEN), "its trace is nowhere to be seen"
    trace = answered(server, sampled=True)
    families = {family.name: family for family in
                parser.text_string_to_metric_families(page(server, OPEN))}
    for name in ("idefics_request_duration_seconds", "vllm:e2e_request_latency_seconds"):
        found = [(sample.labels["le"], sample.exemplar) for sample in families[name].samples
                 if sample.exemplar]
        assert len(found) == 1, name
        bound, exemplar = found[0]
        assert exemplar.labels == {"trace_id": trace} and float(exemplar.timestamp) > 1e9
        assert 0 < exemplar.value <= float(bound)
    assert "trace_id" not in page(server), "the text format has no exemplars"


def test_promtool_finds_nothing_wrong(fake):
    if shutil.which("promtool") is None:
        pytest.skip("promtool (Debian's prometheus) is not in PATH")
    ours = "".join(line + "\n" for line in page(fake).splitlines() if "vllm:" not in line)
    done = subprocess.run(["promtool", "check", "metrics"], input=ours, capture_output=True,
                          text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
