# SPDX-License-Identifier: Apache-2.0
"""A bundle stands under its final name only when it is whole, whatever ends the export, in little
memory."""

import os
import signal
import subprocess
import sys

import pytest

from bundle_reader import check_files
from conftest import environment


@pytest.fixture(scope="module")
def mid(tmp_path_factory):
    import make_checkpoint
    folder = tmp_path_factory.mktemp("mid") / "checkpoint"
    make_checkpoint.make_checkpoint(
        make_checkpoint.parse([str(folder), "--shape", "mid", "--dtype", "bf16", "--shards", "2"]))
    return folder


# The exporter, which stops itself once it has written some weights.
_STOPPING = """
import os, signal, sys
from export import __main__ as program, writer
write = os.write
def write_and_stop(fd, data):
    count = write(fd, data)
    if "/weights-" in os.readlink(f"/proc/self/fd/{fd}"):
        os.write = write
        os.kill(os.getpid(), signal.SIGSTOP)
    return count
os.write = write_and_stop
sys.exit(program.main(sys.argv[1:]))
"""


def _start(checkpoint, bundle, *flags):
    """An export that has begun to write weights and stands still. Ctrl-C reaches it as from a
    terminal: a shell's background job, which a test run in CI may be, hands on that SIGINT is
    ignored."""
    process = subprocess.Popen([sys.executable, "-c", _STOPPING, checkpoint, bundle, *flags],
                               env=environment(),
                               text=True,
                               stderr=subprocess.PIPE,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    pid, status = os.waitpid(process.pid, os.WUNTRACED)
    assert pid and os.WIFSTOPPED(status), "it ended before it had written weights"
    assert list(bundle.parent.glob(f"{bundle.name}.partial-*/weights-*"))
    return process


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_an_export_that_is_ended_midway_leaves_no_bundle(mid, tmp_path, number):
    bundle = tmp_path / "bundle"
    process = _start(mid, bundle, "--dtype", "f32")
    process.send_signal(number)
    process.send_signal(signal.SIGCONT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == (-9 if number == signal.SIGKILL else 130)
    assert not bundle.exists() and "Traceback" not in error
    assert bool(list(tmp_path.iterdir())) == (number == signal.SIGKILL)


def test_what_a_killed_export_left_is_removed_by_the_next_one(tiny, tmp_path, export):
    left = tmp_path / "bundle.partial-1"
    left.mkdir()
    (left / "weights-00001-of-00001.safetensors").write_bytes(b"half")
    other = tmp_path / "bundle.partial-old"  # not of this program
    other.mkdir()
    check_files(export(tiny))
    assert not left.exists() and other.exists()


def test_what_a_running_export_writes_is_not_removed_by_another(tiny, mid, tmp_path, command):
    bundle = tmp_path / "bundle"
    process = _start(mid, bundle, "--dtype", "f32")
    assert command(tiny, bundle).returncode == 0
    process.send_signal(signal.SIGCONT)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 1 and error.count("\n") < 15
    check_files(bundle)
    assert list(tmp_path.iterdir()) == [bundle]


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tiny, tmp_path, export, monkeypatch):
    from export import __main__ as program
    from export import writer
    written = os.write

    def full(fd, data):
        if len(data) > 50_000:
            raise OSError(28, "No space left on device")
        return written(fd, data)
    monkeypatch.setattr(writer.os, "write", full)
    with pytest.raises(OSError) as caught:
        export(tiny)
    sentence = program._sentence(caught.value, tmp_path / "bundle")
    assert sentence.startswith("the disk of ") and "became full" in sentence
    assert not list(tmp_path.glob("bundle*"))


def test_too_little_space_is_seen_before_anything_is_written(tiny, export, monkeypatch, tmp_path):
    from export import writer
    from export.errors import ExportError
    monkeypatch.setattr(writer.shutil, "disk_usage",
                        lambda path: type("Usage", (), {"free": 10 ** 6})())
    with pytest.raises(ExportError, match=r"the bundle needs 0.07 GB, .* has 0.00 GB free"):
        export(tiny)
    assert not list(tmp_path.glob("bundle*"))


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_really_full_disk_is_one_sentence(tiny, tmp_path, command):
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=70m", "tmpfs",
                       str(small)],
                      capture_output=True).returncode:
        pytest.skip("this container may not mount a tmpfs")
    try:
        (small / "ballast").write_bytes(bytes(69 << 20))
        done = command(tiny, small / "bundle")
        assert done.returncode == 1 and "GB free" in done.stderr and done.stderr.count("\n") == 1
        assert sorted(path.name for path in small.iterdir()) == ["ballast"]
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_target_that_cannot_be_written_is_one_sentence(tiny, command):
    done = command(tiny, "/proc/bundle")
    assert done.returncode == 1 and done.stderr.startswith("export: /proc/") and done.stderr.count(
        "\n") == 1


# VmHWM and not ru_maxrss: the latter also counts the parent, which a child is for a moment after
# fork.
_PEAK = ("print(next(line for line in open('/proc/self/status') if "
         "line.startswith('VmHWM')).split()[1])")


def _peak_bytes(program, *arguments):
    done = subprocess.run([sys.executable, "-c", f"{program}; {_PEAK}", *arguments],
                          env=environment(),
                          text=True,
                          capture_output=True,
                          timeout=300)
    assert done.returncode == 0, done.stderr
    return int(done.stdout) * 1024


@pytest.mark.parametrize("form", ["safetensors", "bin"])
def test_memory_stays_under_twice_the_largest_tensor_and_one_gigabyte(make, tmp_path, form):
    checkpoint = make("--shape", "mid", "--format", form)
    largest = 32003 * 1024 * 4  # of 0.6 GB
    peak = _peak_bytes(
        "import sys; from export.__main__ import main; assert main(sys.argv[1:]) == 0",
        str(checkpoint), str(tmp_path / "bundle"))
    above_torch = peak - _peak_bytes("import torch")
    assert peak < 2 * largest + 10**9
    # The weights are 590 MB: had they been in memory, it would show.
    assert above_torch < 300 << 20, f"{above_torch >> 20} MiB above torch itself"
