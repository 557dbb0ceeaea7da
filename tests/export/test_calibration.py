# SPDX-License-Identifier: Apache-2.0
"""int4, and int8 of what looks at pictures, that know what their weights are multiplied with: what
is measured, that scales change nothing but the rounding, and which linears have 8 bits instead."""

import itertools
import zlib

import pytest
import torch

from bundle_reader import linear, manifest, tensors


def _parts(folder):
    from export.checkpoint import open_folder
    from export.config import read_config
    from export.plan import build_plan
    from export.scripted import load_operators
    from export.tokenizer_files import read_tokenizer
    load_operators()
    config, checkpoint = read_config(folder), open_folder(folder)
    return config, build_plan(config, checkpoint.shapes()), checkpoint, read_tokenizer(
        folder, config)


def _moments(folder):
    from export.calibration import Calibration
    from export.progress import Progress
    from export.samples import read_samples
    config, plan, checkpoint, tokenizer = _parts(folder)
    samples = read_samples("synthetic", config, tokenizer)
    calibration = Calibration(config, plan, checkpoint, torch.float32, Progress("", 1))
    return plan, checkpoint, calibration.of_samples(samples)


def _int4(dtype=torch.float32):
    from export.weight_files import WeightForm
    return WeightForm(dtype, "int4")


def _logits(folder, adjustments):
    """Of some tokens behind a picture, with f32 weights that are adjusted."""
    from export.calibration import Calibration, _Streamed
    from export.linears import Widths
    from export.modules import Decoder
    from export.progress import Progress
    from export.samples import read_samples
    from export.weight_files import WeightForm
    from export.weight_writer import WeightWriter
    config, plan, checkpoint, tokenizer = _parts(folder)
    calibration = Calibration(config, plan, checkpoint, torch.float32, Progress("", 1))
    writer = WeightWriter(checkpoint, WeightForm(torch.float32, "none"), Progress("", 1),
                          adjustments)
    calibration._streamed = _Streamed(plan, writer)
    samples = read_samples("synthetic", config, tokenizer)[:2]
    with torch.no_grad():
        keys, values = calibration._look(torch.stack([sample.pixels for sample in samples]))
        decoder = Decoder(config.shape, Widths("none")).eval()
        calibration._streamed.prepare(decoder, "decoder", ["groups.0", "groups.1", "lm_head"])
        rows = [[*sample.tokens, 7, 9, 11, 13] for sample in samples]
        return calibration._read(decoder, samples, rows, keys, values)


