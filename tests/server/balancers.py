# SPDX-License-Identifier: Apache-2.0
"""Real load balancers in front of servers of ours: those in PATH, where scripts/test.sh puts what
scripts/setup.sh unpacked."""

import contextlib
import http.client
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from patience import wait_until

# Round what a test says of `http`: nginx in the foreground, with no file outside its folder.
NGINX = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  {http}
}}
"""


@contextlib.contextmanager
def balancer(name: str, folder: Path, port: int, configuration: str) -> Iterator[None]:
    """"nginx" (configuration: what stands within `http`) or "haproxy", once a server behind it
    answers at `port`. Skips the test where the program is not there."""
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not in PATH")
    file = folder / "conf"
    if name == "nginx":
        configuration = NGINX.format(folder=folder, http=configuration)
        command = ["nginx", "-p", str(folder), "-c", str(file)]
    else:
        command = ["haproxy", "-f", str(file)]
    file.write_text(configuration)
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_until(lambda: _answers(port), 20, "the balancer")
        yield
    finally:
        process.terminate()
        process.wait()


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/livez")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
