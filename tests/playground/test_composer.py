# SPDX-License-Identifier: Apache-2.0
"""Texts, pictures and examples: how they come in, in which order, and what is sent of them."""

import base64
import io
import re

import pytest
from PIL import Image

from conftest import expect
from servers import ROOT

ASSETS = ROOT / "tests/assets"
CAT, COUNT, WORD = ASSETS / "cat.jpg", ASSETS / "count.jpg", ASSETS / "word.jpg"


def picture(kind="PNG", size=(40, 30), color="red", **options):
    out = io.BytesIO()
    Image.new("RGB", size, color).save(out, kind, **options)
    return out.getvalue()


def file(name, content, kind="image/png"):
    return {"name": name, "mimeType": kind, "buffer": content}


def as_item(name, content, kind="image/png"):
    return {"name": name, "type": kind, "bytes": list(content)}


def bytes_of(url):
    return base64.b64decode(url.partition(",")[2])


def content_of(body, message=-1):
    return body["messages"][message]["content"]


def image_of(body):
    return next(part["image_url"]["url"] for part in content_of(body) if part["type"] != "text")


def shapes(parts):
    """["text", "image"…] of a message."""
    return [part["text"] if part["type"] == "text" else "image" for part in parts]


def test_a_chosen_picture_is_sent_byte_for_byte(visit, demo):
    page = visit(demo)
    bodies = page.sent()
    page.choose(CAT)
    expect(page.page.get_by_role("img", name="Picture 1: cat.jpg")).to_be_visible()
    expect(page.box("Message, part 3")).to_be_focused()
    page.shot("composer")
    page.send("What is in the picture?")
    page.said(1, "a cat in the top left.")
    [image, text] = content_of(bodies[0])
    assert image["image_url"]["url"].startswith("data:image/jpeg;base64,")
    assert bytes_of(image["image_url"]["url"]) == CAT.read_bytes()
    assert text == {"type": "text", "text": "What is in the picture?"}


def test_pictures_are_dropped_and_pasted(visit, fake):
    page = visit(fake)
    png = picture()
    assert page.transfer("dragover", "main", [as_item("a.png", png)])
    assert page.transfer("drop", "main", [as_item("a.png", png), as_item("b.png", png)])
    expect(page.page.get_by_role("group", name="Picture 2: b.png")).to_be_visible()
    assert page.transfer("paste", "#parts textarea", [as_item("c.png", png)])
    expect(page.page.get_by_role("group", name="Picture 3: c.png")).to_be_visible()
    # A spreadsheet's cells bring a bitmap of themselves: their text is meant.
    cells = [as_item("image.png", png), {"type": "text/plain", "text": "1"},
             {"type": "text/html", "text": "<td>1</td>"}]
    assert not page.transfer("paste", "#parts textarea", cells)
    assert not page.transfer("paste", "#parts textarea", [{"type": "text/plain", "text": "x"}])
    expect(page.page.get_by_role("group", name="Picture 4")).to_have_count(0)


def test_the_same_file_can_come_again(visit, fake):
    page = visit(fake)
    page.choose(CAT)
    page.choose(CAT)
    expect(page.page.get_by_role("group", name="Picture 2: cat.jpg")).to_be_visible()


def test_text_and_pictures_are_interleaved(visit, demo):
    page = visit(demo)
    bodies = page.sent()
    page.box().fill("first second")
    page.box().evaluate("(field) => field.setSelectionRange(5, 5)")
    page.choose(CAT)  # goes in at the caret
    expect(page.box()).to_have_value("first")
    page.box("Message, part 3").focus()
    page.page.keyboard.press("End")
    page.choose(COUNT)
    page.box("Message, part 5").fill("what is in the first picture?")
    page.page.keyboard.press("Enter")
    page.said(1, "a cat.")
    assert shapes(content_of(bodies[0])) == ["first", "image", " second", "image",
                                            "what is in the first picture?"]
    shown = page.question(1).locator(".said, img")
    assert [e.evaluate("(e) => e.tagName") for e in shown.all()] == ["P", "IMG", "P", "IMG", "P"]


def test_a_picture_goes_in_at_the_caret_of_any_text(visit, fake):
    page = visit(fake)
    bodies = page.sent()
    page.box().fill("[chunks=1]ab")
    page.choose(CAT)
    page.box("Message, part 3").fill("c")
    page.box().evaluate("(field) => { field.focus(); field.setSelectionRange(11, 11); }")
    page.choose(COUNT)
    expect(page.page.get_by_role("group", name="Picture 1: count.jpg")).to_be_visible()
    page.box("Message, part 3").press("Enter")
    page.said(1, "abc-0")
    assert shapes(content_of(bodies[0])) == ["[chunks=1]a", "image", "b", "image", "c"]


