# SPDX-License-Identifier: Apache-2.0
"""The alerts and the dashboard: unit tests by promtool, and what a real Prometheus that scrapes a
real server finds for each of their queries."""

import json
import os
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from patience import wait_until
from ports import free_port

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
FOLDER = DEPLOY / "prometheus"
DASHBOARD = DEPLOY / "helm/cog-idefics/dashboards/cog-idefics.json"
PANELS = [panel for panel in json.loads(DASHBOARD.read_text())["panels"]
          if panel["type"] != "row"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]

TRACES = [os.urandom(16).hex() for _ in range(5)]


def promtool(*arguments):
    if shutil.which("promtool") is None:
        pytest.skip("promtool (Debian's package prometheus) is not in PATH")
    return subprocess.run(["promtool", *arguments], cwd=FOLDER, capture_output=True, text=True,
                          check=False)


@pytest.mark.parametrize("arguments", [("check", "rules", "rules.yaml"),
                                       ("test", "rules", "rules_test.yaml")])
def test_promtool(arguments):
    done = promtool(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr


def test_rules_ask_for_what_is_there(start):
    server = start()
    server.wait_until("READY")
    page = server.ask("GET", "/metrics")[1]
    there = set(re.findall(r"^(idefics_\w+)", page, re.M))
    expressions = [line for line in (FOLDER / "rules.yaml").read_text().splitlines()
                   if "annotations" not in line and not line.startswith("#")]
    asked = set(re.findall(r"\b(idefics_\w+)", "\n".join(expressions + QUERIES)))
    assert asked and asked <= there, asked - there


def test_panels_do_not_overlap():
    taken = [(x, y) for panel in PANELS for g in [panel["gridPos"]]
             for x in range(g["x"], g["x"] + g["w"]) for y in range(g["y"], g["y"] + g["h"])]
    assert len(taken) == len(set(taken)) and len({panel["id"] for panel in PANELS}) == len(PANELS)


@pytest.fixture
def prometheus(start, tmp_path):
    """query(expression) -> the values that a Prometheus has after some scrapes of a busy server."""
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus (Debian's package) is not in PATH")
    # Its spans go nowhere, but exemplars name their traces.
    server = start("--max-concurrency", "2", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")
    server.wait_until("READY")
    port = free_port()
    (tmp_path / "prometheus.yml").write_text(f"""
global: {{scrape_interval: 200ms}}
scrape_configs:
- {{job_name: idefics, static_configs: [{{targets: ["127.0.0.1:{server.port}"]}}]}}
""")
    process = subprocess.Popen(
        ["prometheus", f"--config.file={tmp_path}/prometheus.yml",
         f"--web.listen-address=127.0.0.1:{port}", f"--storage.tsdb.path={tmp_path}/data",
         "--enable-feature=exemplar-storage"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def asked(what, **fields):
        url = f"http://127.0.0.1:{port}/api/v1/{what}?" + urllib.parse.urlencode(fields)
        with urllib.request.urlopen(url, timeout=30) as answer:
            return json.load(answer)["data"]

    def query(expression):
        text = expression.replace("$instance", ".*").replace("$__rate_interval", "1m")
        return [float(each["value"][1]) for each in asked("query", query=text)["result"]]
    query.exemplars = lambda name: [
        exemplar for series in asked("query_exemplars", query=name, start=time.time() - 600,
                                     end=time.time() + 600) for exemplar in series["exemplars"]]

    def has_scraped(times):
        try:
            return query("sum(count_over_time(up[5m]))") >= [times]
        except OSError:
            return False
    wait_until(lambda: has_scraped(2), 60)
    for trace in TRACES:
        server.ask("POST", "/predictions", {"input": {"prompt": ["x"]}},
                   traceparent=f"00-{trace}-00f067aa0ba902b7-01")
    scraped = query("sum(count_over_time(up[5m]))")[0]
    wait_until(lambda: has_scraped(scraped + 3), 60)
    yield query
    process.terminate()
    process.wait()


def test_no_panel_is_empty(prometheus):
    assert prometheus("up") == [1]
    assert [expression for expression in QUERIES if not prometheus(expression)] == []
    assert prometheus("sum(idefics_requests_finished_total)") == [5]
    kept = prometheus.exemplars("idefics_request_duration_seconds_bucket")
    assert kept and {each["labels"]["trace_id"] for each in kept} <= set(TRACES)
