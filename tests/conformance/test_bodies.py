# SPDX-License-Identifier: Apache-2.0
"""The request's body and frame before anything is validated: cases 78-85, and hostile framing."""

import json
import select
import socket

import pytest

from cases import case
from client import PICTURE, request
from patience import Pace

JSON = {"Content-Type": "application/json"}


def post_text(server, text, headers=None):
    return server.ask("POST", "/predictions", text, JSON if headers is None else headers)


def head(server, *lines, body=b""):
    """A raw POST /predictions with these header lines."""
    text = "\r\n".join([
        "POST /predictions HTTP/1.1", f"Host: {server.host}", "Content-Type: application/json",
        *lines, "", ""
    ])
    return text.encode("latin-1") + body


@case(78, "c", "a body that is no JSON is 400", any_engine=True)
@pytest.mark.parametrize(
    "text", ["{bad", '{"input":{}} x', "{'input':{}}", '{"input":{},}', '{"input":{}}\0'])
def test_bad_json(server, text):
    assert post_text(server, text).status == 400


@case(79, "c", "an empty body of the JSON type is 400", any_engine=True)
def test_empty_body(server):
    assert post_text(server, "").status == 400


@case(80, "c", "any other content type is 415", any_engine=True)
@pytest.mark.parametrize("kind", [
    "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x",
    "application/octet-stream", "text/json"
])
def test_other_types(server, kind):
    assert post_text(server, json.dumps(request()), {"Content-Type": kind}).status == 415


@case("80b", "c", "a form of 100 kB is 415 too, not 413", any_engine=True)
def test_long_form(server):
    assert post_text(server, "x" * 100_000,
                     {"Content-Type": "application/x-www-form-urlencoded"}).status == 415


@case(81, "c", "a charset parameter and a +json type are accepted", any_engine=True)
@pytest.mark.parametrize(
    "kind", ["application/json; charset=utf-8", "application/vnd.x+json", "Application/JSON"])
def test_json_types(server, kind):
    assert post_text(server, json.dumps(request()), {"Content-Type": kind}).status == 200


@case(82, "c", "id, webhook and webhook_events_filter of the wrong kind are 422", any_engine=True)
@pytest.mark.parametrize("wrong", [{"id": 5}, {"webhook": 5}, {"webhook_events_filter": ["bogus"]},
                                   {"webhook_events_filter": "completed"}])
def test_wrong_types(server, wrong):
    assert server.post(request(**wrong)).status == 422


@case("82b", "c", "id null and webhook null are as good as absent", any_engine=True)
def test_null_fields(server):
    assert server.post(request(id=None, webhook=None)).status == 200


@case("82c",
      "ours",
      "a wrong top-level field is told as JSON entries",
      coglet="plain text",
      any_engine=True)
def test_wrong_types_are_entries(server):
    answer = server.post(request(id=5))
    assert answer.status == 422 and answer.json["detail"][0]["loc"][:2] == ["body", "id"]


@case("82d", "c", "webhook_events_filter of a number is refused", any_engine=True)
def test_filter_of_numbers(server):
    assert server.post(request(webhook_events_filter=[1])).status in (400, 422)


@case(83, "c", "a body that is a list, a string or a number is 422", any_engine=True)
@pytest.mark.parametrize("text", ["[]", '"x"', "5"])
def test_no_object(server, text):
    assert post_text(server, text).status == 422


@case(84, "c", "NaN and Infinity are no JSON: 400", any_engine=True)
@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_not_a_number(server, word):
    text = json.dumps(request()).replace('"max_new_tokens": 8', f'"temperature": {word}')
    assert post_text(server, text).status == 400


@case(85, "c", "200 levels of nesting are refused with 4xx", any_engine=True)
def test_deep_nesting(server):
    answer = post_text(server, '{"input":' + "[" * 200 + "]" * 200 + "}")
    assert 400 <= answer.status < 500
    assert server.status() == "READY"


@case("85b", "hard", "a million levels of nesting are refused with 4xx", any_engine=True)
def test_very_deep_nesting(server):
    assert 400 <= post_text(server, '{"input":' + '{"a":' * 1_000_000).status < 500
    assert server.status() == "READY"


@case(184,
      "ours",
      "JSON without a content type is read as JSON",
      coglet="ignores the body: 422",
      any_engine=True)
def test_no_content_type(server):
    assert post_text(server, json.dumps(request()), {}).status == 200


