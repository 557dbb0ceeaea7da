# SPDX-License-Identifier: Apache-2.0
"""Pictures by data URI and by URL: cases 86-97. Pixels themselves are compared in tests/images."""

import base64
import io
import json
import socket
import struct
import urllib.parse
import zlib

import pytest
from PIL import Image

from cases import case
from client import ASYNC, data_uri, inputs, png, request
from patience import Pace, wait_until


def picture_bytes(kind, mode="RGB", size=(6, 5), **options):
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, kind, **options)
    return buffer.getvalue()


def echo(server, image):
    """(width, height) of the picture as the engine got it."""
    body = server.predict("[echo]", image=image)
    assert body["status"] == "succeeded", body
    given = json.loads(body["output"])
    return given["image_width"], given["image_height"]


def failure(server, image):
    body = server.predict(image=image)
    assert body["status"] == "failed", body
    return body["error"]


@case(86, "c", "data URIs of PNG, JPEG and WebP are read")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_formats(server, kind):
    assert echo(server, data_uri(picture_bytes(kind), f"image/{kind.lower()}")) == (6, 5)


@case("86b", "c", "the media type is not believed: the bytes decide")
def test_wrong_media_type(server):
    assert echo(server, data_uri(picture_bytes("JPEG"), "image/png")) == (6, 5)


@case(87, "c", "a picture that is none fails the prediction", any_engine=True)
@pytest.mark.parametrize(
    "image", ["data:image/svg+xml,%3Csvg%20xmlns='x'/%3E", "data:text/plain,hello", "data:,"])
def test_garbage(server, image):
    assert failure(server, image)


@case("87b", "c", "a percent-encoded data URI is read as bytes")
def test_percent_encoded(server):
    assert echo(server, "data:image/png," + urllib.parse.quote_from_bytes(png(7, 2))) == (7, 2)


@case(88, "c", "parameters and the case of the media type do not matter")
@pytest.mark.parametrize(
    "head", ["data:image/png;charset=utf-8;base64,", "data:IMAGE/PNG;base64,", "data:;base64,"])
def test_media_type_parameters(server, head):
    assert echo(server, head + base64.b64encode(png()).decode()) == (4, 3)


@case("88b", "c", "a data URI without a comma fails with a sentence", any_engine=True)
def test_no_comma(server):
    assert failure(server, "data:image/png;base64")


@case(89,
      "c",
      "a picture by URL is fetched, with COG_USER_AGENT",
      env={"COG_USER_AGENT": "conformance/1"})
def test_url(server, pictures):
    pictures.requests.clear()
    assert echo(server, pictures.url + "/ok.png") == (4, 3)
    assert [headers["User-Agent"] for _, headers in pictures.requests] == ["conformance/1"]


@case(90, "c", "redirects are followed; a loop of them fails")
def test_redirects(server, pictures):
    assert echo(server, pictures.url + "/to?/ok.png") == (4, 3)
    assert failure(server, pictures.url + "/loop")


@case("90b", "hard", "a redirect to a file: URL is not followed")
def test_redirect_to_a_file(server, pictures):
    assert failure(server, pictures.url + "/to?file:///etc/passwd")


@case(
    91, "c",
    "a URL that answers 404 fails the prediction, which the error says; asynchronously after 202")
def test_not_found(server, pictures, hook):
    assert "404" in failure(server, pictures.url + "/none.png")
    server.wait_status("READY")
    body = request(webhook=hook.url)
    body["input"]["image"] = pictures.url + "/none.png"
    assert server.post(body, ASYNC).status == 202
    last = hook.wait_completed()[-1].json
    assert last["status"] == "failed" and "404" in last["error"]


