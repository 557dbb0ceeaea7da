# SPDX-License-Identifier: Apache-2.0
"""Turns: streaming, stopping, editing, asking again, failures, and the states of the server."""

import json
import re

import pytest

from conftest import expect
from patience import wait_until
from servers import Server

BUSY = "Busy: 1 of 1 places taken"


def test_an_answer_is_streamed_and_announced_whole(visit, fake, tmp_path):
    page = visit(fake)
    page.page.evaluate("""() => {
        window.said = [];
        const status = document.getElementById('announcements');
        new MutationObserver(() => window.said.push(status.textContent))
          .observe(status, {childList: true, characterData: true, subtree: true});
    }""")
    page.send(f"[chunks=4][hold=1,{tmp_path}/go]word ")
    answer = page.answer(1)
    expect(answer).to_have_attribute("aria-busy", "true")
    expect(answer.locator(".said")).to_have_text("word -0")
    expect(page.button("Stop")).to_be_visible()
    expect(page.button("Send")).to_be_hidden()
    expect(page.box()).to_be_focused()
    page.shot("busy")
    (tmp_path / "go").touch()
    page.said(1, "word -0word -1word -2word -3")
    expect(page.button("Send")).to_be_visible()
    assert page.page.evaluate("window.said") == ["The answer begins.",
                                                 "word -0word -1word -2word -3"]
    expect(page.page.get_by_role("log", name="Conversation")).to_have_attribute("aria-live", "off")


def test_statistics_are_the_servers_own(visit, demo):
    page = visit(demo)
    page.send("How are you?")
    page.said(1, "I am fine, thank you.")
    expect(page.answer(1).locator(".stats")).to_have_text(
        re.compile(r"^\d+ tokens · (over )?[\d.]+ tokens/s · first token after \d+\.\d\d s$"))


def test_a_limit_is_said(visit, demo):
    page = visit(demo)
    page.page.get_by_role("spinbutton", name="Max New Tokens").fill("8")
    page.scene("Is the dog left of the carrot?")
    page.page.keyboard.press("Enter")
    expect(page.answer(1).locator(".stats")).to_contain_text("stopped at the limit of 8 tokens")


def test_a_dialogue_is_one_request(visit, demo):
    page = visit(demo)
    bodies = page.sent()
    page.scene("What is in the picture?")
    page.page.keyboard.press("Enter")
    page.said(1, "a panda in the center.")
    page.send("Where is the panda?")
    page.said(2, "it is in the center.")
    page.shot("readme")
    messages = bodies[1]["messages"]
    assert [m["role"] for m in messages] == ["user", "assistant", "user"]
    assert messages[1]["content"].strip() == "a panda in the center."
    assert bodies[1]["stream"] and bodies[1]["stream_options"] == {"include_usage": True}
    assert bodies[1]["temperature"] == 0 and bodies[1]["max_tokens"] == 512
    assert set(bodies[1]) == {"messages", "stream", "stream_options", "temperature", "max_tokens"}


@pytest.mark.parametrize("by", ["button", "key"])
def test_stop_before_the_first_token_frees_the_server(visit, fake, by):
    page = visit(fake)
    page.send("[sleep=600]late")
    wait_until(lambda: fake.used() == 1, 30, "the request's running")
    page.button("Stop").click() if by == "button" else page.page.keyboard.press("Escape")
    expect(page.answer(1)).to_contain_text("Stopped.")
    wait_until(lambda: fake.used() == 0, 30, "the server's being free again")
    bodies = page.sent()
    page.send("[chunks=1]next")
    page.said(2, "next-0")
    assert len(bodies[0]["messages"]) == 1  # what said nothing is no part of the context


def test_what_was_written_before_a_stop_stays_and_counts(visit, fake):
    page = visit(fake)
    page.send("[chunks=3000][delay=0.1]w")
    expect(page.answer(1).locator(".said")).to_have_text(re.compile("^w-0"))
    page.button("Stop").click()
    expect(page.answer(1)).to_contain_text("Stopped.")
    wait_until(lambda: fake.used() == 0, 30, "the server's being free again")
    bodies = page.sent()
    page.send("[chunks=1]next")
    page.said(2, "next-0")
    assert bodies[0]["messages"][1]["content"].startswith("w-0")


def test_a_turn_is_edited_with_its_pictures(visit, demo):
    page = visit(demo)
    page.scene("What is in the picture?")
    page.page.keyboard.press("Enter")
    page.said(1, "a panda in the center.")
    page.send("Where is it?")
    page.said(2, re.compile("."))
    page.box().fill("a draft")
    page.button("Edit turn 1").click()
    expect(page.page.get_by_text("Editing turn 1: later turns will be replaced.")).to_be_visible()
    expect(page.page.get_by_role("group", name="Picture 1: scene-panda.webp")).to_be_visible()
    page.button("Cancel editing").click()
    expect(page.box()).to_have_value("a draft")
    page.button("Edit turn 1").click()
    bodies = page.sent()
    page.send("Where is the panda?")
    page.said(1, "it is in the center.")
    expect(page.answer(2)).to_have_count(0)
    assert len(bodies[0]["messages"]) == 1


