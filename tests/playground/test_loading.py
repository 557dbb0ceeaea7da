# SPDX-License-Identifier: Apache-2.0
"""How the page is served: headers, compression, addresses; and that it loads and asks nobody
else."""

import gzip
import os
import random
import re
import subprocess

import pytest

from conftest import expect
from servers import ROOT, Proxy, Server

PAGE = ROOT / "server/playground/page"
FILES = sorted(file.name for file in PAGE.iterdir() if not file.name.startswith("."))
BUDGET = 150 * 1024


def test_it_loads_and_answers(visit, demo):
    page = visit(demo)
    expect(page.page).to_have_title("IDEFICS playground")
    expect(page.page.get_by_role("heading", level=1)).to_have_text("IDEFICS playground")
    expect(page.status()).to_have_text("Ready · demo model")
    expect(page.page.get_by_text("This is the demo model.")).to_be_visible()
    page.send("What is 3 plus 4?")
    page.said(1, "3 plus 4 is 7.")


def test_every_file_has_the_headers_and_a_tag(fake):
    for name in ["", *FILES]:
        status, headers, content = fake.ask("GET", f"/playground/{name}")
        assert status == 200, name
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; ")
        for directive in ("img-src 'self' data: blob:", "connect-src 'self'", "base-uri 'none'",
                          "form-action 'none'", "frame-ancestors 'none'",
                          "require-trusted-types-for 'script'", "trusted-types 'none'"):
            assert directive in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-cache" and "set-cookie" not in headers
        assert content == (PAGE / (name or "index.html")).read_bytes()
        again = fake.ask("GET", f"/playground/{name}", If_None_Match=headers["etag"])
        assert again[0] == 304 and again[2] == b"" and again[1]["etag"] == headers["etag"]
        assert fake.ask("HEAD", f"/playground/{name}")[1]["etag"] == headers["etag"]


def test_text_comes_compressed_to_who_takes_it(fake):
    served = 0
    for name in FILES:
        status, headers, content = fake.ask("GET", f"/playground/{name}",
                                            Accept_Encoding="br, gzip;q=0.5")
        assert status == 200 and headers["vary"] == "Accept-Encoding"
        served += len(content)
        if headers.get("content-encoding") == "gzip":
            assert gzip.decompress(content) == (PAGE / name).read_bytes()
            plain = fake.ask("GET", f"/playground/{name}", Accept_Encoding="gzip;q=0")
            assert "content-encoding" not in plain[1] and plain[1]["etag"] != headers["etag"]
        else:
            assert name.endswith(".webp")
    assert served <= BUDGET
    print(f"the page is {served} bytes compressed, in {len(FILES)} files")


def test_a_browser_is_led_to_it_and_a_program_is_not(fake):
    status, headers, _ = fake.ask("GET", "/", Accept="text/html,application/xhtml+xml,*/*;q=0.8")
    assert status == 302 and headers["location"] == "playground/" and headers["vary"] == "Accept"
    for accept in ({}, {"Accept": "*/*"}, {"Accept": "application/json"}):
        status, headers, content = fake.ask("GET", "/", **accept)
        assert status == 200 and b'"cog_version"' in content
    status, headers, _ = fake.ask("GET", "/playground")
    assert status == 308 and headers["location"] == "playground/"
    for path in ("/playground/none.js", "/playground/..%2fCMakeLists.txt", "/playground/a/b"):
        assert fake.ask("GET", path)[0] == 404
    assert fake.ask("POST", "/playground/", {})[0] == 405


def test_it_can_be_left_out(start):
    server = start(Server.fake, "--no-playground")
    assert server.ask("GET", "/playground/")[0] == 404
    assert server.ask("GET", "/", Accept="text/html")[0] == 200


def test_a_folder_is_read_at_each_request_and_the_page_follows(start, visit, tmp_path):
    for name in FILES:
        (tmp_path / name).write_bytes((PAGE / name).read_bytes())
    server = start(Server.fake, "--playground-dir", str(tmp_path))
    page = visit(server, wait=False)
    assert server.ask("GET", "/playground/app.js")[1]["x-playground-dir"] == "1"
    assert server.ask("GET", "/playground/CMakeLists.txt")[0] == 404
    (tmp_path / ".hidden.js").write_text("secret")
    assert server.ask("GET", "/playground/.hidden.js")[0] == 404
    changed = tmp_path / ".words.js"
    changed.write_text((tmp_path / "words.js").read_text().replace("Ask about pictures", "Changed"))
    with page.page.expect_navigation():  # by itself
        changed.replace(tmp_path / "words.js")  # a half-written file would break the page
    expect(page.page.get_by_role("heading", name="Changed")).to_be_visible()


