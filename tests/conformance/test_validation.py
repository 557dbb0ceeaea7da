# SPDX-License-Identifier: Apache-2.0
"""Inputs against their schema: cases 63-77."""

import json

import pytest

from cases import case
from client import ASYNC, inputs, request


def fields_of(answer):
    assert answer.status == 422, answer
    return [entry["loc"][2] for entry in answer.json["detail"]]


@case(63, "c", "a missing image is an entry of three keys", any_engine=True)
def test_missing_image(server):
    answer = server.post({"input": {"text": "x"}})
    assert answer.status == 422
    assert answer.json == {"detail": [{"loc": ["body", "input", "image"], "msg": "Field required",
                                       "type": "value_error.missing"}]}


@case(64, "c", "max_new_tokens: 8 to 1024, bounds included", any_engine=True)
def test_max_new_tokens(server):
    assert server.detail(max_new_tokens=7) == {"max_new_tokens": "7 is less than the minimum of 8"}
    assert server.detail(max_new_tokens=1025) == {
        "max_new_tokens": "1025 is greater than the maximum of 1024"
    }
    assert server.predict(max_new_tokens=8)["status"] == "succeeded"


@case("64b", "c", "max_new_tokens of 1024 is accepted")
def test_max_new_tokens_upper(server):
    assert server.predict(max_new_tokens=1024)["status"] == "succeeded"


@case(65, "c", "a string, a fraction, a bool and null are no integers", any_engine=True)
@pytest.mark.parametrize("value, words", [("16", '"16" is not of type "integer"'),
                                          (16.5, '16.5 is not of type "integer"'),
                                          (True, 'true is not of type "integer"'),
                                          (None, 'null is not of type "integer"')])
def test_not_an_integer(server, value, words):
    assert server.detail(max_new_tokens=value) == {"max_new_tokens": words}


@case("65b", "c", "16.0 is an integer", any_engine=True)
def test_whole_number(server):
    answer = server.ask(
        "POST", "/predictions",
        json.dumps(request()).replace('"max_new_tokens": 8', '"max_new_tokens": 8.0'),
        {"Content-Type": "application/json"})
    assert answer.succeeded


@case("65c", "ours", "16.0 reaches the engine as the integer 16", coglet="as the float 16.0")
def test_whole_number_is_converted(server):
    assert '"max_new_tokens":16,' in server.predict("[echo]",
                                                    max_new_tokens=16.0)["output"].replace(" ", "")


@case(66, "c", "repetition_penalty: 0.01 to 5, integers too", any_engine=True)
def test_repetition_penalty(server):
    assert list(server.detail(repetition_penalty=0)) == ["repetition_penalty"]
    assert list(server.detail(repetition_penalty=5.01)) == ["repetition_penalty"]
    for value in (0.01, 5, 2):
        assert server.predict(repetition_penalty=value)["status"] == "succeeded"


@case(67, "c", "temperature: 0 to 5", any_engine=True)
def test_temperature(server):
    assert list(server.detail(temperature=-0.1)) == ["temperature"]
    for value in (0, 5):
        assert server.predict(temperature=value)["status"] == "succeeded"


@case(68, "c", "top_p: 0.01 to 0.99", any_engine=True)
def test_top_p(server):
    assert list(server.detail(top_p=0)) == list(server.detail(top_p=1)) == ["top_p"]
    assert server.predict(top_p=0.99)["status"] == "succeeded"


@case(69, "c", "decoding_strategy is one of two, case and all", any_engine=True)
def test_decoding_strategy(server):
    for wrong in ("Beam", "greedy"):
        words = server.detail(decoding_strategy=wrong)["decoding_strategy"]
        assert words == f'"{wrong}" is not one of ["Greedy","Top P Sampling"]'
    assert server.predict(decoding_strategy="Top P Sampling")["status"] == "succeeded"


@case(70, "c", "text must be a string, and may be empty", any_engine=True)
def test_text(server):
    assert list(server.detail(text=5)) == ["text"]
    assert server.predict(text="")["status"] == "succeeded"


