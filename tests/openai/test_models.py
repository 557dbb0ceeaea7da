# SPDX-License-Identifier: Apache-2.0
"""Models, the tokenizer's routes, health, keys, queue and flags."""

import json
import os
import signal
import subprocess
import threading

import pytest

from conftest import SERVER, user
from patience import wait_until


def test_models_are_listed(api):
    answer = api.ask("GET", "/v1/models")
    assert answer.status == 200 and answer.json["object"] == "list"
    [card] = answer.json["data"]
    assert set(card) == {"id", "object", "created", "owned_by", "max_model_len", "meta"}
    assert card["meta"] == {"kind": "instruct", "demo": True, "max_images": 64,
                            "max_sequence_tokens": card["max_model_len"]}
    assert card["object"] == "model" and card["max_model_len"] > 0
    assert api.ask("GET", f"/v1/models/{card['id']}").json == card
    assert api.ask("GET", "/v1/models").json == answer.json  # `created` does not move
    assert api.ask("HEAD", "/v1/models").status == 200
    assert api.ask("GET", "/v1/models?limit=5").status == 200


def test_answers_name_the_served_model(api):
    [card] = api.ask("GET", "/v1/models").json["data"]
    assert api.chat(user("Hi"), max_tokens=1).json["model"] == card["id"]


def test_tokenize_and_back(api):
    body = api.ask("POST", "/tokenize", {"prompt": "A cat.", "return_token_strs": True}).json
    assert body["count"] == len(body["tokens"]) == len(body["token_strs"])
    assert body["tokens"][0] == 1 and body["max_model_len"] > 0
    bare = api.ask("POST", "/tokenize", {"prompt": "A cat.", "add_special_tokens": False}).json
    assert bare["tokens"] == body["tokens"][1:]
    text = api.ask("POST", "/detokenize", {"tokens": bare["tokens"]}).json["prompt"]
    assert text == "A cat."


@pytest.mark.parametrize("key", ["content", "inputs"])
def test_other_servers_names_for_the_text(api, key):
    by_name = api.ask("POST", "/tokenize", {key: "A cat."}).json
    assert by_name["tokens"] == api.ask("POST", "/tokenize", {"prompt": "A cat."}).json["tokens"]


def test_messages_are_counted_as_chat_counts_them(api):
    counted = api.ask("POST", "/tokenize", {"messages": [user("Hello")]}).json["count"]
    assert counted == api.chat(user("Hello")).json["usage"]["prompt_tokens"]


@pytest.mark.parametrize("path, body", [
    ("/tokenize", {}), ("/tokenize", {"prompt": 5}), ("/tokenize", {"prompt": "x" * 5_000_000}),
    ("/tokenize", {"messages": []}),
    ("/detokenize", {}), ("/detokenize", {"tokens": "x"}), ("/detokenize", {"tokens": [-1]}),
    ("/detokenize", {"tokens": [10**8]}), ("/detokenize", {"tokens": [1.5]}),
])
def test_what_is_no_text_and_no_token(api, path, body):
    answer = api.ask("POST", path, body)
    assert answer.status == 400 and answer.error["param"]


def test_the_tokenizer_names_its_special_tokens(api):
    body = api.ask("GET", "/tokenizer_info").json
    assert body["bos_token"] == "<s>" and body["eos_token"] == "</s>"


def test_health_is_empty(api):
    answer = api.ask("GET", "/health")
    assert answer.status == 200 and answer.json == {}


def test_keys(start, tmp_path):
    file = tmp_path / "keys"
    file.write_text("# names and keys\nalice:secret-1\n")
    api = start("--api-key-file", str(file), IDEFICS_API_KEY="given,second")
    body = {"messages": [user("Hi")], "max_tokens": 1}

    def status(key, path="/v1/chat/completions"):
        headers = {"Authorization": key} if key else {}
        return api.ask("POST", path, body, **headers)
    for key in ("Bearer given", "bearer second", "Bearer secret-1", "BEARER   given"):
        assert status(key).status == 200
    for key in (None, "Bearer wrong", "Basic given", "Bearer", "given", "Bearer given x",
                "Bearer secret", "Bearer # names and keys"):
        answer = status(key)
        assert answer.status == 401, key
        assert answer.error["code"] == "invalid_api_key"
        assert answer.headers["www-authenticate"] == "Bearer"
    for headers, code in (({"X-Api-Key": "secret-1"}, 200), ({"X-Api-Key": "wrong"}, 401),
                          ({"X-Api-Key": "given", "Authorization": "Bearer wrong"}, 401)):
        assert api.ask("POST", "/v1/chat/completions", body, **headers).status == code
    assert status(None, "/predictions").status == 401
    assert "error" not in status(None, "/predictions").json  # Cog's form
    for path in ("/health", "/health-check"):
        assert api.ask("GET", path).status == 200
    assert api.ask("GET", "/v1/models").status == 401
    file.write_text("bob:secret-2\n")
    api.process.send_signal(signal.SIGHUP)
    wait_until(lambda: status("Bearer secret-2").status == 200, 10, "the new key's being known")
    assert status("Bearer secret-1").status == 401
    file.write_text("no key here\n")  # a file that is wrong changes nothing
    api.process.send_signal(signal.SIGHUP)
    assert status("Bearer secret-2").status == 200 and status("Bearer given").status == 200


