# SPDX-License-Identifier: Apache-2.0
"""Write the model as a Hugging Face checkpoint folder that transformers loads unchanged."""
import json
import os
import shutil

import torch
from safetensors.torch import save_file

from .model import SmallIdefics

PATCH_FACTOR = 2           # export side / training side


def hf_config(model: SmallIdefics) -> dict:
    """config.json of the exported model."""
    d = model.dims
    return {
        "architectures": ["IdeficsForVisionText2Text"], "model_type": "idefics",
        "vocab_size": d.vocab, "additional_vocab_size": d.extra, "hidden_size": d.hidden,
        "intermediate_size": d.mlp, "num_hidden_layers": d.layers,
        "num_attention_heads": d.heads, "hidden_act": "silu", "rms_norm_eps": 1e-6,
        "dropout": 0.0, "initializer_range": 0.02, "cross_layer_interval": 1,
        "qk_layer_norms": True, "alpha_initializer": "zeros", "alpha_type": "float",
        "alphas_initializer_range": 0.0, "use_resampler": True, "use_cache": True,
        "max_position_embeddings": 2048, "tie_word_embeddings": False,
        "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
        "freeze_lm_head": False, "freeze_text_layers": False, "freeze_vision_layers": False,
        "freeze_text_module_exceptions": [], "freeze_vision_module_exceptions": [],
        "torch_dtype": "bfloat16",
        "vision_config": {
            "model_type": "idefics_vision", "embed_dim": d.vision,
            "image_size": d.image * PATCH_FACTOR, "patch_size": d.patch * PATCH_FACTOR,
            "num_hidden_layers": d.vision_layers, "num_attention_heads": d.vision_heads,
            "intermediate_size": d.vision_mlp, "num_channels": 3, "hidden_act": "gelu",
            "layer_norm_eps": 1e-5, "attention_dropout": 0.0},
        "perceiver_config": {
            "model_type": "idefics_perciever", "use_resampler": True,
            "resampler_n_latents": d.latents, "resampler_depth": 1,
            "resampler_n_heads": d.perceiver_heads, "resampler_head_dim": d.perceiver_head,
            "qk_layer_norms_perceiver": True}}


def hf_weights(model: SmallIdefics) -> dict:
    """The checkpoint's tensors; each patch weight is spread over 2 x 2 pixels, exactly."""
    weights = {}
    for name, value in model.state_dict().items():
        if name.startswith("heads."):
            continue
        if name.endswith("patch_embedding.weight"):
            value = value.repeat_interleave(PATCH_FACTOR, 2).repeat_interleave(PATCH_FACTOR, 3)
            value = value / PATCH_FACTOR ** 2
        weights[name] = value.detach().to(torch.bfloat16).contiguous().clone()
    return weights


def write_json(path: str, value) -> None:
    with open(path, "w") as file:
        json.dump(value, file, indent=2)
        file.write("\n")


def write(model: SmallIdefics, tokenizer: str, folder: str) -> None:
    """Write the whole checkpoint folder (an existing README.md in it is kept)."""
    os.makedirs(folder, exist_ok=True)
    for name in os.listdir(tokenizer):
        shutil.copyfile(os.path.join(tokenizer, name), os.path.join(folder, name))
    side = model.dims.image * PATCH_FACTOR
    end = model.dims.vocab + 2
    write_json(os.path.join(folder, "config.json"), hf_config(model))
    write_json(os.path.join(folder, "generation_config.json"), {
        "bos_token_id": 1, "eos_token_id": [2, end], "pad_token_id": 0,
        "bad_words_ids": [[end - 2], [end - 1]], "max_new_tokens": 96})
    write_json(os.path.join(folder, "preprocessor_config.json"), {
        "image_processor_type": "IdeficsImageProcessor", "processor_class": "IdeficsProcessor",
        "image_size": side, "image_num_channels": 3,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711]})
    save_file(hf_weights(model), os.path.join(folder, "model.safetensors.new"),
              metadata={"format": "pt"})
    os.replace(os.path.join(folder, "model.safetensors.new"),
               os.path.join(folder, "model.safetensors"))
