# SPDX-License-Identifier: Apache-2.0
"""`idefics-server health`, which the image's HEALTHCHECK runs, and `idefics-server probe`."""

import os
import signal
import subprocess

from conftest import SERVER


def health(port, *flags):
    done = subprocess.run([SERVER, "health", "--port", str(port), *flags], capture_output=True,
                          text=True, timeout=60)
    return done.returncode, (done.stdout or done.stderr).strip()


def test_it_tells_the_status_and_is_0_for_ready_and_busy(start):
    server = start("--max-concurrency", "1")
    server.wait_until("READY")
    assert health(server.port) == (0, "READY")
    assert health(server.port, "--host", "0.0.0.0") == (0, "READY")
    server.predict("/predictions/long", "PUT", {"Prefer": "respond-async"}, prompt=["[sleep=600]x"])
    server.wait_until("BUSY")
    assert health(server.port) == (0, "BUSY")
    server.stop(signal.SIGKILL)
    code, line = health(server.port)
    assert code == 1 and line.startswith("idefics-server: no answer from http://127.0.0.1:")


def test_a_server_whose_set_up_failed_is_not_healthy(start):
    server = start("--model", "/no/such/bundle")
    server.wait_until("SETUP_FAILED")
    assert health(server.port) == (1, "SETUP_FAILED")


def probe(*arguments, **environment):
    done = subprocess.run([SERVER, "probe", *arguments], capture_output=True, text=True, timeout=60,
                          env={**os.environ, **environment})
    return done.returncode, (done.stdout or done.stderr).strip()


def test_a_probe_is_good_for_2xx_and_says_why_not(start):
    server = start()
    server.wait_until("READY")
    port = str(server.port)
    assert probe("--port", port) == probe(PORT=port) == (0, "200 ok")
    assert probe("/livez", "--port", port) == (0, "200 ok")
    assert probe(f"http://127.0.0.1:{port}/v2/health/ready") == (0, '200 {"ready":true}')
    assert probe("/nowhere", "--port", port)[0] == 1
    broken = start("--model", "/no/such/bundle")
    broken.wait_until("SETUP_FAILED")
    code, line = probe("--port", str(broken.port))
    assert code == 1 and line.startswith("503 the model could not be loaded")
    server.stop()
    code, line = probe("--port", port)
    assert code == 1 and line.startswith("idefics-server: no answer from http://127.0.0.1:")
