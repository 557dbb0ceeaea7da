# SPDX-License-Identifier: Apache-2.0
"""Asynchronous predictions and their webhooks: cases 138-155."""

import functools
import itertools
import ssl
import subprocess
import time

import pytest

from cases import case
from client import ASYNC, inputs, request
from patience import wait_until
from receiver import LocalServer, WebhookHandler


def begin(server, hook, text="x", headers=None, **fields):
    server.wait_status("READY")
    answer = server.post(request(text, webhook=hook.url, **fields), {**ASYNC, **(headers or {})})
    assert answer.status == 202, answer
    return answer.json


def no_more_posts(hook, seconds=0.3):
    before = len(hook.posts)
    time.sleep(seconds)
    assert len(hook.posts) == before, hook.posts[before:]


@case(138,
      "c",
      "an asynchronous request is accepted at once, also with a picture that is slow to come",
      fresh=True)
def test_accepted(server, pictures, hook):
    answer = server.post({"input": inputs(image=pictures.url + "/slow"), "webhook": hook.url},
                         ASYNC)
    assert "failed" not in hook.statuses(), "the answer came after the picture was given up"
    assert answer.status == 202 and answer.json["status"] == "starting" and answer.json["id"]


@case(139, "c", "the first post says processing, the last succeeded, with the output")
def test_first_and_last(server, hook):
    begun = begin(server, hook, "[sleep=0.1]x")
    posts = hook.wait_completed()
    assert posts[0].json["status"] == "processing" and posts[-1].json["status"] == "succeeded"
    assert posts[-1].json["output"] == "x" and {post.json["id"] for post in posts} == {begun["id"]}
    no_more_posts(hook)


@case(140, "c", "the filter: only completed, nothing, only start")
@pytest.mark.parametrize("wanted, statuses", [(["completed"], ["succeeded"]), ([], []),
                                              (["start"], ["processing"])])
def test_filter(server, hook, wanted, statuses):
    begin(server, hook, "[log=a][sleep=0.05]x", webhook_events_filter=wanted)
    server.wait_status("READY")
    wait_until(lambda: len(hook.posts) >= len(statuses))
    no_more_posts(hook)
    assert hook.statuses() == statuses


@case(141,
      "c",
      "output posts grow, and the last one before the end holds everything",
      output="stream",
      env={"COG_THROTTLE_RESPONSE_INTERVAL": "0.05"})
def test_output_grows(server, hook, tmp_path):
    begin(server, hook, f"[chunks=6][hold=2,{tmp_path}/2][hold=4,{tmp_path}/4]x",
          webhook_events_filter=["output"])

    def posted(pieces):
        return any(len(post.json["output"]) == pieces for post in hook.posts)
    for pieces in (2, 4, 6):
        wait_until(functools.partial(posted, pieces), what=f"a post of {pieces} pieces")
        (tmp_path / str(pieces)).touch()
    server.wait_status("READY")
    lengths = [len(post.json["output"]) for post in hook.posts]
    assert lengths == sorted(lengths) and len(set(lengths)) >= 3


@case("141b", "c",
      "in the string variant output posts are a list of one piece, completed has the string")
def test_output_of_the_string_variant(server, hook):
    begin(server, hook, "[chunks=3]x", webhook_events_filter=["output", "completed"])
    wait_until(lambda: len(hook.posts) >= 2)
    outputs = {post.json["status"]: post.json["output"] for post in hook.posts}
    assert outputs == {"processing": ["x-0x-1x-2"], "succeeded": "x-0x-1x-2"}


@case(142,
      "ours",
      "every post has id, input, status, logs and metrics, and no null",
      coglet="there is no input")
def test_payload(server, hook):
    begin(server, hook, "[log=a]x")
    for post in hook.wait_completed():
        assert {"id", "input", "status", "logs", "metrics"} <= set(post.json)
        assert None not in post.json.values()


@case(143, "c", "posts come as coglet/…, in JSON")
def test_headers(server, hook):
    begin(server, hook)
    headers = hook.wait_completed()[-1].headers
    assert headers["User-Agent"].startswith(
        "coglet/") and headers["Content-Type"] == "application/json"


@case(144,
      "c",
      "WEBHOOK_AUTH_TOKEN is sent as a bearer token",
      env={"WEBHOOK_AUTH_TOKEN": "s3cret"})