def test_only_the_last_answer_is_asked_for_again(visit, fake):
    page = visit(fake)
    page.send("[chunks=1]a")
    page.said(1, "a-0")
    page.send("[chunks=1]b")
    page.said(2, "b-0")
    expect(page.button("Regenerate answer 1")).to_have_count(0)
    with page.page.expect_request("**/v1/chat/completions") as asked:
        page.button("Regenerate answer 2").click()
    page.said(2, "b-0")
    assert len(asked.value.post_data_json["messages"]) == 3


def test_a_failure_says_the_servers_sentence_and_is_tried_again(visit, fake):
    page = visit(fake)
    page.in_console = "400"
    page.send("[fail=The lamp is broken.]x")
    failed = page.answer(1).get_by_role("alert")
    expect(failed).to_have_text("The lamp is broken.")
    page.shot("failed")
    with page.page.expect_request("**/v1/chat/completions"):
        page.button("Try again").click()
    expect(failed).to_have_text("The lamp is broken.")
    bodies = page.sent()
    page.send("[chunks=1]next")
    page.said(2, "next-0")
    assert len(bodies[0]["messages"]) == 1  # a failed turn is no context


def test_a_failure_in_the_middle_keeps_what_was_written(visit, fake):
    page = visit(fake)
    page.send("[chunks=5][fail_after=2,Out of paper.]x")
    expect(page.answer(1).get_by_role("alert")).to_have_text("Out of paper.")
    expect(page.answer(1).locator(".said")).to_have_text("x-0x-1")


def chunk(text):
    return "data: " + json.dumps({"choices": [{"delta": {"content": text}}]}) + "\n\n"


@pytest.mark.parametrize("answer, sentence", [
    ({"status": 200, "content_type": "text/event-stream", "body": chunk("half of")},
     "The connection broke off; the answer may be incomplete."),
    ({"status": 502, "content_type": "text/html", "body": "<html><b>Bad</b></html>"},
     "The server answered 502."),
    ({"status": 500, "content_type": "text/plain", "body": "x" * 5000}, re.compile("^x{300} …$")),
    ({"status": 429, "content_type": "application/json",
      "body": '{"error": {"message": "the queue is full"}}'}, "the queue is full"),
    ({"status": 422, "content_type": "application/json",
      "body": '{"detail": [{"msg": "one"}, {"msg": "two"}]}'}, "one; two"),
    ({"status": 200, "content_type": "text/event-stream",
      "body": 'data: {"error": {"message": "lost"}}\n\ndata: [DONE]\n\n'}, "lost"),
])
def test_answers_of_every_wrong_kind_are_said(visit, fake, answer, sentence):
    page = visit(fake)
    page.in_console = "status of"
    page.page.route("**/v1/chat/completions", lambda route: route.fulfill(**answer))
    page.send("x")
    expect(page.answer(1).get_by_role("alert")).to_have_text(sentence)


def test_characters_that_are_cut_between_two_reads_are_whole(visit, fake):
    page = visit(fake)
    read = page.page.evaluate("""async () => {
        const { EventReader } = await import('./talk.js');
        const reader = new EventReader();
        const bytes = new TextEncoder().encode(
          'data: "Äß🐱"\\n\\nevent: x\\r\\ndata: 2\\r\\n\\r\\ndata: 3');
        return [...bytes].flatMap((byte) => reader.push(Uint8Array.of(byte)));
    }""")
    assert read == [{"event": "message", "data": '"Äß🐱"'}, {"event": "x", "data": "2"}]


def test_states_of_the_server(visit, start):
    loading = start(Server.starting, FAKE_SETUP_DELAY="600")
    page = visit(loading, wait=False)
    expect(page.status()).to_have_text("Starting: the model is loading")
    expect(page.button("Send")).to_be_disabled()
    expect(page.button("Send")).to_have_accessible_description(re.compile("still loading"))
    page.box().fill("writing works")
    page.shot("starting")
    failed = start(Server.fake, FAKE_SETUP_FAIL="no such bundle")
    page = visit(failed, wait=False)
    expect(page.status()).to_have_text("Failed: no such bundle")
    expect(page.button("Send")).to_be_disabled()
    page.shot("setup-failed")
    ill = start(Server.fake, FAKE_HEALTH="raise")
    page = visit(ill, wait=False)
    expect(page.status()).to_contain_text("gpu is on fire")


