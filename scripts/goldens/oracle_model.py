# SPDX-License-Identifier: Apache-2.0
"""transformers 4.57 as the oracle: prompts to ids, logits of every position, generations with their
near ties."""

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import torch
import transformers
from parity_cases import Prompt, picture
from PIL import Image

transformers.logging.set_verbosity_error()


def load_model(checkpoint: Path, dtype: torch.dtype = torch.float32):
    return transformers.IdeficsForVisionText2Text.from_pretrained(checkpoint, dtype=dtype).eval()


def one_table(checkpoint: Path, folder: Path) -> Path:
    """The checkpoint with base and additional rows in one table: beam search in transformers 4.57
    raises otherwise."""
    shutil.copytree(checkpoint, folder)
    config = json.loads((folder / "config.json").read_text())
    config["vocab_size"] += config["additional_vocab_size"]
    config["additional_vocab_size"] = 0
    (folder / "config.json").write_text(json.dumps(config))
    from safetensors.torch import load_file, save_file
    files = sorted(folder.glob("*.safetensors"))
    tensors = {name: tensor for file in files for name, tensor in load_file(file).items()}
    for table, extra in (("model.embed_tokens.weight",
                          "model.embed_tokens.additional_embedding.weight"),
                         ("lm_head.weight", "lm_head.additional_fc.weight")):
        if extra in tensors:
            tensors[table] = torch.cat([tensors[table], tensors.pop(extra)])
    for file in [*files, *folder.glob("*.index.json")]:
        file.unlink()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


class Oracle:
    """One checkpoint. Every prompt runs alone (batch 1), so there is no padding."""

    def __init__(self, checkpoint: Path, work: Path, beams: bool = True):
        self.checkpoint = checkpoint
        self.processor = transformers.IdeficsProcessor.from_pretrained(checkpoint)
        self.model = load_model(checkpoint)
        self.vocab = self.model.config.vocab_size + self.model.config.additional_vocab_size
        self.beam_model = load_model(one_table(checkpoint, work / "one_table")) if beams else None
        self._wide: dict[int, Any] = {}

    def wide(self, model):
        """The same model in f64."""
        if id(model) not in self._wide:
            self._wide[id(model)] = copy.deepcopy(model).double()
        return self._wide[id(model)]

    def inputs(self, prompt: Prompt) -> dict[str, torch.Tensor]:
        items = [
            part if isinstance(part, str) else Image.fromarray(picture(part[1]))
            for part in prompt.parts
        ]
        return dict(
            self.processor(text=[items],
                           add_end_of_utterance_token=prompt.add_end_of_utterance,
                           return_tensors="pt"))

    def image_index(self, inputs) -> list[int]:
        mask = inputs["image_attention_mask"][0].long()
        return [int(row.argmax()) if row.any() else -1 for row in mask]

    @torch.no_grad()
    def logits(self, inputs, model=None) -> torch.Tensor:
        """[T, vocab] f32."""
        model = model or self.model
        inputs = {**inputs, "pixel_values": inputs["pixel_values"].to(model.dtype)}
        return model(**inputs).logits[0].float()

    def decode(self, ids: list[int]) -> str:
        return self.processor.batch_decode([ids], skip_special_tokens=True)[0]

    @torch.no_grad()
    def generate(self, inputs, sampling: dict[str, Any], model=None, scores: bool = True):
        model = model or self.model
        inputs = {**inputs, "pixel_values": inputs["pixel_values"].to(model.dtype)}
        return model.generate(**inputs,
                              **sampling,
                              do_sample=False,
                              pad_token_id=0,
                              output_scores=scores,
                              return_dict_in_generate=True)

    def greedy(self, inputs, sampling: dict[str, Any], num_logprobs: int) -> dict[str, Any]:
        """token_ids, the decoded texts, the smallest gap between the two best scores, the best log
        probabilities."""
        out = self.generate(inputs, sampling)
        prompt = inputs["input_ids"][0].tolist()
        tokens = out.sequences[0, len(prompt):].tolist()
        gap = float("inf")
        logprobs = []
        for row in out.scores:
            best = torch.topk(row[0], 2).values
            gap = min(gap, float(best[0] - best[1]))
            top = torch.topk(torch.log_softmax(row[0].float(), -1),
                             num_logprobs) if num_logprobs else None
            logprobs.append([[int(i), round(float(v), 5)] for v, i in zip(*top, strict=True)
                             if v > -1e30] if top else [])
        result = {"token_ids": tokens, "gap": round(gap, 6), "text": self.decode(tokens),
                  "full_text": self.decode(prompt + tokens)}
        return {**result, "logprobs": logprobs} if num_logprobs else result

    def beams(self, inputs, sampling: dict[str, Any]) -> dict[str, Any] | None:
        """None where f32 and f64 disagree: a tie nearer than rounding."""
        length = inputs["input_ids"].shape[1]
        narrow, wide = (self._beam_tokens(inputs, sampling, model, length)
                        for model in (self.beam_model, self.wide(self.beam_model)))
        if narrow != wide:
            return None
        return {"token_ids": narrow, "text": self.decode(narrow)}

    def _beam_tokens(self, inputs, sampling, model, length) -> list[int]:
        return self.generate(inputs, sampling, model, scores=False).sequences[0, length:].tolist()


def margin(reference: torch.Tensor) -> tuple[int, float]:
    """(best token, its lead over the second best)"""
    best = torch.topk(reference, 2)
    return int(best.indices[0]), float(best.values[0] - best.values[1])
