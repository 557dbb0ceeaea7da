# SPDX-License-Identifier: Apache-2.0
"""Replicate's Python client with base_url: first the requests it makes, byte for byte what matters,
then the client itself where it is installed."""


import pytest

from conftest import PICTURES, data_uri
from patience import wait_until

STATUSES = ("starting", "processing", "succeeded", "failed", "canceled")


def is_what_the_client_parses(prediction):
    """The fields that its `Prediction` model requires, and their types."""
    assert all(isinstance(prediction[name], str) for name in ("id", "model", "version"))
    assert prediction["status"] in STATUSES
    assert set(prediction["urls"]) == {"get", "cancel"}
    return prediction


def create(server, path="/v1/predictions", prefer=None, **body):
    headers = {"Authorization": "Bearer r8_x", "User-Agent": "replicate-python/1.0.7"}
    status, prediction = server.ask("POST", path, body, **headers,
                                    **({"Prefer": prefer} if prefer else {}))
    assert status == 201, prediction
    return is_what_the_client_parses(prediction)


def poll(server, prediction):
    """As prediction.wait() does."""
    def ended():
        status, shown = server.ask("GET", "/v1/predictions/" + prediction["id"])
        assert status == 200
        is_what_the_client_parses(shown)
        return shown if shown["status"] in STATUSES[2:] else None
    return wait_until(ended)


def test_create_answers_at_once_and_polling_reaches_the_end(fake):
    made = create(fake, version="abc", input={"prompt": ["[sleep=0.2]x"]}, stream=False)
    assert made["status"] == "starting" and made["version"] == "abc"
    assert made["urls"]["get"] == f"http://127.0.0.1:{fake.port}/v1/predictions/{made['id']}"
    done = poll(fake, made)
    assert (done["status"], done["output"], done["version"]) == ("succeeded", "x", "abc")


def test_prefer_wait_answers_with_the_end_or_with_starting(fake, hold):
    assert create(fake, prefer="wait", input={"prompt": ["y"]})["output"] == "y"
    made = create(fake, prefer="wait=1", input={"prompt": [f"[hold=0,{hold}]z"]})
    assert made["status"] == "starting"
    hold.touch()
    assert poll(fake, made)["output"] == "z"


def test_cancel_answers_with_the_prediction(fake):
    made = create(fake, input={"prompt": ["[sleep=600]x"]})
    status, prediction = fake.ask("POST", f"/v1/predictions/{made['id']}/cancel")
    assert status == 200 and is_what_the_client_parses(prediction)["id"] == made["id"]
    assert poll(fake, prediction)["status"] == "canceled"
    assert fake.ask("POST", f"/v1/predictions/{made['id']}/cancel")[1]["status"] == "canceled"
    assert fake.ask("POST", "/v1/predictions/none/cancel")[0] == 404


def test_a_model_is_named_by_its_path(fake):
    made = create(fake,
                  "/v1/models/acme/idefics/predictions",
                  prefer="wait",
                  input={"prompt": ["x"]})
    assert (made["model"], made["version"]) == ("acme/idefics", "hidden")
    version = fake.ask("GET", "/v1/models/acme/idefics/versions/abc")[1]
    assert version["id"] == "abc" and version["openapi_schema"] == fake.ask("GET",
                                                                            "/openapi.json")[1]
    assert version["created_at"] and version["cog_version"]


def test_errors_are_problems_as_the_client_reads_them(fake):
    status, problem = fake.ask("POST", "/v1/predictions",
                               {"input": {"image": "data:,x", "text": 5}})
    assert (status, problem["status"]) == (422, 422)
    assert problem["detail"] == '- input.text: 5 is not of type "string"\n'
    assert fake.ask("GET", "/v1/predictions/none")[1]["detail"] == "Prediction not found"
    status, problem = fake.ask("POST", "/v1/predictions", "{bad", Content_Type="application/json")
    assert status == 400 and problem["detail"].startswith("Failed to parse")


def test_the_client_itself_creates_gets_cancels_and_runs(fake):
    replicate = pytest.importorskip("replicate")
    client = replicate.Client(api_token="r8_x", base_url=f"http://127.0.0.1:{fake.port}")
    made = client.predictions.create(version="abc", input={"prompt": ["[sleep=0.2]x"]})
    assert made.status == "starting"
    made.wait()
    assert made.status == "succeeded" and made.output == "x"
    assert client.predictions.get(made.id).output == "x"
    long = client.predictions.create(version="abc", input={"prompt": ["[sleep=600]x"]})
    long.cancel()
    long.wait()
    assert long.status == "canceled"
    picture = data_uri(PICTURES / "8bit-type2.png")
    assert client.run("acme/idefics:" + "a" * 64, input={"image": picture, "text": "hi"}) == "hi"
    assert client.run("acme/idefics", input={"image": picture, "text": "hi"}) == "hi"
    with pytest.raises(replicate.exceptions.ModelError, match="no luck"):
        client.run("acme/idefics", input={"image": picture, "text": "[fail=no luck]"})
    with pytest.raises(replicate.exceptions.ReplicateError) as refused:
        client.run("acme/idefics", input={"text": "hi"})
    assert refused.value.status == 422 and "input.image: Field required" in refused.value.detail