def test_pictures_move_and_go(visit, fake):
    page = visit(fake)
    bodies = page.sent()
    page.box().fill("[echo]")
    page.choose(CAT, COUNT, WORD)
    names = page.page.locator("#parts .picture")

    def order():
        return [name.get_attribute("aria-label") for name in names.all()]
    page.button("Move picture 1 later").click()
    assert order() == ["Picture 1: count.jpg", "Picture 2: cat.jpg", "Picture 3: word.jpg"]
    expect(page.button("Move picture 2 later")).to_be_focused()
    page.button("Move picture 3 earlier").click()
    page.button("Remove picture 1: count.jpg").click()
    assert order() == ["Picture 1: word.jpg", "Picture 2: cat.jpg"]
    expect(page.button("Remove picture 1: word.jpg")).to_be_focused()
    page.button("Move picture 1 earlier").click()  # past the text
    page.box("Message, part 3").fill("[echo] and")
    page.page.keyboard.press("Enter")
    expect(page.answer(1)).not_to_have_attribute("aria-busy", "true")
    assert shapes(content_of(bodies[0])) == ["image", "[echo] and", "image"]


def test_text_goes_between_two_pictures(visit, fake):
    page = visit(fake)
    bodies = page.sent()
    page.box().fill("[chunks=1]")
    page.choose(CAT, COUNT)
    page.button("Write between pictures 1 and 2").click()
    page.page.keyboard.type("and")
    page.send("x")
    page.said(1, "andx-0")
    assert shapes(content_of(bodies[0])) == ["[chunks=1]", "image", "and", "image", "x"]


def test_answered_examples_lead_the_question(visit, demo):
    page = visit(demo)
    bodies = page.sent()
    page.scene("Caption it as in the example")
    example = page.page.get_by_role("group", name="Example 1", exact=True)
    expect(example.get_by_role("img", name="Picture 1: scene-octopus.webp")).to_be_visible()
    expect(page.box("Answer of example 1")).to_have_value("I see an octopus.")
    page.page.locator("#composer-scroll").evaluate("(box) => { box.scrollTop = 0; }")
    page.shot("example")
    page.send("caption this.")
    page.said(1, "I see a burger.")
    [question, answer, _] = bodies[0]["messages"]
    assert shapes(question["content"]) == ["image", "caption this."]
    assert answer == {"role": "assistant", "content": "I see an octopus."}
    # They stay for the next question, folded.
    expect(page.box("Answer of example 1")).to_be_hidden()
    page.send("caption this.")
    expect(page.answer(2)).not_to_have_attribute("aria-busy", "true")
    assert [m["role"] for m in bodies[1]["messages"]] == ["user", "assistant"] * 2 + ["user"]
    page.button("Show 1 example").click()
    page.button("Remove example 1").click()
    page.send("caption this.")
    page.said(3, re.compile("burger"))
    assert [m["role"] for m in bodies[2]["messages"]] == ["user", "assistant"] * 2 + ["user"]


def test_an_example_is_built_by_hand(visit, fake):
    page = visit(fake)
    bodies = page.sent()
    page.button("Add example").click()
    expect(page.box("Question of example 1")).to_be_focused()
    page.choose(CAT, button="Add pictures to example 1")
    page.box("Question of example 1, part 3").fill("Who?")
    page.box().fill("[chunks=1]x")
    page.box().press("Enter")
    page.alert("Example 1 has no answer yet")
    page.box("Answer of example 1").fill("A cat.")
    page.box().press("Enter")
    page.said(1, "x-0")
    assert shapes(bodies[0]["messages"][0]["content"]) == ["image", "Who?"]
    assert bodies[0]["messages"][1]["content"] == "A cat."


def test_a_picture_by_address_is_not_fetched_by_the_page(visit, fake):
    page = visit(fake)
    page.in_console = "400"
    page.button("Add picture by address").click()
    page.box("Picture address").fill("ftp://example.org/cat.png")
    page.button("Add").click()
    page.alert("Picture address must begin with http:// or https://.")
    page.box("Picture address").fill("https://example.org/some/cat.png")
    page.box("Picture address").press("Enter")
    expect(page.page.get_by_role("img", name="Picture 1: cat.png")).to_be_visible()
    bodies = page.sent()
    page.send("[chunks=1]x")
    page.alert(r"")  # the server's own sentence: it reaches nobody here
    assert image_of(bodies[0]) == "https://example.org/some/cat.png"


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 64
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'


