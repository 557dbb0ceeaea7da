# SPDX-License-Identifier: Apache-2.0
"""A Hugging Face hub of the tests' own: one repository of one commit, with the requests that
huggingface_hub makes of the real one, and faults on demand."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

REPO = "stand-in/idefics-tiny"
COMMIT = "c0ffee" + "0" * 34
TOKEN = "hf_right"
LFS_SUFFIXES = (".safetensors", ".bin", ".model")


class HubStandIn(ThreadingHTTPServer):
    """Faults are set by file name and hold until they are taken away, `cut_at` for one request
    each."""

    daemon_threads = True

    def __init__(self, folder: Path):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.gated = False
        self.cut_at: dict[str, int] = {}  # after so many bytes the connection ends, once
        self.wrong: set[str] = set()  # one byte in the middle is another
        self.held: dict[str, int] = {}  # so many bytes are sent, then nothing more
        self.reached = threading.Event()  # a held file has come to its end
        self.asked: list[tuple[str, str, int]] = []  # (method, path, first byte asked for)
        self.sent: dict[str, int] = {}  # bytes of each file, but for requests of a header alone
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def entry(self, path: Path) -> dict:
        data = path.read_bytes()
        lfs = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
        git = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        return {
            "rfilename": path.name,
            "size": len(data),
            "blobId": git,
            **({"lfs": lfs} if path.suffix in LFS_SUFFIXES else {}),
        }

    def handle_error(self, request, client_address):
        pass  # a client that was killed


class _Handler(BaseHTTPRequestHandler):
    server: HubStandIn
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = unquote(urlsplit(self.path).path)
        begin = self._first_byte()
        self.server.asked.append((self.command, path, begin))
        if self.server.gated and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._error(403, "GatedRepo")
        elif path.startswith(f"/api/models/{REPO}"):
            self._api(path.removeprefix(f"/api/models/{REPO}"))
        elif path.startswith(f"/{REPO}/resolve/{COMMIT}/"):
            self._file(path.rsplit("/", 1)[1], begin)
        else:
            self._error(404, "RepoNotFound")

    def _first_byte(self) -> int:
        asked = self.headers.get("Range", "")
        return int(asked.removeprefix("bytes=").split("-")[0]) if asked else 0

    def _api(self, rest: str) -> None:
        entries = [self.server.entry(path) for path in sorted(self.server.folder.iterdir())]
        kind, _, revision = rest.strip("/").partition("/")
        if kind in ("revision", "tree") and revision not in ("main", COMMIT):
            self._error(404, "RevisionNotFound")
        elif kind == "tree":
            self._json(
                [
                    {
                        "type": "file",
                        "path": e["rfilename"],
                        "size": e["size"],
                        "oid": e["blobId"],
                        **(
                            {
                                "lfs": {
                                    "oid": e["lfs"]["sha256"],
                                    "size": e["size"],
                                    "pointerSize": 130,
                                }
                            }
                            if "lfs" in e
                            else {}
                        ),
                    }
                    for e in entries
                ]
            )
        else:
            self._json({"id": REPO, "sha": COMMIT, "siblings": entries})

    def _json(self, value) -> None:
        data = json.dumps(value).encode()
        self._head(200, len(data), {"Content-Type": "application/json"})
        self.wfile.write(data)

    def _error(self, status: int, code: str) -> None:
        self._head(status, 0, {"X-Error-Code": code, "X-Error-Message": code})

    def _head(self, status: int, length: int, headers: dict) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(length), **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def _file(self, name: str, begin: int) -> None:
        path = self.server.folder / name
        if not path.is_file():
            self._error(404, "EntryNotFound")
            return
        data, entry = bytearray(path.read_bytes()), self.server.entry(path)
        if name in self.server.wrong:
            data[len(data) // 2] ^= 1
        end = len(data)
        last = self.headers.get("Range", "-").rsplit("-", 1)[1]
        body = data[begin : int(last) + 1 if last else end]
        self._head(
            206 if "Range" in self.headers else 200,
            len(body),
            {
                "ETag": f'"{entry["lfs"]["sha256"] if "lfs" in entry else entry["blobId"]}"',
                "X-Repo-Commit": COMMIT,
                "Content-Range": f"bytes {begin}-{begin + len(body) - 1}/{end}",
            },
        )
        if self.command == "HEAD":
            return
        whole = not last  # and not the header of it alone
        limit = len(body)
        if whole and name in self.server.cut_at:
            limit = self.server.cut_at.pop(name)
        elif whole and name in self.server.held:
            limit = max(0, self.server.held[name] - begin)
        self.wfile.write(body[:limit])
        if whole:
            self.server.sent[name] = self.server.sent.get(name, 0) + limit
        if limit < len(body):
            self.wfile.flush()
            if name in self.server.held:
                self.server.reached.set()
                self.rfile.read(1)  # until the client is gone
            self.close_connection = True

    def log_message(self, *_):
        pass
