# SPDX-License-Identifier: Apache-2.0
"""What cannot be exported is refused with one sentence that names the thing, before anything is
written."""

import json
import struct

import pytest
import torch

from conftest import edit_json
from export.errors import ExportError
from export.sentencepiece_proto import bpe_model, read_pieces


@pytest.fixture
def refusal(export, tmp_path):
    """refusal(folder, **options) -> the sentence; nothing may be left behind."""
    def run(folder, **options):
        before = sorted(path.name for path in tmp_path.iterdir())
        with pytest.raises(ExportError) as caught:
            export(folder, **options)
        assert sorted(path.name for path in tmp_path.iterdir()) == before
        sentence = str(caught.value)
        assert "\n" not in sentence and 20 < len(sentence) < 400
        return sentence
    return run


def _rewrite(folder, change):
    from safetensors.torch import load_file, save_file
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


CONFIG = {
    "another architecture": (dict(model_type="llama",
                                  architectures=["LlamaForCausalLM"]), "'llama'"),
    "idefics2": (dict(model_type="idefics2",
                      architectures=["Idefics2ForConditionalGeneration"]), "'idefics2'"),
    "a part of the model": (dict(architectures=["IdeficsModel"]),
                            "IdeficsModel"), "no model type": (dict(model_type=None), "None"),
    "another activation": (dict(hidden_act="gelu"), "hidden_act is 'gelu', expected silu"),
    "layers that do not divide": (dict(cross_layer_interval=3),
                                  "num_hidden_layers 4 is not a multiple"),
    "heads that do not divide": (dict(num_attention_heads=3), "hidden_size 64 is not a multiple"),
    "an odd head": (dict(num_attention_heads=64), "a head has 1 values"),
    "a negative size": (dict(hidden_size=-1),
                        "hidden_size is -1"), "a size that is no number": (dict(hidden_size="64"),
                                                                           "hidden_size is '64'"),
    "a flag that is no flag": (dict(qk_layer_norms=1), "qk_layer_norms is 1"),
    "quantized weights": (dict(quantization_config={"quant_method": "gptq"}),
                          "quantization_config"),
    "other shapes": (dict(intermediate_size=128),
                     "has the shape [96, 64], config.json makes it [128, 64]"),
    "a token id out of range": (dict(pad_token_id=999), "pad_token_id is 999"),
    "a bos that is no control token": (dict(bos_token_id=300), "bos_token_id is 300"),
}


@pytest.mark.parametrize("changes, part", CONFIG.values(), ids=CONFIG.keys())
def test_a_config_that_is_not_a_runnable_idefics_is_refused(damaged, refusal, changes, part):
    edit_json(damaged / "config.json", **changes)
    assert part in refusal(damaged)


VISION = {
    "another activation": (dict(hidden_act="relu"),
                           "hidden_act is 'relu', expected gelu or quick_gelu"),
    "grey pictures": (dict(num_channels=1), "num_channels is 1"),
    "a patch over the picture": (dict(patch_size=56), "patch_size 56"),
    "another picture size": (dict(image_size=56),
                             "image_size 28, the model's vision_config takes 56"),
}


@pytest.mark.parametrize("changes, part", VISION.values(), ids=VISION.keys())
def test_a_vision_tower_that_cannot_be_computed_is_refused(damaged, refusal, changes, part):
    vision = json.loads((damaged / "config.json").read_text())["vision_config"]
    edit_json(damaged / "config.json", vision_config={**vision, **changes})
    assert part in refusal(damaged)


PROCESSOR = {
    "another size": (dict(image_size=224), "image_size 224"),
    "another filter": (dict(resample=2), "resample is 2"),
    "no rescaling": (dict(do_rescale=False), "do_rescale is False"),
    "another factor": (dict(rescale_factor=0.5), "rescale_factor is 0.5"),
    "two means": (dict(image_mean=[0.5, 0.5]), "image_mean is [0.5, 0.5]"),
    "a zero deviation": (dict(image_std=[0.0, 1.0, 1.0]), "image_std"),
}


@pytest.mark.parametrize("changes, part", PROCESSOR.values(), ids=PROCESSOR.keys())
def test_a_processor_that_the_server_does_not_have_is_refused(damaged, refusal, changes, part):
    edit_json(damaged / "preprocessor_config.json", **changes)
    assert part in refusal(damaged)


@pytest.mark.parametrize("changes, part",
                         [(dict(eos_token_id=[2, 5000]), "eos_token_id is [2, 5000]"),
                          (dict(bad_words_ids=[[]]), "bad_words_ids is []"),
                          (dict(max_new_tokens="many"), "max_new_tokens is 'many'"),
                          (dict(do_sample=1), "do_sample is 1")])
