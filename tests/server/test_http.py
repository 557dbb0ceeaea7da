# SPDX-License-Identifier: Apache-2.0
"""The server as a process: start, predictions, images by URL, cancel, disconnect, stop. Fake
engine."""

import json
import signal
import time

import pytest

from conftest import PICTURES, data_uri
from patience import Pace, wait_until

NAME = "pixels/8bit-type2.png"


def used_slots(server):
    return server.ask("GET", "/health-check")[1]["concurrency"]["current"]


def picture():
    return data_uri(PICTURES / "8bit-type2.png")


def test_the_root_names_the_endpoints_of_cog(fake):
    status, body = fake.ask("GET", "/")
    assert status == 200
    assert body["predictions_idempotent_url"] == "/predictions/{prediction_id}"
    assert set(body) == {
        "cog_version", "docs_url", "openapi_url", "shutdown_url", "healthcheck_url",
        "predictions_url", "predictions_idempotent_url", "predictions_cancel_url"
    }


def test_the_schema_that_is_served_is_the_schema_that_is_printed(fake):
    import subprocess

    from conftest import SERVER
    printed = subprocess.run([SERVER, "--print-openapi"], capture_output=True, check=True).stdout
    assert fake.ask("GET", "/openapi.json")[1] == json.loads(printed)


def test_a_sync_prediction_answers_with_output_logs_and_metrics(fake):
    status, body = fake.predict(image=picture(), text="[log=hi][metric=tokens:3][chunks=2]x")
    assert (status, body["status"], body["output"], body["logs"]) == (200, "succeeded", "x-0x-1",
                                                                      "hi\n")
    assert body["metrics"]["tokens"] == 3 and body["metrics"]["predict_time"] >= 0
    assert None not in body.values()


def test_answers_show_long_pictures_shortened_and_the_engine_has_them_whole(fake, pictures):
    long = picture()
    url = f"{pictures.url}/{NAME}?{1024 * 'x'}"
    for image, shown in ((long, f"{long[:64]}… ({len(long)} bytes)"), (url, url)):
        body = fake.predict(image=image, text="[echo]")[1]
        assert json.loads(body["output"])["image_width"] > 0
        assert body["input"]["image"] == shown
        assert fake.predict(prompt=["x", image])[1]["input"]["prompt"] == ["x", shown]


def test_metrics_with_dots_nest(fake):
    metrics = fake.predict(
        prompt=["[metric=time:1][metric=time.load:2][metric=time.run.a:3]x"])[1]["metrics"]
    assert metrics["time"] == {"load": 2, "run": {"a": 3}}


def test_non_ascii_text_survives(fake):
    assert fake.predict(image=picture(), text="日本 🙂 é")[1]["output"] == "日本 🙂 é"


def test_images_come_by_url_and_all_formats_of_reference(fake, pictures):
    for image in (f"{pictures.url}/{NAME}", f"{pictures.url}/to?/{NAME}", picture()):
        body = fake.predict(image=image, text="[echo]")[1]
        assert body["status"] == "succeeded", body
        assert json.loads(body["output"])["image_width"] > 0
    assert "cog-idefics" in pictures.agents


@pytest.mark.parametrize("path, what", [("/none.png", "HTTP status 404"),
                                        ("/loop", "redirects more than"),
                                        ("/to?file:///etc/passwd", "redirects to something else"),
                                        ("/to?ftp://127.0.0.1/x", "redirects to something else")])
def test_a_bad_image_url_fails_the_prediction_with_the_reason(fake, pictures, path, what):
    status, body = fake.predict(image=pictures.url + path, text="hi")
    assert (status, body["status"]) == (200, "failed")
    assert what in body["error"]


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "127.1", "[::1]", "[::ffff:127.0.0.1]", "0"])
def test_private_addresses_are_refused_unless_allowed(start, pictures, host):
    server = start()
    server.wait_until("READY")
    port = pictures.url.rsplit(":", 1)[1]
    body = server.predict(image=f"http://{host}:{port}/{NAME}", text="hi")[1]
    assert body["status"] == "failed"
    assert "not public" in body["error"] or "cannot be fetched" in body["error"]


def test_images_come_only_from_hosts_that_are_named(start, pictures):
    server = start("--allow-private-urls", "--image-hosts", "127.0.0.1, .example.org")
    server.wait_until("READY")
    elsewhere = pictures.url.replace("127.0.0.1", "localhost") + f"/{NAME}"

    def ask(url):
        return server.predict(image=url, text="hi")[1]

    assert ask(f"{pictures.url}/{NAME}")["status"] == "succeeded"
    assert ask(f"{pictures.url.replace('127.0.0.1', '0x7f.1')}/{NAME}")["status"] == "succeeded"
    assert ask(picture())["status"] == "succeeded"
    asked = len(pictures.agents)
    for url in (elsewhere, f"{pictures.url}/to?{elsewhere}", "http://example.org.evil.invalid/x"):
        body = ask(url)
        assert body["status"] == "failed" and "--image-hosts" in body["error"], url
    assert len(pictures.agents) == asked  # a redirect to another host is not followed


def test_a_stalled_image_server_is_given_up(start, fake, pictures):
    server = start("--allow-private-urls", "--connect-timeout", "1")
    server.wait_until("READY")
    with Pace(fake.health) as pace:
        body = server.predict(image=pictures.url + "/slow", text="hi")[1]
    assert body["status"] == "failed" and "in time" in body["error"]
    assert pace.took < 2.5 * pace.slowness


