# SPDX-License-Identifier: Apache-2.0
"""What this browser keeps, what is written to a file and read again, and code that runs."""

import json
import subprocess

import pytest

from conftest import expect
from patience import wait_until
from test_composer import CAT, bytes_of


def kept(page):
    """The open conversation as IndexedDB has it, or null."""
    return page.page.evaluate("""async () => {
        const { Store } = await import('./store.js');
        const store = new Store();
        await store.open();
        const state = await store.page();
        return state && state.open ? (await store.conversation(state.open)) || null : null;
    }""")


def test_a_conversation_outlives_the_page(visit, demo):
    page = visit(demo)
    page.scene("Caption it as in the example")
    page.page.keyboard.press("Enter")
    page.said(1, "I see a burger.")
    page.box().fill("a draft")
    page.page.get_by_role("radio", name="Dark").check()
    wait_until(lambda: (kept(page) or {}).get("draft") == [{"type": "text", "text": "a draft"}], 30,
               "the draft's being kept")
    page.page.reload()
    page.ready().said(1, "I see a burger.")
    expect(page.question(1).get_by_role("img", name="Picture 1: scene-burger.webp")).to_be_visible()
    expect(page.box()).to_have_value("a draft")
    expect(page.page.locator("html")).to_have_attribute("data-theme", "dark")
    bodies = page.sent()
    page.send("caption this.")
    page.said(2, "I see a burger.")
    assert len(bodies[0]["messages"]) == 5  # with its example


def test_an_answer_under_way_is_kept_as_far_as_it_came(visit, fake):
    page = visit(fake)
    page.send("[chunks=3000][delay=0.1]w")
    wait_until(lambda: (kept(page) or {"turns": []})["turns"] and
               kept(page)["turns"][0]["answer"]["text"] != "", 30, "a part's being kept")
    page.page.reload()
    expect(page.answer(1)).to_contain_text("w-0")
    expect(page.answer(1)).to_contain_text("Stopped.")
    wait_until(lambda: fake.used() == 0, 30, "the server's being free again")


def test_conversations_are_listed_opened_and_deleted(visit, fake):
    page = visit(fake)
    page.send("[chunks=1]first")
    page.said(1, "first-0")
    page.button("New conversation").click()
    expect(page.answer(1)).to_have_count(0)
    expect(page.page.get_by_role("heading", name="Ask about pictures")).to_be_visible()
    page.send("[chunks=1]second")
    page.said(1, "second-0")
    page.button("Conversations").click()
    panel = page.page.get_by_role("region", name="Conversations")
    entries = panel.get_by_role("button", name="Open conversation")
    expect(entries).to_have_count(2)
    expect(entries.first).to_have_attribute("aria-current", "true")
    page.shot("conversations")
    page.button("Open conversation: [chunks=1]first").click()
    page.said(1, "first-0")
    expect(entries.last).to_have_attribute("aria-current", "true")  # the list is drawn
    page.button("Delete conversation: [chunks=1]first").click()
    expect(entries).to_have_count(1)
    page.button("Undo").click()
    expect(entries).to_have_count(2)
    page.button("Delete conversation: [chunks=1]second").click()
    expect(entries).to_have_count(1)


def test_the_list_holds_still_while_an_answer_is_kept(visit, fake):
    page = visit(fake)
    page.send("[chunks=1]first")
    page.said(1, "first-0")
    page.button("New conversation").click()
    expect(page.answer(1)).to_have_count(0)
    page.send("[chunks=3000][delay=0.1]w")
    page.button("Conversations").click()
    expect(page.button("Open conversation", exact=False)).to_have_count(2)
    entry = page.button("Open conversation: [chunks=1]first")
    entry.focus()

    def length():
        return sum(len(turn["answer"]["text"]) for turn in (kept(page) or {"turns": []})["turns"])
    for _ in range(3):
        before = length()
        wait_until(lambda before=before: length() > before, 30, "more being kept")
    expect(entry).to_be_focused()
    page.button("Stop").click()


