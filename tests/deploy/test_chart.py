# SPDX-License-Identifier: Apache-2.0
"""The Helm chart, rendered, and its container's arguments and probes against a server of this
build; test_rendered_pod.py runs the container itself."""

import ipaddress
import json
import re

import pytest

from chart import CHART, PVC, ROOT, helm, preset, render, rendered, yaml

EVERYTHING = {**PVC, "gpus": 1, "autoscaling": {"enabled": True}, "podMonitor": {"enabled": True},
              "networkPolicy": {"enabled": True}, "apiKeys": {"existingSecret": "keys"},
              "image": {"digest": "sha256:" + "0" * 64}, "server": {"args": ["--n=1"]},
              "metrics": {"port": 9400}, "dashboard": {"enabled": True}, "otel": {"endpoint": "http://collector.o11y:4318"},
              "nodeSelector": {"gpu": "h100"}, "tolerations": [{"operator": "Exists"}]}


def container(objects):
    return objects["Deployment"]["spec"]["template"]["spec"]["containers"][0]


EXPORT = {"model": {"source": "export", "volume": {"size": "20Gi", "storageClass": "fast"}},
          "export": {"repository": "HuggingFaceM4/idefics-9b-instruct@main", "tokenSecret": "hub",
                     "args": ["--weights=int8"]},
          "networkPolicy": {"enabled": True}}
OCI = {"model": {"source": "oci", "image": "registry.example/idefics-9b:1"}}


@pytest.mark.parametrize("values", [PVC, OCI, EXPORT, EVERYTHING, preset("values-cpu.yaml"),
                                    preset("values-9b.yaml"), preset("values-80b.yaml")])
def test_what_is_rendered_is_valid(values):
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is missing")
    for each in rendered(values):
        # No schema of these is there.
        if each["kind"] not in ("PodMonitor", "ScaledObject", "InferencePool"):
            validate.validate(each, "1.31", strict=True)


def test_all_parts_are_there():
    usual = {"Deployment", "Service", "ServiceAccount", "PodDisruptionBudget"}
    assert set(render(PVC)) == usual
    assert set(render(EVERYTHING)) == usual | {"HorizontalPodAutoscaler", "PodMonitor", "ConfigMap",
                                               "NetworkPolicy"}
    assert set(render(EXPORT)) == usual | {"Job", "PersistentVolumeClaim", "NetworkPolicy"}


