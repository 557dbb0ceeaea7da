# SPDX-License-Identifier: Apache-2.0
"""predict --jsonl with the lines of an OpenAI batch file: what HTTP answers, in the file's form."""

import json
import os
import subprocess

import pytest

from conftest import QUESTION, SERVER, image, text, user


def line(name, body, url="/v1/chat/completions"):
    return {"custom_id": name, "method": "POST", "url": url, "body": body}


@pytest.fixture(scope="module")
def lines(cat):
    greedy = {"temperature": 0, "max_tokens": 12}
    return [
        line("chat", {"messages": [user(text(QUESTION), image(cat))], **greedy}),
        line("text", {"prompt": ["Once", "Twice"], **greedy}, "/v1/completions"),
        line("bad field", {"messages": [user("Hi")], "temperature": 9}),
        line("bad image", {"messages": [user(image("data:image/png;base64,aGVsbG8="))]}),
        line("stream", {"messages": [user("Hi")], "stream": True}),
        line("bad url", {"messages": [user("Hi")]}, "/v1/embeddings"),
        {"custom_id": "no body", "method": "POST", "url": "/v1/completions"},
        line("last", {"messages": [user("Hi")], "n": 2, **greedy}),
    ]


def run(folder, lines, *flags):
    (folder / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    subprocess.run([SERVER, "predict", "--model", os.environ["IDEFICS_DEMO_BUNDLE"], "--jsonl",
                    folder / "in.jsonl", "-o", folder / "out.jsonl", *flags],
                   check=True, stderr=subprocess.DEVNULL)
    return [json.loads(row) for row in (folder / "out.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def rows(lines, tmp_path_factory):
    if not os.environ.get("IDEFICS_DEMO_BUNDLE"):
        pytest.skip("IDEFICS_DEMO_BUNDLE names no bundle: scripts/test.sh exports one")
    return {row["custom_id"]: row for row in run(tmp_path_factory.mktemp("batch"), lines)}


def test_rows_have_the_form_of_a_batchs_output(rows, lines):
    assert list(rows) == [line["custom_id"] for line in lines]
    for row in rows.values():
        assert {"id", "custom_id", "response", "error"} <= set(row)
        assert row["id"].startswith("batch_req_")
        assert (row["response"] is None) != (row["error"] is None)
    assert len({row["id"] for row in rows.values()}) == len(rows)


@pytest.mark.parametrize("name, path", [("chat", "/v1/chat/completions"),
                                        ("text", "/v1/completions"),
                                        ("last", "/v1/chat/completions")])
def test_an_answer_is_the_one_of_http(api, rows, lines, name, path):
    [body] = [line["body"] for line in lines if line["custom_id"] == name]
    by_http = api.ask("POST", path, body).json
    response = rows[name]["response"]
    assert response["status_code"] == 200 and response["request_id"]
    assert response["body"]["choices"] == by_http["choices"]
    assert response["body"]["usage"] == by_http["usage"]
    assert response["body"]["object"] == by_http["object"]


@pytest.mark.parametrize("name, param", [("bad field", "temperature"),
                                         ("bad image", "messages[0].content[0].image_url.url"),
                                         ("stream", "stream")])
def test_a_refusal_is_a_response_with_its_status(rows, name, param):
    response = rows[name]["response"]
    assert response["status_code"] == 400 and response["body"]["error"]["param"] == param


@pytest.mark.parametrize("name", ["bad url", "no body"])
def test_a_line_that_no_route_takes_is_an_error(rows, name):
    assert rows[name]["error"]["code"] == "invalid_request" and rows[name]["error"]["message"]


def test_failed_lines_are_tried_again_where_asked_for(lines, tmp_path, rows):
    first = run(tmp_path, lines)
    again = run(tmp_path, lines, "--retry-failed")
    failed = {"bad field", "bad image", "stream", "bad url", "no body"}
    assert [row["custom_id"] for row in again] == [line["custom_id"] for line in lines]
    for before, after in zip(first, again, strict=True):
        assert (before["id"] == after["id"]) == (before["custom_id"] not in failed)