def test_generation_defaults_that_make_no_sense_are_refused(damaged, refusal, changes, part):
    edit_json(damaged / "generation_config.json", **changes)
    assert part in refusal(damaged)


def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path, refusal):
    assert "is not a folder" in refusal(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    assert "has no config.json" in refusal(tmp_path / "empty")


@pytest.mark.parametrize("text, part", [("{", "is not JSON"), ("[1]", "not an object"),
                                        ("[" * 100000, "is not JSON")])
def test_a_config_that_is_no_json_object_is_refused(damaged, refusal, text, part):
    (damaged / "config.json").write_text(text)
    assert part in refusal(damaged)


def test_a_missing_tensor_is_named(damaged, refusal):
    _rewrite(damaged, lambda tensors: tensors.pop("model.layers.2.self_attn.o_proj.weight"))
    assert "lacks the tensor model.layers.2.self_attn.o_proj.weight" in refusal(damaged)


def test_an_unknown_tensor_is_named(damaged, refusal):
    _rewrite(damaged, lambda tensors: tensors.update({"model.layers.9.bias": torch.ones(3)}))
    assert "has the tensor model.layers.9.bias" in refusal(damaged)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_values_that_are_not_finite_are_refused_by_name(damaged, refusal, value):
    def spoil(tensors):
        tensors["model.layers.1.mlp.up_proj.weight"][3, 7] = value
    _rewrite(damaged, spoil)
    assert "model.layers.1.mlp.up_proj.weight holds values that are not finite" in refusal(damaged)


def test_a_value_that_f16_cannot_hold_is_refused_for_f16_alone(damaged, refusal, export):
    def spoil(tensors):
        tensors["lm_head.weight"][0, 0] = 70000.0
    _rewrite(damaged, spoil)
    assert "lm_head.weight holds 70000, more than f16 can hold: use --dtype bf16" in refusal(
        damaged, dtype="f16")
    assert export(damaged, dtype="bf16").is_dir()


def test_a_weight_type_that_is_not_floating_is_refused(damaged, refusal):
    def spoil(tensors):
        tensors["lm_head.weight"] = tensors["lm_head.weight"].to(torch.int8)
    _rewrite(damaged, spoil)
    assert "lm_head.weight is stored as I8" in refusal(damaged)


@pytest.mark.parametrize("cut", [1, 5000, 1_000_000])
def test_a_truncated_safetensors_file_is_refused(damaged, refusal, cut):
    path = damaged / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-cut])
    assert "model.safetensors is not a whole safetensors file" in refusal(damaged)


HEADERS = {
    "an empty file": b"",
    "a length over the file": struct.pack("<Q", 10**6) + b"{}",
    "a length over all limits": struct.pack("<Q", 2**63) + b"{}",
    "no JSON": struct.pack("<Q", 4) + b"\xff\xfe{}",
    "a list": struct.pack("<Q", 2) + b"[]",
    "a tensor without a shape": struct.pack("<Q", 10) + b'{"a":{} }',
    "deep JSON": struct.pack("<Q", 90000) + b"[" * 90000,
}


@pytest.mark.parametrize("data", HEADERS.values(), ids=HEADERS.keys())
def test_a_hostile_safetensors_header_is_refused(damaged, refusal, data):
    (damaged / "model.safetensors").write_bytes(data)
    assert "model.safetensors" in refusal(damaged)


def test_missing_weights_and_shards_are_refused(damaged, make, refusal):
    (damaged / "model.safetensors").unlink()
    assert "has no weights" in refusal(damaged)
    sharded = make("--shards", "3", name="sharded")
    (sharded / "model-00002-of-00003.safetensors").unlink()
    assert "model-00002-of-00003.safetensors is missing" in refusal(sharded)


def test_an_index_that_leads_out_of_the_folder_is_refused(make, refusal):
    sharded = make("--shards", "2", name="sharded")
    edit_json(sharded / "model.safetensors.index.json",
              weight_map={"lm_head.weight": "../model.safetensors"})
    assert "expected a file of the same folder" in refusal(sharded)


def test_an_index_that_promises_what_a_shard_lacks_is_refused(make, refusal):
    sharded = make("--shards", "2", name="sharded")
    index = json.loads((sharded / "model.safetensors.index.json").read_text())["weight_map"]
    index["model.norm.weight"] = index["model.vision_model.pre_layrnorm.weight"]
    edit_json(sharded / "model.safetensors.index.json", weight_map=index)
    assert "lacks the tensor model.norm.weight" in refusal(sharded)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 not a zip", b"\x80\x02}q\x00."])
