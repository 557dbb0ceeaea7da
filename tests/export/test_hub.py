# SPDX-License-Identifier: Apache-2.0
"""scripts/export.sh ORG/NAME: the checkpoint comes from a hub, file by file, and what arrives is
what the hub promised, whatever happens on the way."""

import contextlib
import hashlib
import os
import signal
import subprocess

import pytest

from bundle_reader import check_files, manifest
from conftest import ROOT, environment
from hub_stand_in import COMMIT, REPO, TOKEN, HubStandIn
from patience import wait_until

SHARDS = [f"model-0000{i}-of-00004.safetensors" for i in (1, 2, 3, 4)]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Of 0.3 GB, in four files."""
    import make_checkpoint

    folder = tmp_path_factory.mktemp("hub") / "idefics-tiny"
    make_checkpoint.make_checkpoint(
        make_checkpoint.parse([str(folder), "--shape", "mid", "--dtype", "bf16", "--shards", "4"])
    )
    return folder


def weights(bundle):
    """The hashes of the bundle's files; TorchScript's are others each time."""
    return {
        name: file for name, file in manifest(bundle)["files"].items() if not name.endswith(".ts")
    }


@pytest.fixture(scope="module")
def expected(checkpoint, tmp_path_factory):
    """The files of the bundle that the folder gives."""
    bundle = tmp_path_factory.mktemp("expected") / "bundle"
    done = subprocess.run(
        [ROOT / "scripts/export.sh", checkpoint, bundle],
        env=environment(),
        timeout=300,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return weights(bundle)


@pytest.fixture
def hub(checkpoint):
    server = HubStandIn(checkpoint)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def start(hub, tmp_path):
    """start(bundle, *flags, name=…, **environment) -> the export as a process."""

    def run(bundle, *flags, name=REPO, **variables):
        command = [ROOT / "scripts/export.sh", name, bundle, *flags]
        return subprocess.Popen(
            command,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env={
                **environment(),
                "HF_ENDPOINT": hub.url,
                "HF_HOME": str(tmp_path / "home"),
                "HF_HUB_DISABLE_TELEMETRY": "1",
                "HF_TOKEN": "",
                **variables,
            },
        )

    return run


@pytest.fixture
def fetch(start):
    """-> (status, what was said)"""

    def run(bundle, *flags, **options):
        process = start(bundle, *flags, **options)
        _, said = process.communicate(timeout=300)
        return process.returncode, said

    return run


def _kill(process):
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)


def _scratch(bundle):
    return next(bundle.parent.glob(f"{bundle.name}.partial-*")) / "scratch"


def test_a_repository_gives_the_bundle_of_its_folder(hub, fetch, expected, tmp_path):
    status, said = fetch(tmp_path / "bundle")
    assert status == 0, said
    check_files(tmp_path / "bundle")
    assert weights(tmp_path / "bundle") == expected
    made = manifest(tmp_path / "bundle")
    assert made["name"] == "idefics-tiny"
    assert (made["source"]["repository"], made["source"]["revision"]) == (REPO, COMMIT)
    # What the hub's folder leaves beside the bundle: nothing.
    assert not list(tmp_path.glob("bundle.*"))
    assert {name: hub.sent[name] for name in SHARDS} == {
        name: (hub.folder / name).stat().st_size for name in SHARDS
    }


def test_sizes_and_times_are_said_before_the_first_weight_comes(hub, start, tmp_path):
    hub.held = {SHARDS[0]: 0, SHARDS[1]: 0, SHARDS[2]: 0, SHARDS[3]: 0}
    process = start(tmp_path / "bundle")
    assert hub.reached.wait(120)
    line = process.stderr.readline()
    _kill(process)
    size = sum((hub.folder / name).stat().st_size for name in SHARDS)
    assert f"{COMMIT[:12]}: 4 weight files. {size / 1e9:.2f} GB to fetch" in line
    assert "at 100 Mbit/s" in line and "are on the disk at most" in line


def test_a_cut_connection_is_gone_on_with_where_it_was(hub, fetch, expected, tmp_path):
    hub.cut_at = dict.fromkeys(SHARDS, 25 << 20)
    status, said = fetch(tmp_path / "bundle")
    assert status == 0, said
    assert weights(tmp_path / "bundle") == expected
    again = {path.rsplit("/", 1)[1]: begin for _, path, begin in hub.asked if begin > 0}
    assert again == dict.fromkeys(SHARDS, 20 << 20)  # the library writes 10 MiB at a time


def test_a_wrong_byte_is_refused_and_the_next_run_fetches_only_that_file(
    hub, fetch, expected, tmp_path
):
    hub.wrong = {SHARDS[2]}
    status, said = fetch(tmp_path / "bundle")
    assert status == 1 and not (tmp_path / "bundle").exists()
    right = hashlib.sha256((hub.folder / SHARDS[2]).read_bytes()).hexdigest()
    assert (
        f"{SHARDS[2]} of {REPO} came with other bytes than the hub promises (hash {right})" in said
    )
    assert "Traceback" not in said
    hub.wrong, hub.sent = set(), {}
    status, said = fetch(tmp_path / "bundle")
    assert status == 0, said
    assert weights(tmp_path / "bundle") == expected


def test_an_export_that_is_killed_goes_on_within_the_file_that_it_had_begun(
    hub, start, fetch, expected, tmp_path
):
    bundle = tmp_path / "bundle"
    order = _order(hub, fetch, tmp_path)
    hub.held = {order[1]: 20 << 20}
    process = start(bundle)
    assert hub.reached.wait(120)
    part = _scratch(bundle) / f"{order[1]}.part"
    wait_until(lambda: part.exists() and part.stat().st_size == 20 << 20)
    _kill(process)
    assert not bundle.exists()
    was_read = not (part.parent / order[0]).exists()  # and removed, if the export was quick
    hub.held, hub.asked, hub.sent = {}, [], {}
    status, said = fetch(bundle)
    assert status == 0, said
    assert weights(bundle) == expected
    assert ("GET", f"/{REPO}/resolve/{COMMIT}/{order[1]}", 20 << 20) in hub.asked
    assert (order[0] in hub.sent) == was_read
    assert not list(tmp_path.glob("bundle.*"))


def _order(hub, fetch, tmp_path):
    """The weight files as an export asks for them."""
    assert fetch(tmp_path / "first")[0] == 0
    asked = [path.rsplit("/", 1)[1] for _, path, _ in hub.asked]
    hub.asked, hub.sent = [], {}
    return list(dict.fromkeys(name for name in asked[::-1] if name in SHARDS))[::-1]


def test_what_was_begun_for_another_form_is_not_gone_on_with(hub, start, fetch, tmp_path):
    bundle = tmp_path / "bundle"
    hub.held = dict.fromkeys(SHARDS, 1000)
    process = start(bundle)
    assert hub.reached.wait(120)
    _kill(process)
    hub.held = {}
    assert fetch(bundle, "--weights", "int8")[0] == 0
    assert manifest(bundle)["quantization"] == "int8"
    assert not list(tmp_path.glob("bundle.*"))


def test_a_gated_repository_wants_a_token(hub, fetch, tmp_path):
    hub.gated = True
    status, said = fetch(tmp_path / "bundle")
    assert status == 1
    assert f"{REPO} is gated: ask for access on {hub.url}/{REPO}, then set HF_TOKEN" in said
    assert said.count("\n") == 1
    assert fetch(tmp_path / "bundle", HF_TOKEN=TOKEN)[0] == 0


@pytest.mark.parametrize(
    "name, sentence",
    [
        (f"{REPO}@no-such", f"{REPO} has no revision no-such"),
        (
            "stand-in/nothing",
            "stand-in/nothing is neither a folder here nor a repository on the hub",
        ),
    ],
)
def test_what_is_not_there_is_one_sentence(fetch, tmp_path, name, sentence):
    status, said = fetch(tmp_path / "bundle", name=name)
    assert status == 1 and sentence in said and said.count("\n") == 1
    assert not list(tmp_path.glob("bundle*"))


def test_a_hub_that_does_not_answer_is_one_sentence(hub, fetch, tmp_path):
    status, said = fetch(tmp_path / "bundle", HF_ENDPOINT="http://127.0.0.1:9")
    assert status == 1 and f"the hub did not give {REPO}" in said and said.count("\n") == 1


def test_without_a_network_the_cache_of_this_machine_is_the_hub(hub, fetch, expected, tmp_path):
    status, said = fetch(tmp_path / "bundle", HF_HUB_OFFLINE="1")
    assert (
        status == 1 and f"HF_HUB_OFFLINE is set, and {REPO} is not in this machine's cache" in said
    )
    _fill_cache(hub, tmp_path)
    hub.asked = []
    assert fetch(tmp_path / "bundle", HF_HUB_OFFLINE="1")[0] == 0
    assert hub.asked == []
    assert weights(tmp_path / "bundle") == expected
    assert manifest(tmp_path / "bundle")["source"]["revision"] == COMMIT


def test_what_another_program_fetched_is_not_fetched_again_but_is_compared(
    hub, fetch, expected, tmp_path
):
    snapshot = _fill_cache(hub, tmp_path)
    blob = (snapshot / SHARDS[1]).resolve()
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    blob.write_bytes(data)
    hub.sent = {}
    status, said = fetch(tmp_path / "bundle")
    assert status == 0, said
    assert weights(tmp_path / "bundle") == expected
    assert [name for name in SHARDS if name in hub.sent] == [SHARDS[1]]
    assert (snapshot / SHARDS[0]).exists()


def _fill_cache(hub, tmp_path):
    """Lays the repository where huggingface_hub caches it, as its own download would."""
    root = tmp_path / "home/hub" / f"models--{REPO.replace('/', '--')}"
    snapshot = root / "snapshots" / COMMIT
    for folder in (snapshot, root / "blobs", root / "refs"):
        folder.mkdir(parents=True)
    (root / "refs/main").write_text(COMMIT)
    for path in hub.folder.iterdir():
        blob = root / "blobs" / hashlib.sha256(path.read_bytes()).hexdigest()
        blob.write_bytes(path.read_bytes())
        (snapshot / path.name).symlink_to(blob)
    return snapshot


def test_at_most_two_weight_files_and_the_bundle_are_on_the_disk(hub, start, tmp_path):
    bundle = tmp_path / "bundle"
    process = start(bundle)
    most = 0
    while process.poll() is None:
        with contextlib.suppress(FileNotFoundError):  # renamed or removed in between
            most = max(most, len(list(tmp_path.glob("bundle.partial-*/scratch/*"))))
    _, said = process.communicate()
    assert process.returncode == 0, said
    assert (
        1 <= most <= 3
    )  # decoder and cross-attention layers lie in different files of this checkpoint


def test_a_calibration_by_pictures_fetches_each_file_once(hub, fetch, checkpoint, tmp_path):
    status, said = fetch(tmp_path / "bundle", "--weights", "int8")
    assert status == 0, said
    assert {name: hub.sent[name] for name in SHARDS} == {
        name: (hub.folder / name).stat().st_size for name in SHARDS
    }
    folder = tmp_path / "of the folder"
    done = subprocess.run(
        [ROOT / "scripts/export.sh", checkpoint, folder, "--weights", "int8"],
        env=environment(),
        timeout=300,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert weights(tmp_path / "bundle") == weights(folder)
    plain = tmp_path / "plain"
    assert fetch(plain, "--weights", "int8", "--calibrate", "none")[0] == 0
    assert weights(plain) != weights(folder)


@pytest.mark.parametrize("shards", [1, 2])
def test_weights_of_torchs_own_format_come_through_the_cache(
    make, fetch, hub, export, shards, tmp_path
):
    hub.folder = make("--seed", "5", "--format", "bin", "--shards", str(shards))
    status, said = fetch(tmp_path / "fetched")
    assert status == 0, said
    assert weights(tmp_path / "fetched") == weights(export(hub.folder))


def test_a_calibration_reads_a_repository_as_it_reads_its_folder(
    make, fetch, hub, export, tmp_path
):
    hub.folder = make("--dtype", "bf16", "--shards", "2")
    flags = {"weights": "int4", "calibrate": "synthetic"}
    status, said = fetch(
        tmp_path / "fetched", *(word for key in flags for word in (f"--{key}", flags[key]))
    )
    assert status == 0, said
    first, *_, last = said.splitlines()
    assert ": 2 weight files. " in first and "GB to fetch" in first and "they stay in" in first
    assert "Fetching" in said, "the bars of the hub's library are drawn"
    assert "for this machine" in last
    assert weights(tmp_path / "fetched") == weights(export(hub.folder, **flags))
