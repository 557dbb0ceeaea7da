# SPDX-License-Identifier: Apache-2.0
"""The stored forms of a linear: what is read back, how near it is, and that the operators read the
same."""

import os
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bundle_reader import check_files, linear, manifest, tensors

QUANTIZED = ("int8", "int4")
ROOT = Path(__file__).resolve().parents[2]
# As (n, k): whole tiles and groups, parts of them, single values.
SIZES = [(64, 128), (192, 256), (100, 130), (65, 7), (1, 1), (3, 264)]


def _form(width):
    from export.packing import linear_form
    dtype = {"bf16": torch.bfloat16, "f16": torch.float16}.get(width, torch.float32)
    return linear_form(dtype, width if width in QUANTIZED else "none")


def _layouts_of_the_server():
    """{(form, n, k): {"weight" or "scale": (dtype, shape)}} of SIZES, as weights/linear_layout.h
    has them."""
    folders = [Path(os.environ["IDEFICS_BUILD_DIR"])
               ] if "IDEFICS_BUILD_DIR" in os.environ else ROOT.glob("build/*")
    tools = [
        path for folder in folders for path in folder.glob("tests/weights/print_linear_layouts")
    ]
    if not tools:
        pytest.skip("print_linear_layouts is not built: build the tests, or set IDEFICS_BUILD_DIR")
    tool = max(tools, key=lambda path: path.stat().st_mtime)
    sizes = [str(number) for size in SIZES for number in size]
    printed = subprocess.run([tool, *sizes], capture_output=True, text=True, check=True,
                             timeout=60).stdout
    dtypes = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16, "u8": torch.uint8}
    layouts = {}
    for line in printed.splitlines():
        form, n, k, name, dtype, *shape = line.split()
        if form != "fp8":  # in no bundle
            layout = layouts.setdefault((form, int(n), int(k)), {})
            layout[name] = (dtypes[dtype], tuple(int(size) for size in shape))
    return layouts


def _pack(rows, width):
    """(weight, scale or None) in their shapes."""
    form = _form(width)
    data, scale = form.pack(rows.to(form.read_as))
    shapes = form.tensors(*rows.shape)
    dtype, shape = shapes["weight"]
    if scale is not None:
        assert (scale.dtype, tuple(scale.shape)) == shapes["scale"]
    return data.view(dtype).view(shape), scale


def _operator(width):
    from export.scripted import load_operators
    load_operators()
    return getattr(torch.ops.idefics, f"linear_{width}" if width in QUANTIZED else "linear_packed")


def _read_back(rows, width):
    """W as the operator sees it: the products with the unit vectors."""
    n, k = rows.shape
    weight, scale = _pack(rows, width)
    unit = torch.eye(k, dtype=rows.dtype if width in QUANTIZED else _form(width).read_as)
    scales = [] if scale is None else [scale]
    return _operator(width)(unit, weight, *scales, n).t().to(torch.float32)


def _error(rows, width):
    return float((_read_back(rows, width) - rows).norm() / rows.norm())


def _normal(n, k):
    return torch.randn(n, k, generator=torch.Generator().manual_seed(n * 1000 + k))


def test_the_exporter_and_the_server_agree_about_every_stored_tensor():
    layouts = _layouts_of_the_server()
    assert len(layouts) == len(SIZES) * 5
    for (form, n, k), layout in layouts.items():
        assert _form(form).tensors(n, k) == layout, (form, n, k)


@pytest.mark.parametrize("n, k", SIZES)
@pytest.mark.parametrize("width", ["f32", "bf16", "f16"])
def test_a_packed_weight_is_read_back_exactly(n, k, width):
    rows = _normal(n, k)
    assert torch.equal(_read_back(rows, width), rows.to(_form(width).read_as).float())


@pytest.mark.parametrize("n, k", SIZES)
def test_int8_is_off_by_half_a_step_at_most(n, k):
    rows = _normal(n, k)
    step = rows.abs().amax(1, keepdim=True) / 127
    # The operator may quantize activations too; those of a unit vector are exact.
    assert ((_read_back(rows, "int8") - rows).abs() <= step * 0.501).all()


def test_int4_beats_the_plain_range_of_every_group():
    rows = _normal(64, 512)
    groups = rows.view(64, 4, 128)
    low, high = groups.amin(-1, keepdim=True), groups.amax(-1, keepdim=True)
    step = (high - low) / 15
    plain = (((groups - low) / step).round() * step + low).view_as(rows)
    mine = _read_back(rows, "int4")
    assert (mine - rows).square().sum() < 0.92 * (plain - rows).square().sum()
    assert _error(rows, "int4") < 0.096


@pytest.mark.parametrize("width", QUANTIZED)
def test_columns_and_groups_of_equal_values_are_kept(width):
    rows = torch.zeros(70, 300)
    rows[3] = 0.5
    rows[4] = 1e-38
    rows[5, :128] = -2.0
    assert torch.allclose(_read_back(rows, width), rows, atol=1e-6, rtol=1 / 254)