def test_token(server, hook):
    begin(server, hook)
    assert {post.headers["Authorization"] for post in hook.wait_completed()} == {"Bearer s3cret"}


@case("144b", "c", "without it there is no Authorization header")
def test_no_token(server, hook):
    begin(server, hook)
    assert {post.headers["Authorization"] for post in hook.wait_completed()} == {None}


@case(145, "c", "traceparent and tracestate are passed on, other headers are not")
def test_trace(server, hook):
    begin(server,
          hook,
          headers={
              "traceparent": "00-ab-cd-01", "tracestate": "a=b", "X-Secret": "1",
              "Authorization": "Bearer x"
          })
    for post in hook.wait_completed():
        assert (post.headers["traceparent"], post.headers["tracestate"]) == ("00-ab-cd-01", "a=b")
        assert post.headers["X-Secret"] is None and post.headers["Authorization"] is None


@case(146, "c", "a start that gets 500 is not repeated; completed is, after 0.2 s, 0.4 s …")
def test_retries(server, hook):
    hook.replies = [500] * 3
    begin(server, hook, webhook_events_filter=["start", "completed"])
    hook.wait_posts(4)
    no_more_posts(hook)
    assert hook.statuses() == ["processing"] + ["succeeded"] * 3
    gaps = [later.at - earlier.at for earlier, later in itertools.pairwise(hook.posts[1:])]
    assert gaps[0] >= 0.19 and gaps[1] >= 0.39, gaps


@case(147, "c", "429, 502, 503 and 504 are tried again, 400 and 404 are not")
@pytest.mark.parametrize("status, tries", [(429, 2), (502, 2), (503, 2), (504, 2), (400, 1),
                                           (404, 1)])
def test_retried_statuses(server, hook, status, tries):
    hook.replies = [status]
    begin(server, hook, webhook_events_filter=["completed"])
    hook.wait_posts(tries)
    no_more_posts(hook, 0.4)
    assert len(hook.posts) == tries


@case(148, "c", "with the receiver down the prediction succeeds and its slot is free at once")
def test_receiver_down(server):
    body = request(webhook="http://127.0.0.1:1/nobody")
    assert server.post(body).succeeded
    server.wait_status("READY", seconds=0.5)
    assert server.post(body, ASYNC).status == 202


@case(149, "c", "100 log lines in a second are a few posts at 0.5 s")
def test_throttle(server, hook):
    begun = time.monotonic()
    begin(server, hook, "[logs=100,0.01]x", webhook_events_filter=["logs"])
    server.wait_status("READY")
    hook.wait_posts(1)
    seen = -1
    while seen != len(hook.posts):  # a late one may still come
        seen = len(hook.posts)
        time.sleep(0.6)
    seconds = time.monotonic() - begun
    assert 1 <= seen <= seconds / 0.5 + 1, (hook.posts, seconds)


@case("149b",
      "ours",
      "the last log post before the end holds every line",
      coglet="what is throttled is dropped")
def test_logs_are_not_lost(server, hook):
    begin(server, hook, "[logs=20,0.01]x", webhook_events_filter=["logs"])
    wait_until(lambda: hook.posts and hook.posts[-1].json["logs"].count("\n") == 20,
               what="20 lines")


@case("149c",
      "c",
      "COG_THROTTLE_RESPONSE_INTERVAL=0 posts log lines as they come",
      env={"COG_THROTTLE_RESPONSE_INTERVAL": "0"})
def test_no_throttle(server, webhooks):
    def posts_of(pause_s):
        hook = webhooks.hook()
        begin(server, hook, f"[logs=10,{pause_s}]x", webhook_events_filter=["logs"])
        server.wait_status("READY")
        wait_until(lambda: hook.posts and hook.posts[-1].json["logs"].count("\n") == 10,
                   what="10 lines")
        return len(hook.posts)
    # Where the machine stalls, lines come together.
    assert any(posts_of(pause_s) >= 9 for pause_s in (0.05, 0.1, 0.2, 0.2, 0.2))


@case(150,
      "ours",
      "when completed arrives the server is already READY",
      coglet="the slot is freed later")
def test_ready_on_completed(server, hook):
    seen = []
    hook.on_post = lambda post: seen.append(server.status())
    for number in range(1, 21):
        begin(server, hook, webhook_events_filter=["completed"])
        wait_until(lambda: len(seen) == number, what="the post")  # noqa: B023 (ends in this turn)
    assert set(seen) == {"READY"}


