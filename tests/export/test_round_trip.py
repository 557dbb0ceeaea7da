# SPDX-License-Identifier: Apache-2.0
"""Every kind of checkpoint folder becomes the same bundle: formats, shards, types, vocabularies,
defaults."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bundle_reader import check_files, linear, manifest, tensors
from conftest import LIBRARY, edit_json, environment, export_command

LLAMA = Path(os.environ.get("IDEFICS_LLAMA_TOKENIZER")
             or Path(__file__).resolve().parents[3] / "shared/data/llama/tokenizer.model")
TORCH = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


def _same(left, right):
    a, b = tensors(left), tensors(right)
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype and torch.equal(a[name], b[name]), name


def _source(folder):
    from safetensors.torch import load_file
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize(
    "flags", [["--shards", "3"], ["--format", "bin"], ["--format", "bin", "--shards", "2"]],
    ids=["sharded safetensors", "one .bin", "sharded .bin"])
def test_every_weight_format_gives_the_bundle_of_a_single_safetensors_file(make, export, flags):
    one = export(make("--seed", "5", name="one"), name="one-bundle")
    other = export(make("--seed", "5", *flags, name="other"), name="other-bundle")
    _same(one, other)
    check_files(other)


@pytest.mark.parametrize("target", ["f32", "bf16", "f16"])
@pytest.mark.parametrize("stored", ["f32", "bf16", "f16"])
def test_every_stored_type_is_cast_to_every_type(make, export, stored, target):
    checkpoint = make("--dtype", stored)
    bundle = export(checkpoint, dtype=target)
    found, source = tensors(bundle), _source(checkpoint)
    assert {value.dtype for value in found.values()} == {TORCH[target]}
    expected = source["model.layers.0.mlp.down_proj.weight"].to(TORCH[target])
    assert torch.equal(linear(bundle, "decoder.groups.0.layers.0.down"), expected)
    assert torch.equal(
        linear(bundle, "vision.layers.0.fc1"),
        source["model.vision_model.encoder.layers.0.mlp.fc1.weight"].to(TORCH[target]))
    gate = source["model.gated_cross_attn_layers.1.alpha_dense"].to(TORCH[target]).tanh()
    assert torch.equal(found["decoder.groups.1.cross.mlp_gate"], gate)
    assert manifest(bundle)["dtype"] == target
    assert manifest(bundle)["source"]["dtype"] == stored


@pytest.mark.parametrize("stored, chosen", [("f32", "f32"), ("bf16", "bf16"), ("f16", "bf16")])
def test_without_a_type_the_checkpoints_own_is_taken_but_bf16_for_f16(make, export, stored, chosen):
    assert manifest(export(make("--dtype", stored)))["dtype"] == chosen


def test_fused_tensors_hold_their_parts_one_behind_the_other(tiny, export):
    bundle, source = export(tiny), _source(tiny)
    found = tensors(bundle)
    attention = "model.layers.3.self_attn"  # interval 2: layer 3 is the second of group 1
    parts = [source[f"{attention}.{part}_proj.weight"] for part in "qkv"]
    assert torch.equal(linear(bundle, "decoder.groups.1.layers.1.qkv"), torch.cat(parts))
    vision = "model.vision_model.encoder.layers.1.self_attn"
    assert torch.equal(found["vision.layers.1.qkv_bias"],
                       torch.cat([source[f"{vision}.{part}_proj.bias"] for part in "qkv"]))
    cross = "model.gated_cross_attn_layers.1"
    assert torch.equal(
        linear(bundle, "vision.cross.1.kv"),
        torch.cat([source[f"{cross}.cross_attn.{part}_proj.weight"] for part in "kv"]))
    assert torch.equal(
        linear(bundle, "decoder.groups.1.cross.gate_up"),
        torch.cat([source[f"{cross}.mlp.{part}_proj.weight"] for part in ("gate", "up")]))
    embed = "model.embed_tokens"
    assert torch.equal(
        found["decoder.embed"],
        torch.cat([source[f"{embed}.weight"], source[f"{embed}.additional_embedding.weight"]]))
    assert torch.equal(
        linear(bundle, "decoder.lm_head"),
        torch.cat([source["lm_head.weight"], source["lm_head.additional_fc.weight"]]))


def test_a_vector_alpha_is_stored_flat_after_tanh(make, export):
    checkpoint = make("--alpha", "vector")
    source = _source(checkpoint)["model.gated_cross_attn_layers.0.alpha_cross_attn"]
    assert source.shape == (1, 1, 64)
    assert torch.equal(
        tensors(export(checkpoint))["decoder.groups.0.cross.attn_gate"],
        source.tanh().view(64))


def test_tied_embeddings_fill_both_tables(make, export):
    bundle = export(make("--tied"))
    assert torch.equal(tensors(bundle)["decoder.embed"], linear(bundle, "decoder.lm_head"))


@pytest.mark.parametrize("vocabulary, end", [("base", -1), ("instruct", 322)])
def test_the_manifest_names_the_special_tokens(make, export, vocabulary, end):
    bundle = manifest(export(make("--vocabulary", vocabulary)))
    tokens = bundle["tokenizer"]
    assert (tokens["fake_image"], tokens["image"], tokens["end_of_utterance"]) == (320, 321, end)
    assert (tokens["unk"], tokens["bos"], tokens["eos"], tokens["pad"]) == (0, 1, 2, 0)
    assert len(tokens["special_tokens"]) == (5 if end < 0 else 6)
    assert bundle["model"]["additional_vocab_size"] == (2 if end < 0 else 3)


def test_special_tokens_are_found_without_ids_in_any_file(damaged, export):
    (damaged / "tokenizer.json").unlink()
    edit_json(damaged / "tokenizer_config.json", added_tokens_decoder=None)
    assert manifest(export(damaged))["tokenizer"]["end_of_utterance"] == 322


def test_missing_config_keys_have_the_class_defaults_of_transformers(tmp_path):
    transformers = pytest.importorskip("transformers",
                                       reason="transformers, the oracle, is not installed")
    from export.config import read_config
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "idefics"}))
    ours, theirs = read_config(tmp_path).shape, transformers.IdeficsConfig()
    assert ours.vocab_size == theirs.vocab_size + theirs.additional_vocab_size
    assert (ours.hidden_size, ours.intermediate_size) == (theirs.hidden_size,
                                                          theirs.intermediate_size)
    assert (ours.num_layers, ours.num_heads) == (theirs.num_hidden_layers,
                                                 theirs.num_attention_heads)
    assert ours.cross_layer_interval == theirs.cross_layer_interval
    assert (ours.qk_layer_norms, ours.use_resampler) == (theirs.qk_layer_norms,
                                                         theirs.use_resampler)
    assert ours.rms_norm_eps == theirs.rms_norm_eps
    vision, perceiver = theirs.vision_config, theirs.perceiver_config
    assert (ours.vision.embed_dim, ours.vision.hidden_act) == (vision.embed_dim, vision.hidden_act)
    assert (ours.vision.num_layers, ours.vision.intermediate_size) == (vision.num_hidden_layers,
                                                                       vision.intermediate_size)
    assert ours.perceiver.qk_layer_norms == perceiver.qk_layer_norms_perceiver
    assert (ours.perceiver.depth, ours.perceiver.num_latents) == (perceiver.resampler_depth,
                                                                  perceiver.resampler_n_latents)


def test_generation_defaults_come_from_generation_config_or_else_from_config(damaged, export):
    edit_json(damaged / "generation_config.json",
              max_new_tokens=96,
              eos_token_id=[2, 322],
              temperature=0.5,
              bad_words_ids=[[320], [321]])
    expected = {
        "max_new_tokens": 96, "temperature": 0.5, "eos_token_id": [2, 322], "bad_words_ids": [[320],
                                                                                              [321]]
    }
    assert manifest(export(damaged, name="a"))["generation"] == expected
    (damaged / "generation_config.json").unlink()
    edit_json(damaged / "config.json", max_length=77)
    assert manifest(export(damaged,
                           name="b"))["generation"] == {"max_length": 77, "eos_token_id": [2]}


def test_weights_that_no_forward_pass_uses_are_left_out(make, export):
    from safetensors.torch import save_file
    checkpoint = make()
    source = _source(checkpoint)
    source["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(8)
    source["model.vision_model.embeddings.position_ids"] = torch.zeros(1, 5, dtype=torch.int64)
    save_file(source, checkpoint / "model.safetensors")
    names = tensors(export(checkpoint)).keys()
    assert not [
        name for name in names
        if "inv_freq" in name or "post_layernorm" in name or "position_ids" in name
    ]


def test_a_bundle_splits_into_files_of_limited_size_in_load_order(make, export, monkeypatch):
    from export import weight_files
    monkeypatch.setattr(weight_files, "MAX_FILE_BYTES", 300_000)
    bundle = export(make())
    files = sorted(path.name for path in bundle.glob("*.safetensors"))
    assert files[0] == f"weights-00001-of-{len(files):05d}.safetensors" and len(files) > 3
    check_files(bundle)
    first = json.loads((bundle / files[0]).read_bytes()[8:].split(b"}}")[0] + b"}}")
    assert "vision.patch_embedding.weight" in first and "decoder.norm" not in first


def test_large_tensors_start_on_a_64_byte_boundary(make, export):
    path = export(make("--dtype", "bf16")) / "weights-00001-of-00001.safetensors"
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    entries = json.loads(raw[8:8 + length])
    del entries["__metadata__"]
    for name, entry in entries.items():
        begin, end = entry["data_offsets"]
        if (end - begin) % 64 == 0:
            assert (8 + length + begin) % 64 == 0, name


def test_a_tokenizer_json_alone_gives_the_same_tokenizer_model(damaged, export):
    model = (damaged / "tokenizer.model").read_bytes()
    (damaged / "tokenizer.model").unlink()
    rebuilt = (export(damaged) / "tokenizer.model").read_bytes()
    from export.sentencepiece_proto import read_pieces
    assert [piece.text
            for piece in read_pieces(rebuilt)] == [piece.text for piece in read_pieces(model)]
    sentencepiece = pytest.importorskip("sentencepiece", reason="sentencepiece is not installed")
    ours, theirs = (sentencepiece.SentencePieceProcessor(model_proto=data)
                    for data in (rebuilt, model))
    for text in ("hello aabbccdd ab", "  two  spaces ", "caf\u00e9 \u732b\n", "a,b;c!"):
        assert ours.encode(text) == theirs.encode(text)


@pytest.mark.skipif(
    not LLAMA.is_file(),
    reason="no LLaMA vocabulary: set IDEFICS_LLAMA_TOKENIZER to its tokenizer.model")
def test_the_llama_vocabulary_survives_the_way_over_tokenizer_json(tmp_path):
    import make_checkpoint
    from export.sentencepiece_proto import read_pieces
    from export.tokenizer_files import _model_from_json
    pieces = read_pieces(LLAMA.read_bytes())
    table = make_checkpoint.tokenizer_json(pieces, [])
    assert len(table["model"]["merges"]) == 61249
    (tmp_path / "tokenizer.json").write_text(json.dumps(table))
    assert read_pieces(_model_from_json(tmp_path)) == pieces


def test_the_command_says_what_it_made(tiny, tmp_path, command):
    done = command(tiny, tmp_path / "bundle", "--dtype", "bf16", "--name", "my model")
    assert done.returncode == 0
    assert "my model, 111 tensors" in done.stderr and "f32 -> bf16" in done.stderr
    assert done.stdout == ""
    assert manifest(tmp_path / "bundle")["name"] == "my model"


def test_a_checkpoint_that_transformers_saved_is_exported(tmp_path, tiny, export):
    transformers = pytest.importorskip("transformers",
                                       reason="transformers, the oracle, is not installed")
    model = transformers.IdeficsForVisionText2Text.from_pretrained(tiny, dtype=torch.float32)
    saved = tmp_path / "saved"
    model.save_pretrained(saved, max_shard_size="300KB")
    transformers.AutoTokenizer.from_pretrained(tiny).save_pretrained(saved)
    assert (saved / "model.safetensors.index.json").exists()
    _same(export(saved, name="a"), export(tiny, name="b"))


def test_help_needs_no_torch():
    done = subprocess.run([*export_command(Path("a"), Path("b")), "--help"],
                          env=environment(),
                          text=True,
                          capture_output=True,
                          timeout=30)
    assert done.returncode == 0 and "bf16 for an f16 checkpoint" in " ".join(done.stdout.split())
    assert LIBRARY.is_file() and sys.executable