def test_it_becomes_ready_by_itself(visit, start, tmp_path):
    page = visit(start(Server.starting, FAKE_SETUP_HOLD=f"{tmp_path}/go"), wait=False)
    page.in_console = "503"
    expect(page.status()).to_have_text("Starting: the model is loading")
    (tmp_path / "go").touch()
    page.ready()
    expect(page.button("Send")).to_be_enabled()
    expect(page.page.get_by_role("spinbutton", name="Max New Tokens")).to_have_value("512")


def test_a_busy_server_and_one_that_is_gone(visit, start):
    server = start(Server.fake, "--openai-queue", "0")
    first, second = visit(server), visit(server)
    first.in_console = second.in_console = "429|ERR_"
    first.send("[sleep=600]x")
    wait_until(lambda: server.used() == 1, 30, "the request's running")
    second.send("[chunks=1]y")
    expect(second.answer(1).get_by_role("alert")).to_contain_text("as many requests (1)")
    expect(second.status()).to_contain_text(BUSY)
    expect(second.button("Send")).to_be_enabled()
    first.button("Stop").click()
    wait_until(lambda: server.used() == 0, 30, "the server's being free again")
    second.button("Try again").click()
    second.said(1, "y-0")
    server.stop()
    expect(second.status()).to_contain_text("Disconnected: no answer from the server, trying again")
    second.send("[chunks=1]z")
    expect(second.answer(2).get_by_role("alert")).to_have_text("The server cannot be reached.")
    second.shot("disconnected")


def test_the_reader_is_not_dragged_down(visit, fake):
    page = visit(fake)
    page.send("[chunks=1]" + "line\n" * 60)
    page.said(1, re.compile("line"))
    log = page.page.get_by_role("log", name="Conversation")
    page.send("[chunks=100000][delay=0.02]word\n")
    expect(page.answer(2).locator(".said")).to_have_text(re.compile("word\n-40"))
    assert log.evaluate("(e) => e.scrollHeight - e.clientHeight - e.scrollTop") < 9  # it follows
    log.hover()
    page.page.mouse.wheel(0, -200)
    jump = page.button("Jump to the latest answer")
    expect(jump).to_be_visible()
    top = log.evaluate("(e) => e.scrollTop")
    count = page.answer(2).locator(".said").text_content().count("word")
    wait_until(lambda: page.answer(2).locator(".said").text_content().count("word") > count + 20,
               60, "more text")
    assert log.evaluate("(e) => e.scrollTop") == top
    jump.click()
    expect(jump).to_be_hidden()
    page.button("Stop").click()
    expect(page.answer(2)).to_contain_text("Stopped.")


def test_settings_are_the_servers_and_are_sent_as_they_show(visit, fake):
    page = visit(fake)
    bodies = page.sent()
    tokens = page.page.get_by_role("spinbutton", name="Max New Tokens")
    expect(tokens).to_have_value("512")
    expect(tokens).to_have_accessible_description("Upper bound on generated tokens.")
    page.page.get_by_role("radio", name="Top P Sampling").check()
    page.page.get_by_role("spinbutton", name="Seed").fill("7")
    page.page.get_by_text("More settings").click()
    page.page.get_by_role("spinbutton", name="Min New Tokens").fill("2")
    page.send("[echo]")
    expect(page.answer(1)).to_contain_text('"seed":7')
    body = bodies[0]
    assert (body["temperature"], body["top_p"], body["top_k"]) == (0.4, 0.8, 50)
    assert (body["seed"], body["min_tokens"], body["max_tokens"]) == (7, 2, 512)
    tokens.fill("4000")
    expect(tokens).to_have_attribute("aria-invalid", "true")
    page.send("x")
    page.alert("Max New Tokens must be from 8 to 1024.")
    assert len(bodies) == 1
    page.button("Reset settings").click()
    expect(tokens).to_have_value("512")
    page.box().press("Enter")
    page.said(2, "x")
    assert bodies[1]["temperature"] == 0 and "seed" not in bodies[1]
    # Beams cannot be streamed.
    page.page.get_by_role("spinbutton", name="Num Beams").fill("2")
    page.send("beams")
    page.said(3, "beams")
    assert bodies[2]["num_beams"] == 2 and "stream" not in bodies[2]


def test_a_plain_prompt_is_sent_as_it_is_written(visit, demo):
    page = visit(demo)
    bodies = page.sent()
    page.page.get_by_role("radio", name="Plain prompt").check()
    prompt = "User: What is 3 plus 4?<end_of_utterance>\nAssistant:"
    page.send(prompt)
    page.said(1, "3 plus 4 is 7.")
    assert bodies[0] == {"input": {"prompt": [prompt], "max_new_tokens": 512}}
    expect(page.answer(1).locator(".stats")).to_contain_text("tokens/s")
