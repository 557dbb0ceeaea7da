# SPDX-License-Identifier: Apache-2.0
"""Checkpoints whose text repeats itself (scripts/phrase_weights.py): lists and dialogues."""

import itertools

import pytest

from conftest import Ours


@pytest.fixture(scope="module")
def talks(export, pictures, tmp_path_factory):
    pytest.importorskip("torch", reason="torch, which makes checkpoints, is not installed")
    import make_checkpoint
    folder = tmp_path_factory.mktemp("phrases") / "checkpoint"
    make_checkpoint.make_checkpoint(make_checkpoint.parse([str(folder), "--phrases"]))
    return Ours(export(folder), pictures)


def tokens(model, count, **sampling):
    request = {"prompt_parts": [{"text": "abc"}],
               "sampling": {"max_new_tokens": count, "num_logprobs": 0, **sampling}}
    return model.ask([request])[0]["token_ids"]


def test_greedy_text_goes_round_four_phrases(talks):
    import phrase_weights as made
    period = made.ROUND * made.LENGTH
    text = tokens(talks, 3 * period)
    assert text[period:] == text[:-period]
    assert len(set(text)) == period


def test_sampled_text_has_the_phrases_in_random_order(talks):
    import phrase_weights as made
    text = tokens(talks, 300, do_sample=True, top_k=50, seed=5)
    phrases = [(token - made.FIRST) // made.LENGTH for token in text[::made.LENGTH]]
    assert set(phrases) == set(range(made.PHRASES))
    inside = [b == a + 1 for a, b in itertools.pairwise(text) if (a - made.FIRST + 1) % made.LENGTH]
    assert sum(inside) > 0.95 * len(inside)


def test_pieces_of_a_tensor_are_those_of_the_whole():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    import phrase_weights as made
    shape = (320, 8)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        whole = torch.zeros(shape).flatten()
        made.replace_rows(name, shape, 0, whole)
        pieces = [torch.zeros(80) for _ in range(shape[0] * shape[1] // 80)]
        for number, piece in enumerate(pieces):
            made.replace_rows(name, shape, number * 80, piece)
        assert torch.equal(torch.cat(pieces), whole)
        assert whole.count_nonzero() > 0