def test_keda_asks_prometheus_in_place_of_an_hpa():
    objects = render({**PVC, "autoscaling": {"enabled": True, "prometheus": "http://prom:9090"}})
    assert "HorizontalPodAutoscaler" not in objects
    made = objects["ScaledObject"]["spec"]
    assert made["scaleTargetRef"]["name"] == objects["Deployment"]["metadata"]["name"]
    assert made["triggers"] == [{
        "type": "prometheus", "metricType": "AverageValue", "metadata": {
            "serverAddress": "http://prom:9090", "threshold": "2",
            "query": 'sum(idefics_requests_waiting{namespace="prod"})'}}]
    behavior = made["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behavior == render(EVERYTHING)["HorizontalPodAutoscaler"]["spec"]["behavior"]
    assert behavior["scaleDown"]["stabilizationWindowSeconds"] == 600


def test_the_dashboard_is_there_as_it_is():
    [text] = render(EVERYTHING)["ConfigMap"]["data"].values()
    assert json.loads(text) == json.loads((CHART / "dashboards/cog-idefics.json").read_text())


@pytest.mark.parametrize("values, word", [
    ({"modle": {}}, "modle"), ({**PVC, "gpus": "two"}, "gpus"), ({}, "model.claim"),
    ({**PVC, "server": {"args": ["queue=1"]}}, "args"),
    ({"model": {"source": "oci"}}, "model.image"), ({**PVC, "metrics": {"port": 5000}}, "port"),
    ({**PVC, "otel": {"endpoint": "host"}}, "otel"),
    ({"model": {"volume": {"size": "20 GB"}}}, "size"),
    ({"model": {"source": "export", "claim": "bundles"}}, "export.repository"),
    ({**EXPORT, "export": {"repository": "/models/idefics"}}, "repository")])
def test_a_mistake_in_the_values_is_named(values, word):
    with pytest.raises(helm.HelmError, match=word):
        render(values)


def test_the_pod_has_no_rights_and_time_to_leave():
    pod = render(PVC)["Deployment"]["spec"]["template"]["spec"]
    security = pod["containers"][0]["securityContext"]
    assert pod["securityContext"]["runAsNonRoot"] and not pod["enableServiceLinks"]
    assert security["readOnlyRootFilesystem"] and security["capabilities"] == {"drop": ["ALL"]}
    assert pod["terminationGracePeriodSeconds"] > 5 + 120


def test_metrics_and_traces_have_ports_of_their_own():
    objects = render(EVERYTHING)
    made = container(objects)
    assert "--metrics-port=9400" in made["args"]
    assert {"name": "metrics", "containerPort": 9400} in made["ports"]
    template = objects["Deployment"]["spec"]["template"]["metadata"]
    assert template["annotations"]["prometheus.io/port"] == "9400"
    assert objects["PodMonitor"]["spec"]["podMetricsEndpoints"][0]["port"] == "metrics"
    policy = objects["NetworkPolicy"]["spec"]
    assert [rule["ports"][0]["port"] for rule in policy["ingress"]] == ["http", "metrics"]
    assert policy["egress"][0]["ports"] == [{"port": 4318, "protocol": "TCP"}]
    assert {"name": "OTEL_EXPORTER_OTLP_ENDPOINT",
            "value": "http://collector.o11y:4318"} in made["env"]
    plain = container(render(PVC))
    assert not any("metrics" in flag for flag in plain["args"])
    assert [port["name"] for port in plain["ports"]] == ["http"]


def test_a_bundle_may_come_as_an_image():
    pod = render(OCI)["Deployment"]["spec"]["template"]["spec"]
    assert {"name": "model", "image": {"reference": "registry.example/idefics-9b:1",
                                       "pullPolicy": "IfNotPresent"}} in pod["volumes"]
    assert {"name": "model", "mountPath": "/models",
            "readOnly": True} in pod["containers"][0]["volumeMounts"]


def test_an_export_has_a_volume_and_a_name_of_its_own():
    objects = render(EXPORT)
    made = objects["PersistentVolumeClaim"]
    assert made["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert made["spec"] == {"accessModes": ["ReadWriteOnce"], "storageClassName": "fast",
                            "resources": {"requests": {"storage": "20Gi"}}}
    job, pod = (objects[kind]["spec"]["template"] for kind in ("Job", "Deployment"))
    claim = {"claimName": made["metadata"]["name"]}
    assert {"name": "model", "persistentVolumeClaim": claim} in job["spec"]["volumes"]
    assert {"name": "model", "persistentVolumeClaim": {**claim, "readOnly": True}} in pod["spec"][
        "volumes"]
    [exporting] = job["spec"]["containers"]
    bundle = exporting["args"][3]
    assert exporting["args"][2:] == ["HuggingFaceM4/idefics-9b-instruct@main", bundle,
                                     "--weights=int8"]
    flags = container(objects)["args"]
    assert f"--model={bundle}" in flags and "--served-model-name=idefics-9b-instruct" in flags
    assert pod["spec"]["initContainers"][0]["args"] == [bundle]
    selector = objects["Service"]["spec"]["selector"].items()
    assert not selector <= job["metadata"]["labels"].items(), "the service would ask the job"
    policies = {each["metadata"]["name"]: each["spec"] for each in rendered(EXPORT)
                if each["kind"] == "NetworkPolicy"}
    of_job = policies["idefics-export"]
    assert of_job["podSelector"]["matchLabels"].items() <= job["metadata"]["labels"].items()
    assert of_job["egress"] == policies["idefics"]["egress"] and "ingress" not in of_job


@pytest.mark.parametrize("change, job, bundle", [
    ({"repository": "HuggingFaceM4/idefics-9b-instruct@v2"}, True, True),
    ({"args": ["--weights=int4"]}, True, True),
    ({"image": {"tag": "2"}}, True, False),
    ({"env": [{"name": "HF_ENDPOINT", "value": "https://mirror.example"}]}, True, False)])
def test_another_export_is_another_job(change, job, bundle):
    """A job cannot be changed; a bundle is made again only where its content would be another."""
    before, after = render(EXPORT), render({**EXPORT, "export": {**EXPORT["export"], **change}})
    assert (before["Job"]["metadata"]["name"] != after["Job"]["metadata"]["name"]) == job
    assert (container(before)["args"][0] != container(after)["args"][0]) == bundle


def test_the_chart_knows_the_form_of_bundles():
    """Of which a new one makes all exports anew."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    exporter = (ROOT / "scripts/export/manifest.py").read_text()
    assert chart["annotations"]["cog-idefics/bundle-format"] == re.search(
        r"^FORMAT_VERSION = (\d+)", exporter, re.M)[1]


def test_a_picker_of_the_gateway_api_finds_the_pods():
    objects = render({**PVC, "inferencePool": {"picker": "epp"}})
    pool = objects["InferencePool"]
    assert pool["apiVersion"] == "inference.networking.k8s.io/v1"
    labels = objects["Deployment"]["spec"]["template"]["metadata"]["labels"]
    selector = pool["spec"].pop("selector")
    assert set(selector) == {"matchLabels"}
    assert selector["matchLabels"].items() <= labels.items()
    assert pool["spec"] == {
        "targetPorts": [{"number": container(objects)["ports"][0]["containerPort"]}],
        "endpointPickerRef": {"name": "epp", "port": {"number": 9002}}}


def test_the_network_policy_denies_what_the_server_denies():
    source = (ROOT / "server/fetch/url_policy.cc").read_text()
    denied = {ipaddress.ip_network((int(prefix, 16), int(bits)))
              for prefix, bits in re.findall(r"\{(0x[0-9a-f]{8}), (\d+)\},", source)}
    egress = render(EVERYTHING)["NetworkPolicy"]["spec"]["egress"]
    blocks = [to["ipBlock"] for rule in egress for to in rule["to"] if "ipBlock" in to]
    excepted = {ipaddress.ip_network(each) for block in blocks for each in block["except"]}
    assert len(denied) > 10 and denied == {each for each in excepted if each.version == 4}


def test_the_container_runs_and_its_probes_are_answered(start):
    made = container(render(PVC))
    flags = [flag for flag in made["args"] if not flag.startswith(("--model=", "--port="))]
    server = start(*[part for flag in flags for part in flag.split("=", 1)])
    server.wait_until("READY")
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert server.ask("GET", made[probe]["httpGet"]["path"])[0] == 200, probe
    server.process.terminate()
    assert server.wait() == 0