@case(92, "c", "a host that refuses or does not answer fails the prediction within 12 s",)
def test_unreachable(server, idle):
    with socket.socket() as silent:
        # A full backlog: connections to it are neither taken nor refused.
        silent.bind(("127.0.0.1", 0))
        silent.listen(0)
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(silent.getsockname())
        with Pace(idle.health) as pace:
            assert failure(server, f"http://127.0.0.1:{silent.getsockname()[1]}/x.png")
        assert pace.took < 10 + 2 * pace.slowness
        for filler in fillers:
            filler.close()
    assert failure(server, "http://127.0.0.1:1/x.png")


@case(93, "c", "a server that stalls in the middle fails the prediction within 12 s",)
def test_stall(server, idle, pictures):
    with Pace(idle.health) as pace:
        assert failure(server, pictures.url + "/slow")
    assert pace.took < 10 + 2 * pace.slowness


@case(
    94, "hard",
    "truncated, empty and gigantic pictures fail, a picture of one pixel does not; the server lives"
)
def test_hostile_pictures(server):
    jpeg = picture_bytes("JPEG", size=(200, 200))
    for broken in (jpeg[:len(jpeg) // 2], b"", png()[:30]):
        assert failure(server, data_uri(broken))
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    bomb = (b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + header
            + struct.pack(">I", zlib.crc32(b"IHDR" + header)))
    assert failure(server, data_uri(bomb))
    assert echo(server, data_uri(png(1, 1))) == (1, 1)


@case(95, "c", "every mode that Pillow converts to RGB is read; EXIF does not turn the picture")
@pytest.mark.parametrize("kind, mode", [("PNG", "L"), ("PNG", "RGBA"), ("PNG", "P"), ("PNG", "1"),
                                        ("PNG", "I;16"), ("PNG", "LA"), ("JPEG", "CMYK"),
                                        ("JPEG", "L"), ("GIF", "P"), ("BMP", "RGB"),
                                        ("WEBP", "RGBA")])
def test_modes(server, kind, mode):
    assert echo(server, data_uri(picture_bytes(kind, mode))) == (6, 5)


@case("95b", "c", "the first frame of an animation counts, and a rotation in EXIF does not")
def test_animation_and_exif(server):
    frames = [Image.new("P", (6, 5), color) for color in (0, 1)]
    assert echo(server, data_uri(picture_bytes("GIF", "P", save_all=True,
                                               append_images=frames))) == (6, 5)
    turned = Image.Exif()
    turned[0x0112] = 6
    assert echo(server, data_uri(picture_bytes("JPEG", exif=turned))) == (6, 5)


@case(96, "c", "no temporary file is left behind")
def test_no_files_left(start, pictures, tmp_path):
    server = start(env={"TMPDIR": str(tmp_path)})

    def files():
        return {path for path in tmp_path.rglob("*") if path.is_file()}
    before = files()
    for _ in range(5):
        server.predict()
        server.predict(image=pictures.url + "/ok.png")
    wait_until(lambda: files() <= before, what="that the files are gone")


@case(97,
      "ours",
      "a cancel during a download ends the prediction at once",
      coglet="still running after 8 s",
      fresh=True)
def test_cancel_download(server, idle, pictures, hook):
    body = {"input": inputs(image=pictures.url + "/slow"), "webhook": hook.url}
    pictures.requests.clear()
    assert server.put("loading", body, ASYNC).status == 202
    wait_until(lambda: pictures.requests, what="the download")
    with Pace(idle.health) as pace:
        assert server.cancel("loading") == 200
        assert hook.wait_completed()[-1].json["status"] == "canceled"
    assert pace.took < 2 * pace.slowness
    server.wait_status("READY", seconds=1)


@case(198,
      "hard",
      "pictures are not fetched from loopback and private addresses, however they are written",
      coglet="fetches from everywhere",
      tuning=("--allow-private-urls", "false"))
@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "127.1", "[::1]", "[::ffff:127.0.0.1]", "0"])
def test_private_addresses(server, pictures, host):
    pictures.requests.clear()
    assert failure(server, f"http://{host}:{pictures.server_address[1]}/ok.png")
    assert not pictures.requests