@case(71, "c", "a URL in text stays text")
def test_url_in_text(server):
    assert server.predict("https://example.com/a.jpg")["output"] == "https://example.com/a.jpg"


@case(72, "c", "an unknown input is ignored", any_engine=True)
def test_unknown_input(server):
    assert server.predict(no_such_input=1)["status"] == "succeeded"


@case(73, "c", "an input that is a list or a string is one entry for __root__", any_engine=True)
@pytest.mark.parametrize("wrong", [[], "x"])
def test_input_is_no_object(server, wrong):
    assert fields_of(server.post({"input": wrong})) == ["__root__"]


@case(74, "c", "several errors are an entry each", any_engine=True)
def test_several_errors(server):
    assert set(server.detail(text=5, max_new_tokens=7,
                             top_p=3)) == {"text", "max_new_tokens", "top_p"}


@case(75, "c", "wrong input is 422 also while busy")
def test_422_before_409(server, hold):
    running = server.send("POST", "/predictions", request(f"[hold=0,{hold}]x"))
    server.wait_status("BUSY")
    assert server.post({"input": {}}).status == 422
    hold.touch()
    assert running.answer().status == 200


@case(76, "c", "entries hold loc (three strings), msg and type, nothing else", any_engine=True)
def test_entries(server):
    detail = server.post({"input": {"max_new_tokens": 7, "top_p": "x"}}).json["detail"]
    for entry in detail:
        assert sorted(entry) == ["loc", "msg", "type"]
        assert len(entry["loc"]) == 3 and all(isinstance(part, str) for part in entry["loc"])


@case(77,
      "hard",
      "a path or a file: URL for an image is refused and never read",
      coglet="hands it to the model as a path",
      any_engine=True)
@pytest.mark.parametrize(
    "image", ["foo.jpg", "/etc/passwd", "file:///etc/passwd", "FILE:///etc/passwd", "ftp://x/y"])
def test_local_paths(server, image):
    assert fields_of(server.post({"input": inputs(image=image)})) == ["image"]


@case(178,
      "ours",
      "wrong input is 422 during setup too",
      coglet="503: it has no schema yet",
      fresh=True,
      ready=False,
      env={"FAKE_SETUP_DELAY": "600"})
def test_422_before_503(server):
    server.wait_listening()
    assert server.post({"input": {}}).status == 422


@case(179, "c", "null or a number for decoding_strategy is refused", any_engine=True)
@pytest.mark.parametrize("wrong", [None, 1])
def test_enumeration_of_another_type(server, wrong):
    assert "decoding_strategy" in server.detail(decoding_strategy=wrong)


@case(180, "c", "a number beyond 64 bits is above the maximum", any_engine=True)
def test_huge_numbers(server):
    for value in (2**63, 10**30):
        assert "greater than the maximum" in server.detail(max_new_tokens=value)["max_new_tokens"]


@case(181, "c", "omitted inputs get their defaults")
def test_defaults(server):
    given = json.loads(server.predict("[echo]")["output"])
    assert (given["repetition_penalty"], given["decoding_strategy"], given["temperature"],
            given["top_p"]) == (1, "Greedy", 0.4, 0.8)


@case(182,
      "ours",
      "a prompt stands for image and text; with neither both are asked for",
      coglet="it has no prompt",
      only_ours=True,
      any_engine=True)
def test_prompt(server):
    answer = server.post({"input": {"prompt": ["hello"], "max_new_tokens": 8}})
    assert answer.succeeded, answer
    assert sorted(
        fields_of(server.post({"input": {"prompt": ["hello"], "text": "x", "image": "data:,"}}))
        or []) != []


@case(183, "c", "an asynchronous request is validated before it is accepted", any_engine=True)
def test_async_is_validated(server):
    assert fields_of(server.post({"input": {"text": "x"}}, ASYNC)) == ["image"]