def test_a_full_queue_is_429_and_says_when_to_come_back(start):
    api = start("--max-concurrency", "1", "--openai-queue", "1", "--max-sequence-tokens", "2048")
    long = {"messages": [user("Hi")], "ignore_eos": True, "temperature": 0, "stream": True}
    running = api.connect()
    running.request("POST", "/v1/chat/completions", json.dumps(long),
                    {"Content-Type": "application/json"})
    assert running.getresponse().read(1)  # it has the slot
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(api.chat(user("Hi"), max_tokens=1)))
               for _ in range(3)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(answers) == 2, 30, "two of three being turned away")
    for answer in answers:
        assert answer.status == 429
        assert answer.error["type"] == "rate_limit_error"
        assert answer.error["code"] == "rate_limit_exceeded"
        assert 1 <= int(answer.headers["retry-after"]) <= 60
    cog = api.ask("POST", "/predictions", {"input": {"prompt": ["Hi"]}})
    assert cog.status == 409  # its own form
    running.close()
    for thread in threads:
        thread.join()
    assert answers[2].status == 200  # it had the place in the queue


def test_requests_wait_in_their_queue(start):
    api = start("--max-concurrency", "1", "--openai-queue", "8")
    statuses = []
    threads = [threading.Thread(target=lambda: statuses.append(
        api.chat(user("Hi"), max_tokens=3).status)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 8


def test_flags_of_the_api(start):
    api = start("--served-model-name", "first,second,*", "--default-temperature", "0",
                "--default-max-tokens", "3")
    assert [card["id"] for card in api.ask("GET", "/v1/models").json["data"]] == ["first", "second"]
    body = {"messages": [user("Hi")], "ignore_eos": True}
    for name in ("first", "second", "anything"):
        answer = api.ask("POST", "/v1/chat/completions", {**body, "model": name}).json
        assert answer["model"] == "first"
        assert answer["usage"]["completion_tokens"] == 3
    texts = {api.ask("POST", "/v1/chat/completions", body).text for _ in range(3)}
    assert len(texts) == 1  # greedy by default


def test_pages_of_other_origins(api, start):
    ours = start("--cors-origins", "https://chat.example.org")
    page = {"Origin": "https://chat.example.org"}
    other = {"Origin": "https://evil.example.org"}
    body = {"messages": [user("Hi")], "max_tokens": 1}
    asked = {"Access_Control_Request_Method": "POST",
             "Access_Control_Request_Headers": "authorization,content-type"}

    def post(server, **headers):
        return server.ask("POST", "/v1/chat/completions", body, **headers)
    preflight = ours.ask("OPTIONS", "/v1/chat/completions", **page, **asked)
    assert preflight.status == 204
    assert preflight.headers["access-control-allow-origin"] == page["Origin"]
    assert "Authorization" in preflight.headers["access-control-allow-headers"]
    answer = post(ours, **page, Sec_Fetch_Site="cross-site")
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == page["Origin"]
    assert answer.headers["vary"] == "Origin"
    # None by default, and none for others.
    for server, headers in ((ours, other), (api, page)):
        assert post(server, **headers).status == 403
        refused = server.ask("OPTIONS", "/v1/chat/completions", **headers, **asked)
        assert refused.status == 405
        assert "access-control-allow-origin" not in refused.headers
    assert "access-control-allow-origin" not in post(ours).headers


@pytest.mark.parametrize("origins", ["chat.example.org", "https://", "https://a.example/path"])
def test_what_is_no_origin_is_refused_at_the_start(origins):
    done = subprocess.run([SERVER, "serve", "--model", os.environ.get("IDEFICS_DEMO_BUNDLE", "x"),
                           "--port", "0", "--cors-origins", origins], capture_output=True,
                          check=False, timeout=60)
    assert done.returncode == 1 and b"--cors-origins" in done.stderr + done.stdout


def test_log_probabilities_count_in_the_memory_budget(start):
    api = start("--memory-budget", "4000000")
    body = {"messages": [user("Hi")], "ignore_eos": True, "max_tokens": 400, "temperature": 0}
    costly = {**body, "logprobs": True, "top_logprobs": 20}
    answer = api.ask("POST", "/v1/chat/completions", costly)
    assert answer.status == 503 and "--memory-budget" in answer.error["message"]
    assert answer.headers["retry-after"]
    assert api.ask("POST", "/v1/chat/completions", body).status == 200
    assert len(api.chunks("/v1/chat/completions", costly)) > 400
