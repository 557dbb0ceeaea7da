# SPDX-License-Identifier: Apache-2.0
"""The playground page in Debian's Chromium, in front of the fake server (which answers slowly or
wrongly on demand) and of the real one with the demo model. Every test also proves that the console
stays clean and that nobody but the page's own server was asked."""

import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from servers import Server

CHROMIUM = shutil.which("chromium")
# For what comes at once on an idle machine; less to see tests fail quickly.
PATIENCE_MS = int(os.environ.get("IDEFICS_PATIENCE_MS") or 60_000)
SCREENSHOTS = os.environ.get("IDEFICS_SCREENSHOTS")  # a folder: the states of docs/playground.md

try:
    from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect, sync_playwright
except ImportError:
    CHROMIUM = None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without a browser one skip says so, not one for each test."""
    if CHROMIUM is not None:
        return
    reason = "no chromium: scripts/setup.sh --tests installs it on Debian"
    items[0].add_marker(pytest.mark.skip(reason=reason))
    config.hook.pytest_deselected(items=items[1:])
    items[:] = items[:1]


@pytest.fixture(scope="session")
def fake() -> Iterator[Server]:
    server = Server.fake()
    yield server
    assert server.stop() == 0


@pytest.fixture(scope="session")
def demo() -> Iterator[Server]:
    server = Server.demo()
    yield server
    assert server.stop() == 0


@pytest.fixture
def start() -> Iterator[Callable[..., Server]]:
    """start(Server.fake, "--flag", …) -> a server of the test's own."""
    started: list[Server] = []

    def run(make: Callable[..., Server], *flags: str, **environment: str) -> Server:
        started.append(make(*flags, **environment))
        return started[-1]
    yield run
    for server in started:
        server.stop(signal.SIGKILL)


@pytest.fixture(scope="session")
def browser() -> Iterator["Browser"]:
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"],
                                             timeout=PATIENCE_MS)
        yield running
        running.close()


class Playground:
    """The page as a person uses it: by roles and names."""

    def __init__(self, page: "Page", url: str):
        self.page, self.url = page, url
        self.console: list[str] = []
        # What the browser itself may say there, also while the page closes; a regular expression.
        self.in_console = ""
        self.asked: list[str] = []
        page.on("console", lambda message: self.console.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.console.append(f"error: {error}"))
        page.on("request", lambda request: self.asked.append(request.url))
        page.set_default_timeout(PATIENCE_MS)

    def open(self, path: str = "/playground/") -> "Playground":
        self.page.goto(self.url + path)
        return self

    def button(self, name: str, exact: bool = True) -> "Locator":
        return self.page.get_by_role("button", name=name, exact=exact)

    def box(self, name: str = "Message") -> "Locator":
        return self.page.get_by_role("textbox", name=name, exact=True)

    def status(self) -> "Locator":
        return self.page.get_by_role("status", name="Server status")

    def ready(self) -> "Playground":
        """Waits for what the page draws by itself after its load: what the browser has kept, and
        what the server says of its inputs and its model. A press before that may find its button
        gone."""
        expect(self.page.locator("body")).not_to_have_attribute("aria-busy", "true")
        expect(self.status()).to_contain_text("Ready")
        expect(self.page.locator("#set-max_new_tokens")).to_be_attached()
        return self

    def send(self, text: str) -> None:
        last = self.page.locator("#parts textarea").last
        last.fill(text)
        last.press("Enter")

    def question(self, n: int) -> "Locator":
        return self.page.get_by_role("article", name=f"You, turn {n}", exact=True)

    def answer(self, n: int) -> "Locator":
        return self.page.get_by_role("article", name=f"Assistant, turn {n}", exact=True)

    def said(self, n: int, text: str | re.Pattern[str]) -> None:
        """Waits for the whole answer, and that it is `text`."""
        expect(self.answer(n)).not_to_have_attribute("aria-busy", "true")
        expect(self.answer(n).locator(".said")).to_have_text(text)

    def choose(self, *files: Any, button: str = "Add pictures") -> None:
        """Returns once they have been read: then the focus moves behind them, from under whoever
        writes."""
        taken = self.page.evaluate_handle("""() => ({event: new Promise((resolve) =>
            document.getElementById('picture-file').addEventListener('change', resolve))})""")
        with self.page.expect_file_chooser() as chooser:
            self.button(button).click()
        chooser.value.set_files(list(files))
        taken.evaluate("(taken) => taken.event.then(() => null)")
        expect(self.page.locator("#bar-note")).to_be_empty()

    def scene(self, title: str) -> None:
        """One of the start page's scenes, in the composer."""
        self.button(f"Try: {title}").click()
        expect(self.page.locator("#parts .picture").first).to_be_visible()

    def alert(self, text: str | re.Pattern[str]) -> None:
        expect(self.page.get_by_role("alert").filter(has_text=text).first).to_be_visible()

    def sent(self) -> list[dict[str, Any]]:
        """The bodies that the page posts from now on; filled as they go."""
        bodies: list[dict[str, Any]] = []

        def keep(request: Any) -> None:
            if request.method == "POST":
                bodies.append(request.post_data_json)
        self.page.on("request", keep)
        return bodies

    def transfer(self, event: str, target: str, items: list[dict[str, Any]]) -> bool:
        """Dispatches a paste or a drop with files and texts; true where the page took it."""
        return bool(self.page.evaluate("""([event, target, items]) => {
            const transfer = new DataTransfer();
            for (const item of items) {
              if (item.text !== undefined) transfer.setData(item.type, item.text);
              else {
                const bytes = Uint8Array.from(item.bytes);
                transfer.items.add(new File([bytes], item.name, {type: item.type}));
              }
            }
            const how = {bubbles: true, cancelable: true};
            const made = event === 'paste'
              ? new ClipboardEvent('paste', {clipboardData: transfer, ...how})
              : new DragEvent(event, {dataTransfer: transfer, ...how});
            return !document.querySelector(target).dispatchEvent(made);
        }""", [event, target, items]))

    def shot(self, name: str) -> None:
        """A picture for docs/playground.md, where they are asked for."""
        if not SCREENSHOTS:
            return
        self.page.mouse.move(0, 0)
        self.page.wait_for_timeout(300)
        self.page.screenshot(path=f"{SCREENSHOTS}/{name}.png")

    def check(self) -> None:
        foreign = [url for url in self.asked
                   if not url.startswith((self.url + "/", "data:", "blob:"))]
        assert foreign == [], "another server was asked"
        said = [line for line in self.console
                if not self.in_console or not re.search(self.in_console, line)]
        assert said == [], "the console is not clean"


@pytest.fixture
def visit(browser: "Browser", start: Any) -> Iterator[Callable[..., Playground]]:
    """visit(server, context options …) -> the page in a context of its own, opened and ready.
    Pages are closed before the servers that `start` made."""
    opened: list[tuple[BrowserContext, Playground]] = []

    def run(server: Server, path: str = "/playground/", wait: bool = True,
            **options: Any) -> Playground:
        options = {"viewport": {"width": 1280, "height": 800}, **options}
        context = browser.new_context(**options)
        playground = Playground(context.new_page(), server.url)
        opened.append((context, playground))
        playground.open(path)
        return playground.ready() if wait else playground
    yield run
    for context, playground in opened:
        context.close()
        playground.check()


PHONE = {"viewport": {"width": 390, "height": 780}, "is_mobile": True, "has_touch": True,
         "device_scale_factor": 2}