def test_what_is_missing_to_whole_tiles_contributes_nothing():
    weight, scale = _pack(_normal(65, 6), "int8")
    assert (weight[:, 1, :, 2:] == 128).all() and (weight[1, :, 1:] == 128).all() and (scale[1, 1:]
                                                                                       == 0).all()
    weight, scale = _pack(_normal(65, 6), "int4")
    assert (weight[:, 0, :, 2:] < 16).all() and (weight[1, :, 1:]
                                                 == 0).all() and (scale[1, :, :, 1:] == 0).all()
    weight, _ = _pack(_normal(65, 7), "bf16")
    assert (weight[:, 3, :, 1] == 0).all() and (weight[1, :, 1:] == 0).all()


@pytest.mark.parametrize("width", ["bf16", "int8", "int4"])
def test_an_exported_linear_is_the_checkpoints_in_that_width(make, export, width):
    checkpoint = make("--dtype", "bf16", "--distribution", "normal")
    bundle = export(checkpoint, weights=width)
    source = load_file(checkpoint / "model.safetensors")
    check_files(bundle)
    parts = torch.cat([source[f"model.layers.3.mlp.{part}_proj.weight"]
                       for part in ("gate", "up")]).float()
    found = linear(bundle, "decoder.groups.1.layers.1.gate_up").float()
    assert (found - parts).norm() / parts.norm() < {"bf16": 1e-9, "int8": 0.008,
                                                    "int4": 0.096}[width]
    # In 8 bits beside any quantized width: the head. Not quantized: the embedding, the patches of
    # pictures.
    kept = torch.cat([source["lm_head.weight"], source["lm_head.additional_fc.weight"]])
    head = linear(bundle, "decoder.lm_head").float()
    assert (head - kept).norm() / kept.norm() < (0.008 if width in QUANTIZED else 1e-9)
    quantized = {name for name, value in tensors(bundle).items() if value.dtype == torch.uint8}
    assert ("decoder.lm_head.weight" in quantized) == (width in QUANTIZED)
    quantized.discard("decoder.lm_head.weight")
    vision = {name for name in quantized if name.startswith("vision.")}
    assert len(quantized - vision) == (0 if width == "bf16" else 2 * 4 + 4 * 4)
    assert all(name.startswith("decoder.groups.") for name in quantized - vision)
    model = manifest(bundle)["model"]
    of_vision = 4 * model["vision"]["num_layers"] + 5 * model["perceiver"]["depth"] + 2
    assert len(vision) == (0 if width == "bf16" else of_vision)
    assert manifest(bundle)["vision_quantization"] == ("none" if width == "bf16" else "int8")
    assert manifest(bundle)["quantization"] == (width if width in QUANTIZED else "none")
    assert manifest(bundle)["dtype"] == "bf16" and manifest(bundle)["format_version"] == 6


@pytest.mark.parametrize("width", ["f32", "bf16", "int8", "int4"])
def test_blocks_of_any_size_give_the_same_bundle(tiny, export, monkeypatch, width):
    from export import checkpoint, weight_writer
    whole = tensors(export(tiny, name="whole", weights=width))
    monkeypatch.setattr(weight_writer, "BLOCK_ELEMENTS", 1)  # a tile
    monkeypatch.setattr(checkpoint, "CHUNK_BYTES", 1000)  # no whole number of rows
    pieces = tensors(export(tiny, name="pieces", weights=width))
    assert whole.keys() == pieces.keys()
    for name, value in whole.items():
        assert torch.equal(value, pieces[name]), name


def test_the_type_beside_quantized_weights_can_be_chosen(tiny, export):
    bundle = export(tiny, weights="int8", dtype="bf16")
    assert manifest(bundle)["dtype"] == "bf16"
    assert tensors(bundle)["decoder.embed"].dtype == torch.bfloat16
    assert tensors(bundle)["decoder.groups.0.layers.0.o.scale"].dtype == torch.float32


@pytest.mark.parametrize("weights, vision, stored",
                         [("int8", "bf16", "none"), ("int4", None, "int8"),
                          ("bf16", "int8", "int8"), ("bf16", None, "none")])
def test_the_weights_that_look_at_pictures_have_a_form_of_their_own(make, export, weights, vision,
                                                                    stored):
    checkpoint = make("--dtype", "bf16", "--distribution", "normal")
    bundle = export(checkpoint, weights=weights, vision=vision, calibrate="none")
    assert manifest(bundle)["vision_quantization"] == stored
    source = load_file(checkpoint / "model.safetensors")
    truth = source["model.vision_model.encoder.layers.1.mlp.fc2.weight"].float()
    error = (linear(bundle, "vision.layers.1.fc2").float() - truth).norm() / truth.norm()
    assert error < (0.008 if stored == "int8" else 1e-9)


def test_another_type_for_vision_is_refused(tiny, tmp_path, command):
    done = command(tiny, tmp_path / "bundle", "--weights", "int8", "--dtype", "bf16", "--vision",
                   "f32")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "--vision f32 and the bundle's bf16 differ" in done.stderr
    assert not (tmp_path / "bundle").exists()


def test_two_types_without_quantization_are_refused(tiny, tmp_path, command):
    done = command(tiny, tmp_path / "bundle", "--weights", "bf16", "--dtype", "f16")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "--weights bf16 and --dtype f16 differ" in done.stderr
    assert not (tmp_path / "bundle").exists()