def test_it_works_below_a_prefix(visit, demo):
    proxy = Proxy(demo, "/some/where")
    try:
        page = visit(proxy, path="/some/where/playground/")
        page.scene("What does it say?")
        page.page.keyboard.press("Enter")
        page.said(1, "it says cafe.")
        assert all(url.startswith((f"{proxy.url}/some/where/", "data:", "blob:"))
                   for url in page.asked)
        page.button("Code").click()
        expect(page.page.get_by_role("region", name="Code")).to_contain_text(
            f"{proxy.url}/some/where/v1/chat/completions")
    finally:
        proxy.stop()


def test_its_policy_stops_what_it_must(visit, fake):
    page = visit(fake)
    blocked = page.page.evaluate("""() => {
        const tried = [];
        const attempt = (work) => {
          try { work(); tried.push('done'); } catch { tried.push('no'); }
        };
        attempt(() => { document.createElement('div')['inner' + 'HTML'] = '<b>x</b>'; });
        attempt(() => { document.createElement('script').textContent = 'window.ran = 1'; });
        attempt(() => { document.body['insertAdjacent' + 'HTML']('beforeend', '<b>x</b>'); });
        return tried;
    }""")
    assert blocked == ["no", "no", "no"]
    elsewhere = "() => fetch('http://127.0.0.1:1/').then(() => 'done', () => 'no')"
    assert page.page.evaluate(elsewhere) == "no"
    assert len(page.console) >= 2  # the browser says so
    page.console.clear()
    page.asked[:] = [url for url in page.asked if ":1/" not in url]


def test_an_api_key_is_asked_for_and_kept_in_memory_only(start, visit):
    server = start(Server.fake, "--api-key", "secret-7")
    page = visit(server, wait=False)
    page.in_console = "401"
    page.alert("asks for an API key")
    key = page.box("API key")
    expect(key).to_be_focused()
    key.fill("wrong")
    page.send("hello")
    expect(page.button("Try again")).to_be_visible()  # the one that asked with the wrong key
    key.fill("secret-7")
    expect(page.page.get_by_role("spinbutton", name="Max New Tokens")).to_be_visible()
    page.button("Try again").click()
    page.said(1, "hello")
    page.button("Code").click()
    code = page.page.get_by_role("region", name="Code")
    expect(code).to_contain_text("$IDEFICS_API_KEY")
    expect(code).not_to_contain_text("secret-7")
    page.button("Close").click()
    page.page.reload()
    expect(page.box("API key")).to_have_value("")


def run_embed(program, tmp_path, budget, **files):
    for name, content in files.items():
        (tmp_path / name.replace("_", ".")).write_text(content)
    names = [name.replace("_", ".") for name in files]
    return subprocess.run([program, str(tmp_path / "out.cc"), str(budget), str(tmp_path), *names],
                          capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def embed():
    folder = os.environ.get("IDEFICS_BUILD_DIR") or str(ROOT / "build/release")
    return f"{folder}/server/playground/playground_embed"


def test_the_build_refuses_a_page_above_its_budget(embed, tmp_path):
    noise = "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=4000))
    assert run_embed(embed, tmp_path, 10, a_js=noise, b_css="p {}").returncode == 0
    first = (tmp_path / "out.cc").read_bytes()
    done = run_embed(embed, tmp_path, 2, a_js=noise, b_css="p {}")
    assert done.returncode == 1
    assert re.search(r"the playground page is \d+ bytes compressed, its budget is 2048; the "
                     r"largest file is a\.js", done.stderr)
    assert run_embed(embed, tmp_path, 10, a_js=noise, b_css="p {}").returncode == 0
    assert (tmp_path / "out.cc").read_bytes() == first  # the same bytes from the same files


@pytest.mark.parametrize("text, why", [
    ("x.innerHTML = y", "markup"), ("x.insertAdjacentHTML(a, b)", "markup"),
    ("document.write(x)", "markup"), ("eval(x)", "runs text"), ("<p style='a'>", "inline"),
    ("<p onclick='a()'>", "inline"), ("fetch('https://example.org/')", "another server"),
])
def test_the_build_refuses_what_a_page_must_not_hold(embed, tmp_path, text, why):
    done = run_embed(embed, tmp_path, 10, a_js="// first line\n" + text)
    assert done.returncode == 1 and "a.js:2: '" in done.stderr and why in done.stderr
