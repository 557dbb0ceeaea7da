# SPDX-License-Identifier: Apache-2.0
"""For everybody: by keyboard alone, by assistive technology, on phones, in the dark, without
motion; and hostile texts and names that stay texts."""

import json
import os

import pytest
from axe_playwright_python.sync_playwright import Axe

from conftest import PHONE, expect
from test_composer import CAT, file, picture
from test_keeping import put_in

NARROW = {**PHONE, "viewport": {"width": 320, "height": 640}}
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
         "resultTypes": ["violations"]}


def violations(page):
    """The serious findings of axe, one line each."""
    # The library puts its script into the page by DevTools, past the page's policy.
    found = Axe().run(page.page, options=RULES).response
    lines = [f"{rule['impact']} {rule['id']}: {node['target']}" for rule in found["violations"]
             for node in rule["nodes"]]
    if report := os.environ.get("IDEFICS_AXE_REPORT"):
        with open(report, "a") as out:
            out.write(json.dumps({"url": page.page.url, "passes": len(found["passes"]),
                                  "violations": lines, "engine": found["testEngine"]}) + "\n")
    return lines


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("device", ["desktop", "phone"])
def test_axe_finds_nothing(visit, demo, scheme, device):
    # Transitions: a colour that is measured half way is none of the page's.
    page = visit(demo, color_scheme=scheme, reduced_motion="reduce",
                 **(PHONE if device == "phone" else {}))
    expect(page.button("Try: What does it say?")).to_be_visible()
    name = f"start-{device}-{scheme}"
    page.shot(name)
    assert violations(page) == []
    page.scene("Caption it as in the example")
    page.button("Add picture by address").click()
    page.button("Add").click()  # a refusal
    assert violations(page) == []
    page.button("Add picture by address").click()
    page.button("Send").click()
    page.said(1, "I see a burger.")
    page.button("Edit turn 1").click()
    page.shot(f"turn-{device}-{scheme}")
    assert violations(page) == []
    page.button("Code").click()
    assert violations(page) == []
    page.button("Close").click()
    if device == "phone":
        page.button("Settings").click()
    page.page.get_by_text("More settings").click()
    page.page.get_by_role("spinbutton", name="Top K").fill("-1")
    page.shot(f"settings-{device}-{scheme}")
    assert violations(page) == []
    page.button("Conversations").click()
    assert violations(page) == []


def test_everything_is_done_by_keyboard(visit, demo):
    page = visit(demo)
    keyboard = page.page.keyboard
    expect(page.box()).to_be_focused()
    skip = page.page.get_by_role("link", name="Skip to message")
    for _ in range(40):  # back to the first of all
        if skip.evaluate("(link) => link === document.activeElement"):
            break
        keyboard.press("Shift+Tab")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    keyboard.press("Enter")
    expect(page.box()).to_be_focused()
    keyboard.type("one")
    keyboard.press("Shift+Enter")
    keyboard.type("two")
    expect(page.box()).to_have_value("one\ntwo")
    # To each button of the composer, in order.
    for name in ("Add pictures", "Add picture by address", "Add example", "Send"):
        keyboard.press("Tab")
        expect(page.button(name)).to_be_focused()
    keyboard.press("Enter")
    expect(page.answer(1)).not_to_have_attribute("aria-busy", "true")
    expect(page.box()).to_be_focused()
    page.button("Code").focus()
    keyboard.press("Enter")
    expect(page.page.get_by_role("tab", name="curl")).to_be_focused()
    keyboard.press("ArrowRight")
    expect(page.page.get_by_role("tab", name="Python")).to_be_focused()
    keyboard.press("Escape")
    expect(page.button("Code")).to_be_focused()
    page.button("Edit turn 1").focus()
    keyboard.press("Enter")
    expect(page.box()).to_be_focused()
    expect(page.box()).to_have_value("one\ntwo")


def test_an_input_method_is_not_interrupted(visit, fake):
    page = visit(fake)
    bodies = page.sent()
    page.box().fill("日本")
    page.box().evaluate("""(field) => {
        const press = (more) => field.dispatchEvent(new KeyboardEvent('keydown',
          {key: 'Enter', bubbles: true, cancelable: true, ...more}));
        press({isComposing: true});
        press({keyCode: 229});
    }""")
    assert bodies == [] and page.box().input_value() == "日本"
    page.box().fill(" \n ")
    page.box().press("Enter")  # white space alone
    assert bodies == []