@pytest.mark.parametrize("name, content, sentence", [
    ("empty.png", b"", "empty.png is empty."),
    ("notes.png", b"just text", "notes.png is no picture that can be read: JPEG, PNG, GIF, WebP"),
    ("photo.jpg", HEIC, "photo.jpg is a HEIC photograph"),
    ("drawing.png", SVG, "drawing.png is an SVG drawing"),
    ("cut.png", picture()[:40], "cut.png is damaged"),
])
def test_what_is_no_picture_is_refused_by_its_bytes(visit, fake, name, content, sentence):
    page = visit(fake)
    page.choose(file("good.txt", picture(), "text/plain"), file(name, content))
    page.alert(sentence)
    expect(page.page.get_by_role("group", name="Picture 1: good.txt")).to_be_visible()
    expect(page.page.locator("#parts .picture")).to_have_count(1)


@pytest.mark.parametrize("kind, mime", [
    ("JPEG", "image/jpeg"), ("GIF", "image/gif"), ("WEBP", "image/webp"), ("AVIF", "image/avif"),
    ("BMP", "image/bmp"), ("TIFF", "image/tiff"), ("PPM", "image/x-portable-pixmap")])
def test_every_kind_that_the_server_reads_is_taken(visit, fake, kind, mime):
    page = visit(fake)
    bodies = page.sent()
    page.choose(file("a.bin", picture(kind), "application/octet-stream"))
    expect(page.page.get_by_role("img", name="Picture 1: a.bin")).to_be_visible()
    page.send("[echo]")
    expect(page.answer(1)).to_contain_text('"image_width":40')
    assert image_of(bodies[0]).startswith(f"data:{mime};base64,")


def photograph(width=4032, height=3024):
    """Twelve megapixels that no codec makes small."""
    grain = Image.effect_noise((width // 4, height // 4), 90).resize((width, height))
    return Image.merge("RGB", [grain, grain.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
                               grain.transpose(Image.Transpose.FLIP_TOP_BOTTOM)])


def test_a_large_photograph_is_sent_smaller_and_upright(visit, fake):
    image = photograph()
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    out = io.BytesIO()
    image.save(out, "JPEG", quality=90, exif=exif)
    assert out.tell() > 1 << 20
    page = visit(fake)
    bodies = page.sent()
    page.choose(file("photo.jpg", out.getvalue(), "image/jpeg"))
    expect(page.page.get_by_text("3024 × 4032, sent smaller")).to_be_visible()
    page.send("[echo]")
    expect(page.answer(1)).to_contain_text('"image_height":1280,"image_width":960')
    url = image_of(bodies[0])
    assert url.startswith("data:image/jpeg") and len(bytes_of(url)) < out.tell()
    # With the switch off the file itself goes.
    page.page.get_by_role("checkbox", name="Shrink large pictures").uncheck()
    page.choose(file("photo.jpg", out.getvalue(), "image/jpeg"))
    page.send("[chunks=1]x")
    page.said(2, "x-0")
    assert bytes_of(image_of(bodies[1])) == out.getvalue()


def test_a_small_picture_on_its_side_is_stood_up_by_the_server(visit, fake):
    exif = Image.Exif()
    exif[0x0112] = 6
    content = picture("JPEG", exif=exif)
    page = visit(fake)
    bodies = page.sent()
    page.choose(file("a.jpg", content))
    page.send("[echo]")
    expect(page.answer(1)).to_contain_text('"image_height":40,"image_width":30')
    assert bytes_of(image_of(bodies[0])) == content


def test_a_picture_opens_large(visit, fake):
    page = visit(fake)
    page.choose(CAT)
    page.button("View picture 1: cat.jpg").click()
    dialog = page.page.get_by_role("dialog", name="Picture 1: cat.jpg")
    expect(dialog.get_by_role("img", name="Picture 1: cat.jpg")).to_be_visible()
    page.shot("picture")
    page.page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(page.button("View picture 1: cat.jpg")).to_be_focused()


def test_the_demo_says_kindly_that_it_knows_no_photographs(visit, demo):
    page = visit(demo)
    page.choose(CAT)
    expect(page.page.get_by_text("has only ever seen drawn scenes")).to_be_visible()


def test_more_pictures_than_the_server_takes_are_not_sent(visit, fake):
    page = visit(fake)
    bodies = page.sent()
    most = page.page.evaluate("() => fetch('../v1/models').then((r) => r.json())")
    most = most["data"][0]["meta"]["max_images"]
    png = picture(size=(2, 2))
    page.choose(*[file(f"{i}.png", png) for i in range(most + 1)])
    expect(page.page.locator("#parts .picture")).to_have_count(most + 1)
    page.send("x")
    page.alert(f"at most {most} pictures")
    assert bodies == []