@case(151,
      "ours",
      "a slow receiver gets the posts one after another, completed last",
      coglet="posts overtake each other",
      env={"COG_THROTTLE_RESPONSE_INTERVAL": "0"},
      output="stream")
def test_slow_receiver(server, hook):
    hook.delay = 0.3
    begin(server, hook, "[chunks=10][delay=0.05]x")
    posts = hook.wait_completed()
    no_more_posts(hook, 0.5)
    lengths = [len(post.json.get("output", [])) for post in posts]
    assert hook.most == 1 and lengths == sorted(lengths) and posts[-1].json["status"] == "succeeded"


@case(152, "c", "a failure is posted as completed, with its error")
def test_failure(server, hook):
    begin(server, hook, "[log=before][fail=broken lens]x")
    last = hook.wait_completed()[-1].json
    assert last["status"] == "failed"
    assert "broken lens" in last["error"] and "before" in last["logs"]


@case(153, "c", "a webhook that is no URL does not touch the prediction", any_engine=True)
@pytest.mark.parametrize(
    "url", ["notaurl", "ftp://x/y", "", "http://", "http://[::1", "file:///etc/passwd"])
def test_bad_url(server, url):
    assert server.post(request(webhook=url)).succeeded


@case(154, "c", "a synchronous request with a webhook gets both")
def test_sync_with_webhook(server, hook):
    assert server.post(request(webhook=hook.url)).json["output"] == "x"
    assert hook.wait_completed()[-1].json["output"] == "x"


@case(
    155, "c",
    "an https receiver with a certificate that nobody vouches for gets nothing; the prediction "
    "succeeds"
)
def test_invalid_certificate(server, tmp_path):
    local = LocalServer(WebhookHandler, tls=self_signed(tmp_path))
    hook = local.hook()
    assert server.post(request(webhook=hook.url)).succeeded
    no_more_posts(hook)
    assert not hook.posts
    local.stop()


@case("155b", "c", "an https receiver whose certificate is trusted is posted to")
def test_valid_certificate(start, tmp_path):
    context = self_signed(tmp_path)
    server = start(env={"SSL_CERT_FILE": str(tmp_path / "certificate.pem")})
    local = LocalServer(WebhookHandler, tls=context)
    hook = local.hook()
    begin(server, hook)
    assert hook.wait_completed()[-1].json["status"] == "succeeded"
    local.stop()


def self_signed(folder):
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = [
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
        "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
        "-addext", "basicConstraints=critical,CA:FALSE", "-keyout", key, "-out", certificate
    ]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


@case(
    210,
    "hard",
    "webhooks to loopback and private addresses are not sent by default, however they are written",
    coglet="posts everywhere",
    tuning=("--webhook-hosts", "public"))
@pytest.mark.parametrize("host",
                         ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"])
def test_private_receivers(server, hook, host):
    body = request(webhook=hook.url.replace("127.0.0.1", host), webhook_events_filter=["completed"])
    assert server.post(body).succeeded
    no_more_posts(hook)
    assert not hook.posts


@case(211,
      "ours",
      "at a shutdown the last posts are still sent",
      coglet="exits without them",
      fresh=True)
def test_posts_at_shutdown(server, hook):
    begin(server, hook, "[sleep=0.5]x")
    hook.wait_posts(1)
    server.send_signal()
    assert hook.wait_completed()[-1].json["status"] == "succeeded"
    assert server.wait_exit() == 0


@case(212, "c", "line ends in trace headers and ids cannot forge header lines of a post")
def test_header_injection(server, hook):
    begin(server, hook, id="a\r\nX-Forged: 1")
    for post in hook.wait_completed():
        assert post.headers["X-Forged"] is None and post.json["id"] == "a\r\nX-Forged: 1"


@case(
    213,
    "ours",
    "only output from the last half second is waiting: ten pieces at once are one or two output "
    "posts",
    coglet="one post for each piece",
    output="stream")
def test_coalesced(server, hook):
    begin(server, hook, "[chunks=200]x", webhook_events_filter=["output", "completed"])
    posts = hook.wait_completed()
    seconds = posts[-1].json["metrics"]["predict_time"]
    assert len(posts) <= 4 + seconds / 0.5 and len(posts[-1].json["output"]) == 200
