# SPDX-License-Identifier: Apache-2.0
"""The Helm chart, rendered by Helm's own engine (the package helm-python-sdk)."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy/helm/cog-idefics"
PVC = {"model": {"claim": "bundles"}}

helm = pytest.importorskip("helm_python", reason="helm-python-sdk is not installed")
yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")


def rendered(values):
    """All objects, in the order of the chart's files."""
    with helm.Chart.load(str(CHART)) as chart:
        files = chart.render(values, name="idefics", namespace="prod")
    return [each for name, text in files.items() if name.endswith(".yaml")
            for each in yaml.safe_load_all(text) if each]


def render(values):
    return {each["kind"]: each for each in rendered(values)}


def preset(name):
    return {**yaml.safe_load((CHART / name).read_text()), **PVC}
