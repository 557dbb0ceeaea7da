# SPDX-License-Identifier: Apache-2.0
"""Two servers that a case may need: one takes webhooks, one serves pictures, well or badly."""

import json
import ssl
import threading
import time
from collections.abc import Callable
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from client import png
from patience import wait_until


class Post:
    def __init__(self, headers: Message, body: bytes):
        self.headers, self.json, self.at = headers, json.loads(body), time.monotonic()

    def __repr__(self) -> str:
        return json.dumps(self.json)[:200]


class Hook:
    """One webhook address. `replies`: statuses for the next posts, then 200. `most`: so many posts
    were not answered yet at the same time."""

    def __init__(self, base: str):
        self.url = f"{base}/{id(self)}"
        self.posts: list[Post] = []
        self.replies: list[int] = []
        self.delay = 0.0
        self.most = 0
        self._under_way = 0
        self._lock = threading.Lock()
        self.on_post: Callable[[Post], object] = lambda post: None

    def take(self, post: Post) -> None:
        with self._lock:
            self._under_way += 1
            self.most = max(self.most, self._under_way)
        self.on_post(post)
        self.posts.append(post)
        time.sleep(self.delay)
        with self._lock:
            self._under_way -= 1

    def statuses(self) -> list[str]:
        return [post.json["status"] for post in self.posts]

    def wait_posts(self, count: int, seconds: float = 10) -> list[Post]:
        wait_until(lambda: len(self.posts) >= count, seconds,
                   f"{count} posts (there are {self.posts})")
        return self.posts

    def wait_completed(self, seconds: float = 10) -> list[Post]:
        """The posts up to the first with a terminal status."""
        def ended() -> bool:
            return any(status in ("succeeded", "failed", "canceled") for status in self.statuses())
        wait_until(ended, seconds, f"the last post (there are {self.posts})")
        return self.posts


class QuietHandler(BaseHTTPRequestHandler):
    server: "LocalServer"

    def log_message(self, *_: object) -> None:
        pass

    def reply(self, status: int, content: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


class WebhookHandler(QuietHandler):
    def do_POST(self) -> None:
        hook = self.server.hooks[self.path]
        post = Post(self.headers, self.rfile.read(int(self.headers["Content-Length"])))
        hook.take(post)
        self.reply(hook.replies.pop(0) if hook.replies else 200)


class PictureHandler(QuietHandler):
    """/ok.png, /slow (half a picture, then silence), /loop, /to?URL, anything else 404."""

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        self.server.requests.append((path, self.headers))
        if path == "/slow":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(png()[:20])
            self.server.stopped.wait(60)
        elif path in ("/loop", "/to"):
            self.reply(302, Location=query or "/loop")
        elif path == "/ok.png":
            self.reply(200, png(), Content_Type="image/png")
        else:
            self.reply(404, b"no such picture")


class LocalServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512

    def __init__(self, handler: type[QuietHandler], tls: ssl.SSLContext | None = None):
        super().__init__(("127.0.0.1", 0), handler)
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.server_address[1]}"
        self.stopped = threading.Event()
        self.requests: list[tuple[str, Message]] = []
        self.hooks: dict[str, Hook] = {}
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def hook(self) -> Hook:
        hook = Hook(self.url)
        self.hooks[hook.url[len(self.url):]] = hook
        return hook

    def handle_error(self, *_: object) -> None:
        pass

    def stop(self) -> None:
        self.stopped.set()
        self.shutdown()
        self.server_close()