def test_every_linear_but_that_of_the_patches_is_measured(make):
    folder = make("--dtype", "f32", "--distribution", "normal")
    plan, _, moments = _moments(folder)
    wanted = {target.name: (-(-target.shape[1] // 128), 128, 128) for target in plan
              if target.linear and target.name != "vision.patch_embedding"}
    assert {name: found.shape for name, found in moments.items()} == wanted
    for found in moments.values():
        assert torch.equal(found, found.mT) and found.isfinite().all()
        assert (found.diagonal(dim1=1, dim2=2) > 0).any()


def test_pictures_alone_are_seen_as_beside_texts(make):
    from export.calibration import Calibration, bytes_read, looks
    from export.progress import Progress
    from export.samples import read_pictures
    folder = make("--dtype", "f32", "--distribution", "normal")
    _, _, moments = _moments(folder)
    config, plan, checkpoint, _ = _parts(folder)
    progress = Progress("", 10**9)
    calibration = Calibration(config, looks(plan), checkpoint, torch.float32, progress)
    found = calibration.of_pictures(read_pictures("synthetic", config))
    assert found.keys() == {name for name in moments if name.startswith("vision.")}
    assert all(torch.equal(value, moments[name]) for name, value in found.items())
    assert progress._done == bytes_read(looks(plan), torch.float32)


def test_a_large_channel_is_seen(make):
    from safetensors.torch import load_file, save_file
    folder = make("--dtype", "f32", "--distribution", "normal")
    path = folder / "model.safetensors"
    source = load_file(path)
    source["model.layers.2.input_layernorm.weight"][5] *= 100
    save_file(source, path, metadata={"format": "pt"})
    _, _, moments = _moments(folder)
    assert int(moments["decoder.groups.1.layers.0.qkv"][0].diagonal().argmax()) == 5


def test_scales_move_between_a_linear_and_its_input_and_change_nothing_else(make, monkeypatch):
    from export import adjustment
    folder = make("--dtype", "f32", "--distribution", "normal")
    plan, checkpoint, moments = _moments(folder)
    monkeypatch.setattr(adjustment, "_WORTH", 1e9)  # all are taken
    found = adjustment.adjustments(plan, checkpoint, _int4(), moments)
    assert all(found[name].columns is not None for name in moments
               if name.startswith("decoder.groups."))
    assert all(found[f"vision.cross.{g}.kv"].rows is not None for g in (0, 1))
    plain, scaled = _logits(folder, {}), _logits(folder, found)
    assert (plain - scaled).abs().max() < 1e-4 * plain.std()
    assert not torch.equal(plain, scaled)


def test_rounded_norms_are_made_up_for(make, monkeypatch):
    from export import adjustment
    folder = make("--dtype", "f32", "--distribution", "normal")
    plan, checkpoint, moments = _moments(folder)
    monkeypatch.setattr(adjustment, "_WORTH", 1e9)
    name = "decoder.groups.0.layers.0.qkv"
    found = adjustment.adjustments(plan, checkpoint, _int4(torch.bfloat16), {name: moments[name]})
    source = checkpoint.chunks("model.layers.0.input_layernorm.weight")
    norm = torch.cat([chunk.float() for chunk in source])
    stored = (norm * found["decoder.groups.0.layers.0.input_norm"].rows).to(torch.bfloat16).float()
    assert torch.allclose(stored * found[name].columns, norm, rtol=1e-6)


def _outputs_error(rows, x, form):
    return float(((form.rounded(rows) - rows) @ x.t()).square().mean())


def _form(x, width="int4"):
    from export.packing import linear_form
    from export.rounding import padded_groups, read_moments
    groups = padded_groups(x).transpose(0, 1)
    return linear_form(torch.float32, width,
                       read_moments((groups.mT @ groups / len(x)).to(torch.bfloat16)))


@pytest.mark.parametrize("k", [512, 200])
def test_the_error_moves_to_inputs_that_are_small(k):
    from export.packing import Int4Form
    random = torch.Generator().manual_seed(1)
    rows, x = torch.randn(64, k, generator=random), torch.randn(2000, k, generator=random)
    x[:, ::50] *= 20
    assert _outputs_error(rows, x, _form(x)) < 0.4 * _outputs_error(rows, x, Int4Form())


@pytest.mark.parametrize("k", [512, 200])
def test_inputs_that_go_together_make_up_for_each_others_errors(k):
    from export.packing import Int4Form
    random = torch.Generator().manual_seed(2)
    rows = torch.randn(100, k, generator=random)
    seen, later = (torch.randn(3000, 20, generator=random) @ mixed
                   + torch.randn(3000, k, generator=random)
                   for mixed in [torch.randn(20, k, generator=random)] * 2)
    alone = _form(seen)
    alone._moments.passed.zero_()
    error = _outputs_error(rows, later, _form(seen))
    assert error < 0.7 * _outputs_error(rows, later, alone)
    assert error < 0.4 * _outputs_error(rows, later, Int4Form())


def _int8_error(rows, x, form):
    """Of the outputs by the operator's own weights."""
    weight, scale = form.pack(rows)
    lanes = weight.view(*form.tensors(*rows.shape)["weight"][1]).float() - 128
    read = (lanes * scale[:, None, :, None]).permute(0, 2, 1, 3).flatten(2).flatten(0, 1)
    return float(((read[:len(rows), :rows.size(1)] - rows) @ x.t()).square().mean())


@pytest.mark.parametrize("k", [512, 200])
def test_int8_makes_up_for_errors_that_meet_what_inputs_have_in_common(k):
    from export.packing import Int8Form
    random = torch.Generator().manual_seed(4)
    rows, common = torch.randn(100, k, generator=random), torch.randn(k, generator=random)
    seen, later = (common + torch.randn(3000, k, generator=random) for _ in range(2))
    error = _int8_error(rows, later, _form(seen, "int8"))
    assert error < 0.75 * _int8_error(rows, later, Int8Form())


def test_inputs_that_were_never_seen_leave_the_codes_whole():
    rows = torch.randn(64, 256, generator=torch.Generator().manual_seed(3))
    x = torch.zeros(10, 256)
    x[:, 3] = 1
    rounded = _form(x).rounded(rows)
    assert rounded.isfinite().all()
    assert (rounded[:, 3] - rows[:, 3]).abs().max() < 0.02
    assert (rounded - rows).abs().max() < 1


def test_the_first_linears_have_8_bits_for_what_the_head_saves(make, export):
    checkpoint = make("--dtype", "bf16", "--distribution", "normal")
    bundle = export(checkpoint, weights="int4")
    names = manifest(bundle)["int8_linears"]
    assert names[:3] == ["decoder.lm_head", "decoder.groups.0.cross.q", "decoder.groups.0.cross.o"]
    found = tensors(bundle)
    assert all(found[f"{name}.scale"].dtype == torch.float32 for name in names)
    others = {name.removesuffix(".scale") for name, value in found.items()
              if name.startswith("decoder.") and value.dtype == torch.bfloat16
              and name.endswith(".scale")}
    assert others and not others & set(names)
    values = {name: linear(bundle, name).numel() for name in names}
    assert sum(values.values()) - values["decoder.lm_head"] <= 2 * values["decoder.lm_head"]
    assert manifest(export(checkpoint, name="int8", weights="int8"))["int8_linears"] == names[:1]
    assert manifest(export(checkpoint, name="bf16"))["int8_linears"] == []


def test_a_calibrated_bundle_differs_only_in_int4_vision_and_what_feeds_int4(make, export):
    checkpoint = make("--dtype", "bf16", "--distribution", "normal")
    plain = tensors(export(checkpoint, name="plain", weights="int4", calibrate="none"))
    calibrated = tensors(export(checkpoint, name="calibrated", weights="int4"))
    assert {name: (value.dtype, value.shape) for name, value in plain.items()
            } == {name: (value.dtype, value.shape) for name, value in calibrated.items()}
    for name in ("decoder.groups.1.layers.1.down.weight", "vision.layers.0.qkv.weight"):
        assert not torch.equal(plain[name], calibrated[name])
    for same in ("decoder.embed", "decoder.lm_head.weight", "vision.patch_embedding.weight",
                 "vision.layers.0.qkv.scale"):
        assert torch.equal(plain[same], calibrated[same])


@pytest.mark.parametrize("flags", [{"weights": "int8"}, {"weights": "bf16", "vision": "int8"}])
def test_8_bit_linears_are_calibrated_where_they_look_at_pictures(make, export, flags):
    checkpoint = make("--dtype", "bf16", "--distribution", "normal")
    plain = tensors(export(checkpoint, name="plain", calibrate="none", **flags))
    calibrated = tensors(export(checkpoint, name="calibrated", **flags))
    changed = {name for name, value in plain.items() if not torch.equal(value, calibrated[name])}
    assert changed == {name for name, value in plain.items()
                       if name.startswith("vision.") and value.dtype == torch.uint8}


@pytest.mark.parametrize("flags, words", [
    (("--weights", "bf16", "--calibrate", "synthetic"), "--calibrate is for int4"),
    (("--weights", "int8", "--vision", "f32", "--calibrate", "synthetic"), "seen in int8"),
    (("--weights", "int8", "--calibrate", "nowhere"), "nowhere is neither a folder nor"),
    (("--weights", "int4", "--calibrate", "nowhere"), "nowhere is neither a folder nor"),
])
def test_what_cannot_be_calibrated_is_refused(tiny, tmp_path, command, flags, words):
    done = command(tiny, tmp_path / "bundle", *flags)
    assert done.returncode == 1 and words in done.stderr and done.stderr.count("\n") == 1


def test_a_folder_without_pictures_is_refused(tiny, tmp_path, command):
    (tmp_path / "empty").mkdir()
    done = command(tiny, tmp_path / "bundle", "--weights", "int4", "--calibrate",
                   str(tmp_path / "empty"))
    assert done.returncode == 1 and "holds no picture" in done.stderr


def test_the_width_for_this_machine_is_printed(tiny, tmp_path, command, monkeypatch):
    from export import recommended
    assert "this machine" in command(tiny, tmp_path / "bundle").stderr
    monkeypatch.setattr(recommended, "_GPUS", tmp_path / "none")
    _, plan, _, _ = _parts(tiny)
    sizes = {"SC_PAGE_SIZE": 1}
    seen = []
    for memory in (10**9, 150_000, 90_000, 10):
        monkeypatch.setattr(recommended.os, "sysconf",
                            lambda name, memory=memory: sizes.get(name, memory))
        seen.append(recommended.recommended_width(plan, torch.float32))
    assert "--weights int8" in seen[0] and "too small" in seen[-1]
    assert all("int8" in a or "int8" not in b for a, b in itertools.pairwise(seen))


def _filtered(kind, line, above):
    """PNG's filter of one line of RGB bytes."""
    out = bytearray([kind])
    for i, value in enumerate(line):
        a, b, c = (line[i - 3], above[i], above[i - 3]) if i >= 3 else (0, above[i], 0)
        p = a + b - c
        paeth = a if abs(p - a) <= abs(p - b) and abs(p - a) <= abs(p - c) else (
            b if abs(p - b) <= abs(p - c) else c)
        out.append((value - (0, a, b, (a + b) // 2, paeth)[kind]) % 256)
    return bytes(out)


def test_png_files_with_every_filter_are_read():
    from export.samples import _read_png
    pixels = torch.randint(0, 256, (10, 7, 3), generator=torch.Generator().manual_seed(3),
                           dtype=torch.uint8)
    lines = [bytes(line.flatten().tolist()) for line in pixels]
    above = [bytes(21), *lines]
    raw = b"".join(_filtered(y % 5, line, above[y]) for y, line in enumerate(lines))

    def chunk(name, data):
        return len(data).to_bytes(4, "big") + name + data + bytes(4)
    size = (7).to_bytes(4, "big") + (10).to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    packed = zlib.compress(raw)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", packed[:20]) + chunk(
        b"IDAT", packed[20:]) + chunk(b"IEND", b"")
    assert torch.equal((_read_png(data) * 255).round().to(torch.uint8), pixels.permute(2, 0, 1))