def test_a_bin_file_that_is_no_weights_is_refused(make, refusal, data):
    checkpoint = make("--format", "bin", name="bin")
    (checkpoint / "pytorch_model.bin").write_bytes(data)
    assert "pytorch_model.bin" in refusal(checkpoint)


def test_a_bin_file_that_would_run_code_is_refused(make, refusal):
    import os

    class Attack:
        def __reduce__(self):
            return os.mkdir, ("/tmp/export-test-attack",)
    checkpoint = make("--format", "bin", name="bin")
    torch.save({"lm_head.weight": Attack()}, checkpoint / "pytorch_model.bin")
    assert "cannot be read as weights" in refusal(checkpoint)
    assert not os.path.exists("/tmp/export-test-attack")


def test_a_bin_file_with_something_else_in_it_is_refused(make, refusal):
    checkpoint = make("--format", "bin", name="bin")
    torch.save({"state_dict": {"a": torch.ones(1)}}, checkpoint / "pytorch_model.bin")
    assert "does not hold a plain table of tensors" in refusal(checkpoint)


def test_a_broken_tokenizer_is_refused(damaged, refusal):
    path = damaged / "tokenizer.model"
    model = path.read_bytes()
    for data in (b"", b"version https://git-lfs", model[:-3], b"\x00" * 64):
        path.write_bytes(data)
        assert "tokenizer.model is not a sentencepiece model" in refusal(damaged)
    path.write_bytes(bpe_model(read_pieces(model) + read_pieces(model)[-1:]))
    assert "has 321 pieces, config.json's vocab_size is 320" in refusal(damaged)
    path.unlink()
    edit_json(damaged / "tokenizer.json", model={"type": "WordPiece"})
    assert "is not a LLaMA byte-fallback BPE" in refusal(damaged)
    (damaged / "tokenizer.json").unlink()
    assert "has no tokenizer.model and no tokenizer.json" in refusal(damaged)


def _tokens(folder, edit):
    path = folder / "tokenizer.json"
    values = json.loads(path.read_text())
    edit(values["added_tokens"])
    path.write_text(json.dumps(values))


def test_special_tokens_that_do_not_fit_the_model_are_refused(damaged, refusal):
    _tokens(damaged, lambda tokens: tokens[-1].update(id=400))
    (damaged / "tokenizer_config.json").unlink()
    assert "<end_of_utterance> the id 400, the model has 323 tokens" in refusal(damaged)
    _tokens(damaged, lambda tokens: tokens[-1].update(id=300))
    assert "<end_of_utterance> the id 300, which is the piece" in refusal(damaged)
    _tokens(damaged, lambda tokens: tokens.pop())
    assert "3 additional tokens, the tokenizer names none with the id 322" in refusal(damaged)
    _tokens(damaged, lambda tokens: tokens[-1].update(content="<picture>"))
    assert "has no token <image>" in refusal(damaged)


def test_tokenizer_files_that_contradict_each_other_are_refused(damaged, refusal):
    _tokens(damaged, lambda tokens: tokens[-1].update(id=321))
    assert "give the token <end_of_utterance> the ids 321 and 322" in refusal(damaged)


def test_an_existing_target_is_kept_unless_force_is_given(tiny, export, refusal, tmp_path):
    bundle = export(tiny, name="there")
    marker = bundle / "marker"
    marker.touch()
    assert "exists already: give another name, or --force" in refusal(tiny, name="there")
    assert marker.exists()
    export(tiny, name="there", force=True)
    assert not marker.exists() and (bundle / "bundle.json").exists()


def test_force_replaces_nothing_but_a_bundle(tiny, refusal, tmp_path):
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents/letter.txt").touch()
    assert "is not a bundle" in refusal(tiny, name="documents", force=True)
    assert (tmp_path / "documents/letter.txt").exists()


def test_missing_operators_are_named(tiny, tmp_path, monkeypatch):
    from export.scripted import load_operators
    monkeypatch.setenv("IDEFICS_OPS_LIBRARY", str(tmp_path / "none.so"))
    with pytest.raises(ExportError, match=r"none\.so"):
        load_operators()


def test_a_failure_is_one_line_and_exit_code_1(damaged, tmp_path, command):
    edit_json(damaged / "config.json", model_type="llama")
    done = command(damaged, tmp_path / "bundle")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("export: config.json describes a model of type 'llama'")
    assert done.stderr.count("\n") == 1 and "Traceback" not in done.stderr


def test_a_failure_that_nobody_foresaw_is_one_line_too(damaged, tmp_path, command):
    (damaged / "config.json").unlink()
    (damaged / "config.json").mkdir()
    done = command(damaged, tmp_path / "bundle")
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