@pytest.mark.parametrize("device", [PHONE, NARROW], ids=["390", "320"])
def test_on_a_phone(visit, demo, device):
    page = visit(demo, **device)
    width = device["viewport"]["width"]

    def fits():
        sizes = page.page.evaluate("""() => {
            const log = document.getElementById('log');
            return [document.scrollingElement.scrollWidth, log.scrollWidth - log.clientWidth];
        }""")
        assert sizes[0] <= width and sizes[1] <= 0
        send = page.page.locator("#send, #stop").filter(visible=True).bounding_box()
        assert send["x"] + send["width"] <= width
        assert send["y"] + send["height"] <= device["viewport"]["height"]
    expect(page.page.get_by_role("region", name="Settings")).to_be_hidden()
    fits()
    page.shot(f"phone-{width}")
    page.scene("Caption it as in the example")
    fits()
    page.box("Message, part 3").press("Enter")  # a new line, on a touch screen
    expect(page.box("Message, part 3")).to_have_value("caption this.\n")
    page.button("Send").tap()
    page.said(1, "I see a burger.")
    fits()
    page.shot(f"phone-answer-{width}")
    page.answer(1).locator(".stats").evaluate("""(line) => {
        line.textContent = '1024 tokens · over 10000 tokens/s · first token after 1234.56 s · '
          + 'stopped at the limit of 1024 tokens';
    }""")
    fits()
    page.button("Settings").tap()
    panel = page.page.get_by_role("region", name="Settings")
    box = panel.bounding_box()
    assert box["width"] == width and box["y"] > 100
    panel.get_by_role("button", name="Close settings").tap()
    expect(panel).to_be_hidden()
    small = page.page.evaluate("""() => [...document.querySelectorAll('button, a, input, summary')]
        .filter((e) => e.checkVisibility({visibilityProperty: true}) && !e.closest('.skip'))
        .map((e) => [e.getAttribute('aria-label') || e.textContent, e.getBoundingClientRect()])
        .filter(([, box]) => box.width > 0 && (box.width < 24 || box.height < 24))
        .map(([name, box]) => `${name}: ${box.width} x ${box.height}`)""")
    assert small == []


def test_dark_follows_the_system_until_it_is_chosen(visit, fake):
    page = visit(fake, color_scheme="dark")

    def ground():
        return page.page.evaluate("getComputedStyle(document.body).backgroundColor")
    dark = ground()
    page.page.get_by_role("radio", name="Light").check()
    light = ground()
    assert dark != light
    page.page.emulate_media(color_scheme="light")
    page.page.get_by_role("radio", name="Dark").check()
    assert ground() == dark
    page.page.reload()
    assert ground() == dark
    page.ready()
    assert ground() == dark
    page.page.get_by_role("radio", name="System").check()
    assert ground() == light


def test_nothing_moves_for_who_asked_for_that(visit, fake):
    page = visit(fake, reduced_motion="reduce")
    page.send("[sleep=600]x")
    expect(page.answer(1).locator(".thinking")).to_be_visible()
    page.button("Code").click()
    assert page.page.evaluate("document.getAnimations().length") == 0
    page.button("Close").click()
    page.button("Stop").click()
    expect(page.answer(1)).to_contain_text("Stopped.")


MARKUP = ("<img src=x onerror=alert(1)><script>alert(1)</script>**b** "
          "[a](javascript:alert(1)) ![](//e.org/x)")


def test_markup_stays_text(visit, fake):
    page = visit(fake)
    page.page.on("dialog", lambda dialog: pytest.fail("a script ran"))
    page.send("[chunks=1]" + MARKUP)
    page.said(1, MARKUP + "-0")
    expect(page.question(1).locator(".said")).to_have_text("[chunks=1]" + MARKUP)
    page.choose(file(MARKUP.replace("/", "_") + ".png", picture()))
    name = MARKUP.replace("/", "_") + ".png"
    expect(page.page.get_by_role("img", name=f"Picture 1: {name}")).to_be_visible()
    page.send("[chunks=1]x")
    page.said(2, "x-0")
    page.button(f"View picture 1: {name}").click()
    page.button("Close").click()
    put_in(page, {"format": "idefics-playground", "version": 1, "turns": [
        {"role": "user", "parts": [{"type": "text", "text": MARKUP}]},
        {"role": "assistant", "parts": [{"type": "text", "text": MARKUP}]}]})
    page.said(1, MARKUP)
    page.button("Conversations").click()
    expect(page.page.locator("#conversation-list script, #turns script, #turns a")).to_have_count(0)
    assert page.page.evaluate("document.querySelectorAll('script').length") == 2


def test_a_huge_answer_does_not_freeze_the_page(visit, fake):
    page = visit(fake)
    page.send("[chunks=200][big=5000]x")
    expect(page.answer(1)).not_to_have_attribute("aria-busy", "true")
    assert len(page.answer(1).locator(".said").text_content()) == 1_000_000
    page.choose(CAT)
    expect(page.page.get_by_role("group", name="Picture 1: cat.jpg")).to_be_visible()
