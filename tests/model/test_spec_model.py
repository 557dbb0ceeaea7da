# SPDX-License-Identifier: Apache-2.0
"""The tiny golden model of docs/model.md#the-tiny-golden-model, whose weights are a formula: values
that an independent program computed in float64."""

import json

import numpy
import pytest

from conftest import ROOT, Ours, logits_of

GOLDEN = ROOT / "tests/goldens/formula_model.json"
FAKE, IMAGE, END = 320, 321, 322
MASK = (1 << 64) - 1


def fnv1a(text: str) -> int:
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = ((value ^ byte) * 0x100000001B3) & MASK
    return value


def uniform(name: str, count: int) -> numpy.ndarray:
    """[count] f32 in [-1, 1)."""
    x = numpy.arange(count, dtype=numpy.uint64) + numpy.uint64(fnv1a(name))
    x += numpy.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
    x ^= x >> numpy.uint64(31)
    return ((x >> numpy.uint64(40)).astype(numpy.float64) / 2**23 - 1).astype(numpy.float32)


def weights(name: str, shape) -> numpy.ndarray:
    u = uniform(name, int(numpy.prod(shape)))
    last = name.rsplit(".", 1)[-1]
    centre, scale = (0.5, 0.25) if last.startswith("alpha") else (0, 0.05) if last == "bias" \
        else (1, 0.1) if "norm" in name or ".ln." in name \
        else (0, 0.05) if "patch_embedding" in name \
        else (0, 0.5) if "embed" in name or last == "latents" else (0, 0.2)
    return (numpy.float32(centre) + numpy.float32(scale) * u).reshape(shape)


@pytest.fixture(scope="module")
def golden():
    return json.loads(GOLDEN.read_text())


@pytest.fixture(scope="module")
def model(golden, tmp_path_factory, export):
    from safetensors.numpy import load_file, save_file

    import make_checkpoint as maker
    folder = tmp_path_factory.mktemp("spec") / "checkpoint"
    maker.make_checkpoint(maker.parse([str(folder), "--shape", "tiny"]))
    path = folder / "model.safetensors"
    tensors = {name: weights(name, value.shape) for name, value in load_file(path).items()}
    assert len(tensors) == golden["n_tensors"]
    assert sum(value.size for value in tensors.values()) == golden["n_params"]
    save_file(tensors, path, metadata={"format": "pt"})
    return Ours(export(folder), folder)


def rows(golden):
    """(name, token ids without padding, image index, pixels of the row's images, last logits,
    greedy tokens)"""
    for name, case in golden["cases"].items():
        columns = zip(case["input_ids"],
                      case["attention_mask"],
                      case["image_mask_index"],
                      strict=True)
        for b, (ids, keep, index) in enumerate(columns):
            kept = [i for i, mask in enumerate(keep) if mask]
            images = max(max(index) + 1, 0)
            pixels = [(2 * uniform(f"pixels.{b}.{n}", 3 * 28 * 28)).tolist() for n in range(images)]
            yield (f"{name} row {b}", [ids[i] for i in kept], [index[i] for i in kept], pixels,
                   case["last_logits_gated"][b], case["greedy16_bad320_321_eos322"][b])


@pytest.mark.filterwarnings("ignore:overflow encountered")
@pytest.mark.parametrize("piece", [0, 1], ids=["every prefix at once", "token by token"])
def test_the_model_of_the_specification_gives_its_logits_and_tokens(golden, model, piece):
    cases = list(rows(golden))
    # The greedy tokens are fed in too: each must be the best after those before it.
    requests = [{
        "token_ids": ids + tokens[:-1], "image_index": index + [index[-1]] * (len(tokens) - 1),
        "pixels": pixels, "piece": piece
    } for _, ids, index, pixels, _, tokens in cases]
    for (name, ids, _, _, last, tokens), answer in zip(cases, model.ask(requests), strict=True):
        logits = logits_of(answer).copy()
        difference = numpy.abs(logits[len(ids) - 1] - numpy.array(last)).max()
        print(f"{name}: logits differ by {difference:.1e}")
        assert difference < 1e-4, name
        logits[:, [FAKE, IMAGE]] = -numpy.inf
        assert logits[len(ids) - 1:].argmax(1).tolist() == tokens, name
        assert END not in tokens


@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_the_formula_gives_the_values_of_the_specification(golden):
    assert fnv1a("model.norm.weight") == 15480813312422577380
    name = "model.embed_tokens.weight"
    assert weights(name, (4, )).tolist() == pytest.approx(
        [-0.1287095547, -0.1483925581, 0.4031025767, -0.4898665547])
    assert (2 * uniform("pixels.0.0", 4)).tolist() == pytest.approx(
        [1.2944002, 0.6202288, -0.1587687, 0.3285499])