@case(185, "c", "a key given twice at the top is 422", any_engine=True)
def test_duplicate_key(server):
    text = json.dumps(request())
    assert post_text(server, text[:-1] + ', "input": {}}').status == 422


@case(186, "hard", "bytes that are no UTF-8 are refused with 4xx", any_engine=True)
@pytest.mark.parametrize("wrong", [b"\xff", b"\xc3(", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80"])
def test_broken_utf8(server, wrong):
    body = json.dumps(request("TEXT")).encode().replace(b"TEXT", wrong)
    assert 400 <= post_text(server, body).status < 500


@case(187,
      "hard",
      "a lone surrogate escape is refused or replaced, and the answer is valid UTF-8",
      coglet="400",
      any_engine=True)
def test_lone_surrogate(server):
    answer = post_text(server,
                       f'{{"input":{{"image":"{PICTURE}","text":"\\ud83d","max_new_tokens":8}}}}')
    assert answer.status in (200, 400, 422)
    answer.body.decode("utf-8")


@case(188,
      "hard",
      "Content-Length twice, or not a number, is 400 and the connection ends",
      any_engine=True)
@pytest.mark.parametrize("lines", [("Content-Length: 2", "Content-Length: 3"),
                                   ("Content-Length: -1", ), ("Content-Length: 2x", ),
                                   ("Content-Length: 99999999999999999999999", )])
def test_bad_length(server, lines):
    received = server.raw(head(server, *lines, body=b"{}"))
    assert received.startswith((b"HTTP/1.1 400", b"HTTP/1.1 413"))
    assert received.count(b"HTTP/1.1") == 1


@case(189,
      "hard",
      "Content-Length beside Transfer-Encoding is refused and the connection ends: no smuggling",
      coglet="accepted: Transfer-Encoding wins, the connection is kept",
      any_engine=True)
@pytest.mark.parametrize("lines", [("Content-Length: 5", "Transfer-Encoding: chunked"),
                                   ("Transfer-Encoding: chunked", "Content-Length: 5")])
def test_length_and_chunked(server, lines):
    smuggled = b"0\r\n\r\nGET /nope HTTP/1.1\r\nHost: x\r\n\r\n"
    received = server.raw(head(server, *lines, body=smuggled))
    assert received.startswith(b"HTTP/1.1 400") and received.count(b"HTTP/1.1") == 1


@case(190,
      "hard",
      "bad chunk sizes and unknown transfer codings are refused and the connection ends",
      coglet="refused; some by closing alone",
      any_engine=True)
@pytest.mark.parametrize("coding, body", [("chunked", b"xyz\r\n{}\r\n0\r\n\r\n"),
                                          ("chunked", b"-2\r\n{}\r\n0\r\n\r\n"),
                                          ("chunked", b"fffffffffffffffff\r\n{}\r\n0\r\n\r\n"),
                                          ("chunked", b"2\r\n{}XX0\r\n\r\n"),
                                          ("gzip, chunked", b"0\r\n\r\n"),
                                          ("xchunked", b"0\r\n\r\n")])
def test_bad_chunks(server, coding, body):
    received = server.raw(head(server, f"Transfer-Encoding: {coding}", body=body))
    assert received.startswith(
        (b"HTTP/1.1 4", b"HTTP/1.1 501")) and received.count(b"HTTP/1.1") == 1


@case(191,
      "hard",
      "control characters and missing colons in headers are refused and the connection ends",
      any_engine=True)
@pytest.mark.parametrize(
    "line", ["X-A: a\0b", "X-A: a\rb", "X A: b", "no colon", " folded: x", "X-\x01: b"])
def test_bad_headers(server, line):
    received = server.raw(head(server, line, "Content-Length: 2", body=b"{}"))
    assert received.startswith(b"HTTP/1.1 400") and received.count(b"HTTP/1.1") == 1


@case(192,
      "hard",
      "more than 100 headers, a head of 1 MB or a target of 70 kB are refused",
      coglet="431, 431 and 414",
      any_engine=True)
@pytest.mark.parametrize("lines, statuses", [([f"X-{n}: y" for n in range(200)], (b"431", )),
                                             (["X: " + "y" * 1_000_000], (b"431", )),
                                             (None, (b"414", b"431"))])
def test_header_floods(server, lines, statuses):
    flood = head(server, *
                 lines) if lines else b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"
    try:
        received = server.raw(flood)
    except (BrokenPipeError, ConnectionResetError):
        return
    assert not received or received.split(b" ")[1] in statuses


@case(193, "hard", "nothing behind an early refusal is taken for a request", any_engine=True)
def test_no_smuggling_after_a_refusal(server):
    smuggled = b"GET /health-check HTTP/1.1\r\nHost: x\r\n\r\n"
    refused = head(server, f"Content-Length: {len(smuggled)}",
                   body=smuggled).replace(b"application/json", b"text/plain")
    received = server.raw(refused, timeout=1)
    assert received.startswith(b"HTTP/1.1 415") and received.count(b"HTTP/1.1") == 1


@case(194,
      "hard",
      "half a body does not hold anything: health answers, and the request ends by a deadline",
      coglet="held without limit",
      env={"IDEFICS_BODY_TIMEOUT": "1"})
def test_half_a_body(server, idle):
    with Pace(idle.health) as pace:
        received = server.raw(head(server, "Content-Length: 100", body=b"{"), timeout=60)
    assert pace.took < 1 + 4 * pace.slowness, "the server waits for the rest"
    assert received.startswith(b"HTTP/1.1 408") or not received


@case(195,
      "hard",
      "a compressed body is refused with 4xx or read within the body limit",
      coglet="400 or 415",
      any_engine=True)
def test_compressed_body(server):
    answer = post_text(server, b"\x1f\x8b\x08\0" + b"\0" * 50, {**JSON, "Content-Encoding": "gzip"})
    assert 400 <= answer.status < 500


@case(196,
      "hard",
      "a chunked body beyond the limit is refused while it arrives",
      coglet="413 (the limit is fixed)",
      env={"IDEFICS_MAX_BODY_BYTES": "1000000"},
      only_ours=True)
def test_chunked_body_limit(server):
    piece = b"186a0\r\n" + b" " * 100_000 + b"\r\n"
    with socket.create_connection((server.host, server.port), timeout=60) as connection:
        # What lies in buffers counts as sent.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        connection.sendall(head(server, "Transfer-Encoding: chunked"))
        for sent in range(1, 1000):  # noqa: B007 (read below)
            connection.sendall(piece)
            if select.select([connection], [], [], 0.001)[0]:
                break
        assert connection.recv(100).startswith(b"HTTP/1.1 413")
    assert sent < 100, f"{sent} pieces of 100 kB went in"


@case(197, "c", "requests that come in one piece are answered in order", any_engine=True)
def test_pipelining(server):
    received = server.raw(
        b"GET /nope HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\nConnection: "
        b"close\r\n\r\n"
    )
    assert received.startswith(b"HTTP/1.1 404") and b"HTTP/1.1 200" in received


@case(214, "c", "no body and no content type is a request without input: 422", any_engine=True)
@pytest.mark.parametrize("method, path", [("POST", "/predictions"), ("PUT", "/predictions/empty")])
def test_nothing_at_all(server, method, path):
    answer = server.ask(method, path)
    assert answer.status == 422
    assert sorted(entry["loc"][2] for entry in answer.json["detail"]) == ["image", "text"]


@case(215,
      "c",
      "a client of HTTP/1.0 is answered, streams without chunks, and the connection ends",
      output="stream")
@pytest.mark.parametrize("accept", ["*/*", "text/event-stream"])
def test_http_1_0(server, accept):
    text = json.dumps(request())
    received = server.raw(
        (f"POST /predictions HTTP/1.0\r\nAccept: {accept}\r\nContent-Type: application/json\r\n"
         f"Content-Length: {len(text)}\r\n\r\n{text}").encode(),
        timeout=60)
    heading, _, body = received.partition(b"\r\n\r\n")
    assert heading.split(b" ")[1] == b"200" and b"chunked" not in heading.lower()
    assert body.endswith((b"}", b"}\n\n"))


@case(216, "c", "chunk extensions and trailers are accepted and ignored", any_engine=True)
def test_chunk_extensions(server):
    text = json.dumps(request()).encode()
    body = b"%x;name=value\r\n%s\r\n0\r\nX-Trailer: x\r\n\r\n" % (len(text), text)
    received = server.raw(head(server, "Transfer-Encoding: chunked", "Connection: close",
                               body=body))
    assert received.startswith(b"HTTP/1.1 200") and b'"succeeded"' in received