def test_an_empty_tab_writes_nothing(visit, fake):
    page = visit(fake)
    page.send("[chunks=1]one")
    page.said(1, "one-0")
    wait_until(lambda: kept(page) is not None, 30, "its being kept")
    page.button("New conversation").click()
    page.page.reload()
    page.ready()
    assert page.page.evaluate("""async () => {
        const { Store } = await import('./store.js');
        const store = new Store();
        await store.open();
        return (await store.titles()).map(({ title }) => title);
    }""") == ["[chunks=1]one"]


def test_without_storage_all_else_works(visit, fake, browser):
    page = visit(fake, wait=False)
    page.page.add_init_script("delete window.indexedDB; Object.defineProperty(window, 'indexedDB', "
                              "{get() { throw new Error('no'); }});")
    page.page.add_init_script("Object.defineProperty(window, 'localStorage', "
                              "{get() { throw new Error('no'); }});")
    page.page.reload()
    page.ready()
    page.send("[chunks=1]x")
    page.said(1, "x-0")
    page.page.get_by_role("radio", name="Dark").check()
    page.button("Conversations").click()
    expect(page.page.get_by_text("This browser keeps nothing")).to_be_visible()


def export(page):
    with page.page.expect_download() as download:
        page.button("Export conversation").click()
    assert download.value.suggested_filename == "idefics-conversation.json"
    return json.loads(download.value.path().read_text())


def put_in(page, content, name="talk.json"):
    if not isinstance(content, str):
        content = json.dumps(content)
    with page.page.expect_file_chooser() as chooser:
        page.button("Import conversation").click()
    chooser.value.set_files({"name": name, "mimeType": "application/json",
                             "buffer": content.encode()})


def test_a_conversation_goes_out_and_comes_back(visit, fake):
    page = visit(fake)
    page.choose(CAT)
    expect(page.page.get_by_role("group", name="Picture 1: cat.jpg")).to_be_visible()
    page.send("[chunks=1]x")
    page.said(1, "x-0")
    page.button("Add example").click()
    page.box("Question of example 1").fill("q")
    page.box("Answer of example 1").fill("a")
    page.page.get_by_role("spinbutton", name="Max New Tokens").fill("77")
    file = export(page)
    assert file["format"] == "idefics-playground" and file["version"] == 1
    [question, answer] = file["turns"]
    assert question["role"] == "user" and answer == {
        "role": "assistant", "parts": [{"type": "text", "text": "x-0"}]}
    assert question["parts"][0]["name"] == "cat.jpg"
    assert bytes_of(question["parts"][0]["url"]) == CAT.read_bytes()
    assert file["examples"] == [{"parts": [{"type": "text", "text": "q"}], "answer": "a"}]
    assert file["settings"]["values"] == {"max_new_tokens": 77}
    other = visit(fake)
    put_in(other, file)
    other.said(1, "x-0")
    expect(other.question(1).get_by_role("img", name="Picture 1: cat.jpg")).to_be_visible()
    expect(other.page.get_by_role("spinbutton", name="Max New Tokens")).to_have_value("77")
    assert export(other) == file


NO_ADDRESS = "part 1 of entry 1 has no address that a picture can have"


def asking(part):
    return {"turns": [{"role": "user", "parts": [part]}]}


GOOD = {"format": "idefics-playground", "version": 1, "turns": [
    {"role": "user", "parts": [{"type": "text", "text": "hi"}]}]}


@pytest.mark.parametrize("change, why", [
    ("no json", "it is no JSON"),
    ({"format": "other"}, "its format is not idefics-playground"),
    ({"version": 2}, "its version is not 1"),
    ({"turns": "x"}, "turns is no list"),
    ({"turns": [{"role": "root", "parts": []}]}, "entry 1 has no role"),
    ({"turns": [{"role": "assistant", "parts": []}]}, "entry 1 answers no question"),
    (asking({"type": "text", "text": 5}), "part 1 of entry 1 has no text"),
    (asking({"type": "image", "name": "a", "url": "javascript:alert(1)"}), NO_ADDRESS),
    (asking({"type": "image", "name": "a", "url": "data:text/html,x"}), NO_ADDRESS),
    ({"examples": [{"parts": []}]}, "example 1 has no answer"),
    ({"settings": []}, "settings is no object"),
])
def test_a_file_that_is_none_changes_nothing(visit, fake, change, why):
    page = visit(fake)
    page.send("[chunks=1]x")
    page.said(1, "x-0")
    put_in(page, change if isinstance(change, str) else {**GOOD, **change}, "bad.json")
    page.alert(f"bad.json is no conversation of this page: {why}")
    page.said(1, "x-0")
    assert page.page.evaluate("({}).polluted") is None


