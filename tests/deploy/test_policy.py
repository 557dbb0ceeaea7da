# SPDX-License-Identifier: Apache-2.0
"""The rendered manifests by checkov's rules: each is kept, or waived with a reason."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from chart import PVC, preset, rendered, yaml

CHECKOV = Path(os.environ.get("IDEFICS_DEPLOY_ENV", "")) / "bin/checkov"
HARDENED = {**PVC, "networkPolicy": {"enabled": True}, "apiKeys": {"existingSecret": "keys"},
            "image": {"digest": "sha256:" + "0" * 64}}

EXPORT = {**HARDENED, "model": {"source": "export", "volume": {"size": "20Gi"}},
          "export": {"repository": "org/name", "image": HARDENED["image"], "tokenSecret": "hub"}}


def judged(values, tmp_path):
    """(failed, skipped): {rule: reason} of what checkov finds in all objects."""
    if not CHECKOV.exists():
        pytest.skip("checkov is not installed: scripts/setup.sh --tests says why")
    manifest = tmp_path / "manifest.yaml"
    manifest.write_text(yaml.safe_dump_all(rendered(values)))
    done = subprocess.run(
        [CHECKOV, "--framework", "kubernetes", "--skip-download", "--output", "json", "--file",
         manifest], capture_output=True, text=True, check=False)
    results = json.loads(done.stdout)["results"]
    assert len(results["passed_checks"]) > 80 and not results["parsing_errors"]
    return ({each["check_id"]: each["resource"] for each in results["failed_checks"]},
            {each["check_id"]: each["check_result"]["suppress_comment"]
             for each in results["skipped_checks"]})


@pytest.mark.parametrize("values, waived", [
    (PVC, {"CKV_K8S_11", "CKV_K8S_43", "CKV_K8S_15", "CKV2_K8S_6"}),
    (preset("values-9b.yaml"), {"CKV_K8S_11", "CKV_K8S_43", "CKV_K8S_15", "CKV2_K8S_6"}),
    (HARDENED, {"CKV_K8S_11"}), (EXPORT, {"CKV_K8S_11"})],
    ids=["defaults", "9b", "hardened", "export"])
def test_no_rule_is_broken_without_a_reason(values, waived, tmp_path):
    failed, skipped = judged(values, tmp_path)
    assert failed == {}
    assert set(skipped) == waived and all(len(reason) > 20 for reason in skipped.values())


def test_a_broken_rule_is_found(tmp_path):
    failed, _ = judged({**HARDENED, "server": {"env": [
        {"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}}, tmp_path)
    assert set(failed) == {"CKV_K8S_35"}, "secrets are files, not variables"
