# SPDX-License-Identifier: Apache-2.0
"""A model divided among ranks: bit for bit what one process computes in the same parts, and the
answers of the undivided one."""

import json
import re
import subprocess

import numpy
import pytest

from conftest import demo_scenes, find_tool, logits_of

RANKS = [2, 3, 4]  # of 6 heads and an MLP of 256: 3 divides the MLP, 4 the heads unevenly


def shares(units: int, ranks: int) -> list[tuple[int, int]]:
    """(begin, count) of each rank; the first ones get what is left over."""
    counts = [units // ranks + (rank < units % ranks) for rank in range(ranks)]
    return [(sum(counts[:rank]), count) for rank, count in enumerate(counts)]


def make_virtual_ranks(decoder, shape, ranks: int) -> None:
    """Each linear behind an attention or an MLP becomes as many products, added in order in f32."""
    import torch
    from torch import nn

    class Parts(nn.Module):

        def __init__(self, whole, inputs):
            super().__init__()
            self.whole, self.inputs = whole, inputs

        def forward(self, x):
            weight = self.whole.weight
            together = 1 << (-(-x.size(-1) // weight.size(1)) - 1).bit_length()
            total = torch.zeros(())
            for begin, count in self.inputs:
                part = weight[:, begin // together:(begin + count) // together].contiguous()
                mine = x[..., begin:begin + count].contiguous()
                if hasattr(self.whole, "scale"):
                    y = torch.ops.idefics.linear_int8(mine, part, self.whole.scale, self.whole.n)
                else:
                    y = torch.ops.idefics.linear_packed(mine, part, self.whole.n)
                total = total + y.float()
            return total.to(x.dtype)

    heads = [(b * shape.head_dim, c * shape.head_dim) for b, c in shares(shape.num_heads, ranks)]
    unit = 128 if shape.intermediate_size // 128 >= ranks else 8
    mlp = [(b * unit, c * unit) for b, c in shares(shape.intermediate_size // unit, ranks)]
    for module in list(decoder.modules()):
        if hasattr(module, "down"):
            module.o, module.down = Parts(module.o, heads), Parts(module.down, mlp)


class OneProcess:
    """The bundle's modules, run by this process."""

    def __init__(self, bundle, checkpoint):
        import torch
        from safetensors.torch import load_file

        from export.config import read_config
        from export.linears import Widths
        from export.modules import Decoder, Vision
        from export.scripted import load_operators
        load_operators()
        torch.set_num_threads(1)
        manifest = json.loads((bundle / "bundle.json").read_text())
        self.shape = read_config(checkpoint).shape
        widths = Widths(manifest["quantization"], frozenset(manifest["int8_linears"]))
        self.decoder = Decoder(self.shape, widths.of("decoder")).eval()
        self.vision = Vision(self.shape, Widths(manifest["vision_quantization"])).eval()
        for path in sorted(bundle.glob("*.safetensors")):
            for name, tensor in load_file(path).items():
                root, _, rest = name.partition(".")
                owner, _, last = rest.rpartition(".")
                module = getattr(self, root).get_submodule(owner)
                setattr(module, last, torch.nn.Parameter(tensor, requires_grad=False))

    def image_kv(self, pixels):
        """pixels [3, S, S] f32 -> K, V [cross layers, 1, H, L, d]."""
        import torch
        x = self.vision.embed(torch.from_numpy(pixels).unsqueeze(0))
        for layer in self.vision.layers:
            x = layer(x)
        return self.vision.image_kv(self.vision.pool(x))

    def logits(self, tokens, image_index, pixels) -> numpy.ndarray:
        """[tokens, vocab] f32 of one row; image_index: which token sees the picture, 0, or none,
        -1."""
        import torch

        def indices(values):
            return torch.tensor(values, dtype=torch.int32)

        count, shape = len(tokens), self.shape
        with torch.inference_mode():
            arena = torch.zeros(shape.num_layers, count, shape.num_heads, shape.head_dim,
                                dtype=self.decoder.embed.dtype)
            places = indices(range(count))
            return self.decoder(indices(tokens), places, places, indices(image_index),
                                indices([0, count]), indices([[0, 0]]), indices([[0, count]]),
                                places, arena, arena.clone(), *self.image_kv(pixels)).numpy()


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("dtype, weights", [("f32", None), ("bf16", None), ("bf16", "int8")])
def test_ranks_compute_bit_for_bit_what_one_process_computes_in_parts(ours, checkpoint, dtype,
                                                                      weights, ranks):
    model = ours("demo", dtype, weights)
    here = OneProcess(model.bundle, checkpoint("demo"))
    make_virtual_ranks(here.decoder, here.shape, ranks)
    random = numpy.random.default_rng(5)
    tokens = random.integers(3, 1000, 40).tolist()
    image_index = [-1] * 10 + [0] * 30
    size = here.shape.vision.image_size
    pixels = random.standard_normal((3, size, size), numpy.float32)
    request = {"token_ids": tokens, "image_index": image_index, "pixels": [pixels.ravel().tolist()],
               "piece": 1}
    theirs = logits_of(model.ask([request], ranks=ranks)[0])
    assert numpy.array_equal(theirs, here.logits(tokens, image_index, pixels))


@pytest.mark.parametrize("ranks", RANKS)
def test_the_demo_answers_the_same_whatever_number_of_ranks_it_has(ours, ranks):
    model = ours("demo", "f32")
    requests = [scene["request"] for scene in demo_scenes()]
    alone = [answer["token_ids"] for answer in model.ask(requests)]
    assert [answer["token_ids"] for answer in model.ask(requests, ranks=ranks)] == alone
    together = model.ask([{"together": requests}], ranks=ranks)[0]
    assert [answer["token_ids"] for answer in together] == alone


@pytest.mark.parametrize("ranks", RANKS)
def test_logits_of_ranks_lie_near_those_of_one(ours, ranks):
    from parity_cases import PROMPTS
    model = ours("demo", "f32")
    requests = [{**model.prompt(prompt), "piece": 0} for prompt in PROMPTS[:6]]
    for one, many in zip(model.ask(requests), model.ask(requests, ranks=ranks), strict=True):
        numpy.testing.assert_allclose(logits_of(many), logits_of(one), atol=1e-4, rtol=0)


def test_int4_weights_that_would_be_cut_through_a_group_are_refused(ours):
    bundle = ours("demo", "bf16", "int4").bundle
    done = subprocess.run([find_tool(), str(bundle), "1", "3"],
                          input="",
                          capture_output=True,
                          text=True)
    assert done.returncode == 1
    assert re.search(
        r"cannot be divided among 3 devices \(--tensor-parallel\): int4 weights are cut only "
        r"between groups of 128 inputs, and this cut is at 64", done.stderr), done.stderr
