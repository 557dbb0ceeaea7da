# SPDX-License-Identifier: Apache-2.0
"""Two servers behind a real balancer, replaced one after the other under load: no request fails."""

import http.client
import json
import signal
import threading

import pytest

from balancers import balancer
from patience import wait_until
from ports import free_port
from test_metrics import value

CLIENTS = 8
FLAGS = ("--max-concurrency", "8", "--queue", "64", "--drain-delay", "1", "--drain-timeout", "20")

NGINX = """
upstream servers {{
  server 127.0.0.1:{ports[0]} max_fails=0; server 127.0.0.1:{ports[1]} max_fails=0;
  keepalive 16;
}}
server {{
  listen 127.0.0.1:{port};
  location / {{
    proxy_pass http://servers; proxy_http_version 1.1; proxy_set_header Connection "";
    proxy_next_upstream error timeout http_503 non_idempotent;
  }}
}}
"""
HAPROXY = """
defaults
  mode http
  timeout connect 60s
  timeout check 60s
  timeout client 60s
  timeout server 60s
  retries 3
  option redispatch 1
  retry-on conn-failure empty-response 503
frontend all
  bind 127.0.0.1:{port}
  default_backend servers
backend servers
  option httpchk GET /readyz
  server a 127.0.0.1:{ports[0]} check inter 100ms
  server b 127.0.0.1:{ports[1]} check inter 100ms
"""
CONFIGURATIONS = {"nginx": NGINX, "haproxy": HAPROXY}


class Load:
    """Clients that ask one thing after another; those that do not get an answer are counted."""

    def __init__(self, port):
        self.port, self.done = port, threading.Event()
        self.answered, self.failed = 0, []
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self._ask) for _ in range(CLIENTS)]
        for thread in self.threads:
            thread.start()

    def _ask(self):
        body = json.dumps({"input": {"prompt": ["[sleep=0.02]x"]}})
        while not self.done.is_set():
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
                connection.request("POST", "/predictions", body,
                                   {"Content-Type": "application/json"})
                answer = connection.getresponse()
                said = answer.status, json.loads(answer.read()).get("status")
                connection.close()
            except (OSError, ValueError, http.client.HTTPException) as error:
                said = error
            with self.lock:
                if said == (200, "succeeded"):
                    self.answered += 1
                else:
                    self.failed.append(said)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.done.set()
        for thread in self.threads:
            thread.join()


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_rolling_restart_fails_no_request(name, start, tmp_path):
    servers = [start(*FLAGS), start(*FLAGS)]
    for server in servers:
        server.wait_until("READY")
    port = free_port()
    configuration = CONFIGURATIONS[name].format(port=port, ports=[s.port for s in servers])
    with balancer(name, tmp_path, port, configuration), Load(port) as load:
        for index in (0, 1, 0):
            before = load.answered
            wait_until(lambda before=before: load.answered > before + 50, 60)
            old = servers[index]
            old.process.send_signal(signal.SIGTERM)
            assert old.process.wait(60) == 0
            servers[index] = start(*FLAGS, port=old.port)
            servers[index].wait_until("READY")
            # The balancer knows it again, before the other one goes.
            wait_until(lambda new=servers[index]: value(
                new, "idefics_requests_finished_total", api="cog", finish_reason="eos") > 0, 60)
    assert load.answered > 150 and load.failed == [], (load.answered, load.failed[:5])