def test_keys_of_files_reach_no_prototype(visit, fake):
    page = visit(fake)
    put_in(page, json.dumps(GOOD)[:-1] + ', "__proto__": {"polluted": 1}, "settings": '
           '{"values": {"__proto__": {"polluted": 1}, "seed": 3}, "theme": "constructor"}}')
    expect(page.question(1)).to_contain_text("hi")
    expect(page.page.get_by_role("spinbutton", name="Seed")).to_have_value("3")
    assert page.page.evaluate("({}).polluted") is None


HOSTILE = "it's \"$(id)\" `id` \\ JSON\nJSON\n</script> 日本 🐱 %s \u2028 {x}"


@pytest.mark.parametrize("language", ["curl", "Python"])
@pytest.mark.parametrize("mode", ["Chat", "Plain prompt"])
def test_the_shown_code_runs(visit, demo, language, mode):
    page = visit(demo)
    page.page.get_by_role("radio", name=mode).check()
    page.choose(CAT)
    text = "What is in the picture?"
    if mode != "Chat":
        text += "<end_of_utterance>\nAssistant:"
    page.box().fill(HOSTILE if mode == "Chat" else "User:")
    page.box("Message, part 3").fill(text)
    page.button("Code").click()
    page.page.get_by_role("tab", name=language).click()
    page.shot("code")
    code = page.page.get_by_role("region", name="Code").text_content()
    command = ["bash", "-s"] if language == "curl" else ["python3", "-I", "-"]
    done = subprocess.run(command, input=code, capture_output=True, text=True, check=False,
                          timeout=120)
    assert done.returncode == 0, done.stderr
    if language == "curl":
        body = json.loads(done.stdout)
        answer = body["choices"][0]["message"]["content"] if mode == "Chat" else body["output"]
    else:
        answer = done.stdout
    assert answer.strip() == "a cat in the top left." or (mode == "Chat" and "cat" in answer)
    page.button("Close").click()
    bodies = page.sent()
    page.page.get_by_role("textbox", name="Message, part 3").press("Enter")
    expect(page.answer(1).locator(".said")).to_have_text(answer.strip())
    sent = bodies[0]
    for key in ("stream", "stream_options"):
        sent.pop(key, None)
    page.button("Code").click()
    page.page.get_by_role("tab", name="curl").click()
    code = page.page.get_by_role("region", name="Code").text_content()
    assert json.loads(code.split("\n")[1]) == sent  # what was sent last, and nothing else


def test_code_is_copied_without_a_clipboard(visit, fake):
    page = visit(fake)
    page.page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    page.page.evaluate("document.addEventListener('copy', () => { window.copied = "
                       "document.activeElement.value.slice(0, 8); })")
    page.box().fill("x")
    page.button("Code").click()
    page.button("Copy code").click()
    expect(page.page.get_by_role("status", name="Announcements")).to_have_text("Copied.")
    assert page.page.evaluate("window.copied") == "curl -sS"
    page.page.get_by_role("tab", name="JavaScript").click()
    expect(page.page.get_by_role("region", name="Code")).to_contain_text("await fetch(")


def test_the_code_follows_the_composer(visit, fake):
    page = visit(fake)
    page.button("Code").click()
    expect(page.page.get_by_text("Write something first")).to_be_visible()
    page.button("Close").click()
    page.box().fill("something")
    page.page.get_by_role("radio", name="Top P Sampling").check()
    page.button("Code").click()
    code = page.page.get_by_role("region", name="Code")
    expect(code).to_contain_text('"something"')
    expect(code).to_contain_text('"top_p":0.8')
