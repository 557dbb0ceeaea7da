# SPDX-License-Identifier: Apache-2.0
"""An exported bundle computes what transformers computes from the checkpoint: every tensor is in
its place."""

import pytest

from bundle_reader import manifest, modules

transformers = pytest.importorskip("transformers",
                                   reason="transformers, the oracle, is not installed")
torch = pytest.importorskip("torch")

CASES = {
    "instruct, qk norms": [],
    "base vocabulary, vector alpha": ["--vocabulary", "base", "--alpha", "vector"],
    "no qk norms, a cross layer at every layer": ["--no-qk-norms", "--interval", "1"],
    "one cross layer, tied embeddings, quick_gelu": [
        "--interval", "4", "--tied", "--vision-act", "quick_gelu"
    ], "no resampler": ["--no-resampler"],
    "six layers, interval 3, head size 8": ["--layers", "6", "--interval", "3", "--heads", "8"],
}


def _pixels(size):
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(3)) * 4 - 2


def _ours(bundle, ids, entries, pixels):
    """Logits [T, vocab] of one row; entries [T]: the image that each token sees."""
    layers = manifest(bundle)["model"]["num_layers"]
    vision, decoder = modules(bundle)
    patches = vision.embed(pixels)
    for layer in vision.layers.children():
        patches = layer(patches)
    image_k, image_v = vision.image_kv(vision.pool(patches))
    count = len(ids)
    heads = image_k.size(2)

    def i32(values):
        return torch.tensor(values, dtype=torch.int32)
    arena = torch.zeros(2, layers, count, heads, image_k.size(4))
    return decoder(i32(ids), i32(range(count)), i32(range(count)), i32(entries), i32([0, count]),
                   i32([[0, 0]]), i32([[0, count]]), i32(range(count)), arena[0], arena[1], image_k,
                   image_v)


def _theirs(checkpoint, ids, entries, pixels, use_resampler):
    model = transformers.IdeficsForVisionText2Text.from_pretrained(checkpoint,
                                                                   dtype=torch.float64).eval()
    mask = torch.zeros(1, len(ids), len(pixels), dtype=torch.long)
    for token, entry in enumerate(entries):
        if entry >= 0:
            mask[0, token, entry] = 1
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids]), pixel_values=pixels[None].double(),
                     image_attention_mask=mask).logits[0]


@pytest.mark.parametrize("flags", CASES.values(), ids=CASES.keys())
def test_an_exported_bundle_gives_the_logits_of_transformers(make, export, flags):
    checkpoint = make("--seed", "11", *flags)
    fake, image = 320, 321
    ids = [1, 40, 300, fake, image, fake, 270, 271, 319, fake, image, fake, 290, 12, 305]
    entries = [-1] * 4 + [0] * 6 + [1] * 5
    pixels = _pixels(28)
    ours = _ours(export(checkpoint), ids, entries, pixels)
    theirs = _theirs(checkpoint, ids, entries, pixels, "--no-resampler" not in flags)
    assert ours.dtype == torch.float32
    difference = (ours - theirs).abs().max().item()
    assert difference < 1e-4, f"the logits differ by {difference}"
    assert theirs.std() > 0.1  # a model whose output hardly moves would prove nothing