def test_a_cancel_during_a_download_is_prompt(fake, pictures):
    pictures.slow_begun.clear()
    fake.predict("/predictions/slow",
                 "PUT", {"Prefer": "respond-async"},
                 image=pictures.url + "/slow",
                 text="hi")
    assert pictures.slow_begun.wait(20)
    assert fake.ask("POST", "/predictions/slow/cancel")[0] == 200
    wait_until(lambda: fake.ask("GET", "/predictions/slow")[1]["status"] == "canceled")


def test_a_client_that_leaves_frees_its_slot(fake):
    connection = fake.connect()
    connection.request("POST", "/predictions", json.dumps({"input": {"prompt": ["[sleep=600]x"]}}),
                       {"Content-Type": "application/json"})
    wait_until(lambda: used_slots(fake) == 1)
    connection.close()
    wait_until(lambda: used_slots(fake) == 0)


def test_back_to_back_predictions_never_meet_a_taken_slot(start):
    server = start("--max-concurrency", "1")
    server.wait_until("READY")
    assert all(server.predict(prompt=["x"])[0] == 200 for _ in range(200))


def test_a_long_data_uri_is_accepted_and_not_sent_back(fake):
    status, body = fake.predict(prompt=["x", picture() + "A" * 4_000_000])
    assert status == 200
    assert len(json.dumps(body)) < 5000


def test_the_stream_variant_has_a_list_for_output(start):
    server = start(COG_IDEFICS_OUTPUT="stream")
    server.wait_until("READY")
    assert server.predict(prompt=["[chunks=2]x"])[1]["output"] == ["x-0", "x-1"]
    assert server.predict(prompt=["[chunks=0]x"])[1]["output"] == []
    assert server.ask("GET",
                      "/openapi.json")[1]["components"]["schemas"]["Output"]["type"] == "array"


def test_setup_states_are_shown_and_a_failed_setup_keeps_serving(start, hold):
    server = start(FAKE_SETUP_HOLD=str(hold), FAKE_SETUP_FAIL="no weights")
    server.wait_until("STARTING")
    assert server.predict(prompt=["x"])[0] == 503
    assert server.predict()[0] == 422
    hold.touch()
    server.wait_until("SETUP_FAILED")
    assert server.ask("GET", "/health-check")[1]["setup"]["logs"] == "no weights"
    assert server.predict(prompt=["x"])[0] == 503


def test_a_setup_that_takes_too_long_fails(start):
    server = start(FAKE_SETUP_DELAY="600", COG_SETUP_TIMEOUT="1")
    server.wait_until("SETUP_FAILED")
    assert "timed out" in server.ask("GET", "/health-check")[1]["setup"]["logs"]
    assert server.stop() == 0


def test_sigterm_lets_a_running_prediction_answer_and_exits_0(start, hold):
    server = start()
    server.wait_until("READY")
    connection = server.connect()
    connection.request("POST", "/predictions",
                       json.dumps({"input": {"prompt": [f"[hold=0,{hold}]done"]}}),
                       {"Content-Type": "application/json"})
    wait_until(lambda: used_slots(server) == 1)
    server.process.send_signal(signal.SIGTERM)
    wait_until(lambda: server.ask("GET", "/readyz")[0] == 503)
    hold.touch()
    assert json.loads(connection.getresponse().read())["output"] == "done"
    assert server.wait() == 0


def test_sigterm_while_idle_or_starting_is_quick(start, fake):
    for environment in ({}, {"FAKE_SETUP_DELAY": "600"}):
        server = start(**environment)
        server.wait_until("STARTING" if environment else "READY")
        with Pace(fake.health) as pace:
            assert server.stop() == 0
        assert pace.took < 3 * pace.slowness


def test_await_explicit_shutdown_ignores_sigterm(start):
    server = start("--await-explicit-shutdown", "true")
    server.wait_until("READY")
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    assert server.health() == "READY"
    assert server.ask("POST", "/shutdown") == (200, {})
    assert server.wait() == 0


def test_a_port_in_use_is_exit_1_with_a_sentence(fake, start):
    second = start("--port", str(fake.port))
    assert second.wait() == 1
    assert f"cannot listen on 127.0.0.1:{fake.port}" in "".join(second.log)


def test_log_lines_are_json_and_hold_nothing_of_the_input(start):
    server = start(LOG_FORMAT="json")
    server.wait_until("READY")
    server.predict(prompt=["a secret question"])
    assert server.stop() == 0
    lines = [json.loads(line) for line in server.log]
    ended = [line for line in lines if line["message"] == "Prediction ended"]
    assert len(ended) == 1 and ended[0]["status"] == "succeeded"
    assert "secret" not in "".join(server.log)
    assert all(line["level"] == line["severity"] == "INFO" and line["target"] and line["timestamp"]
               for line in lines)


def test_five_hundred_slow_clients_do_not_delay_health(fake, start):
    import socket
    idle = start()
    idle.wait_until("READY")
    slow = []
    for _ in range(500):
        client = socket.create_connection(("127.0.0.1", fake.port))
        client.sendall(
            b"POST /predictions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: 100\r\n\r\n{"
        )
        slow.append(client)
    times = []
    with Pace(idle.health) as pace:
        for _ in range(20):
            begun = time.monotonic()
            fake.health()
            times.append(time.monotonic() - begun)
    for client in slow:
        client.close()
    assert sorted(times)[10] < 0.25 * pace.slowness, times
