# SPDX-License-Identifier: Apache-2.0
"""Questions about scenes and their one right answer.

A `Row` is one training or test sample: a list of items in the order of an IDEFICS prompt
(text, or a picture given as an index into the scenes), split in turns, with the answers.
Whatever compares two things answers step by step, since a model this small cannot compare
in one token.
"""
from dataclasses import dataclass

import numpy as np

from .small_talk import TALK
from .vocabulary import CLASSES, COLOR_NAMES, NUMBER_WORDS, PLACES, SHAPE_COUNT, article

END = "<end_of_utterance>"


@dataclass
class Row:
    """items: str or int (picture index); the last answer is the one that is asked for."""
    family: str
    items: list
    answer: str
    learn_all: bool = True      # also learn the answers of earlier turns


# ------------------------------------------------ one picture: (question, answer)

DESCRIBE = ["what is in the picture?", "what do you see?", "describe the picture.",
            "describe the image.", "what is in this image?"]


def describe_answer(scene) -> str:
    if scene.kind == "word":
        return f"the word {scene.text} in {scene.text_color}."
    if scene.kind == "number":
        return f"the number {scene.text} in {scene.text_color}."
    parts = [f"{article(t.noun)} in the {PLACES[t.cell]}" for t in scene.things]
    if len(parts) == 1:
        return parts[0] + "."
    return ", ".join(parts[:-1]) + " and " + parts[-1] + "."


def caption(scene) -> str:
    """A short caption: "a red circle", "the word stop", "the number 42"."""
    if scene.kind != "objects":
        return f"the {scene.kind} {scene.text}"
    return article(scene.things[0].noun)


def _pick(rng, values):
    return values[int(rng.integers(len(values)))]


def describe(scene, rng):
    return _pick(rng, DESCRIBE), describe_answer(scene)


def name(scene, rng):
    return _pick(rng, ["what is this?", "what does the picture show?"]), caption(scene) + "."


def color(scene, rng):
    thing = _unique_shape(scene, rng)
    if thing is None:
        return None
    ask = _pick(rng, ["what color is the {}?", "which color does the {} have?"])
    return ask.format(thing.name), f"it is {COLOR_NAMES[thing.color]}."


def _unique_shape(scene, rng):
    """A coloured shape whose form occurs once, or None."""
    forms = [t.cls for t in scene.things]
    fit = [t for t in scene.things if t.color >= 0 and forms.count(t.cls) == 1]
    return _pick(rng, fit) if fit else None


def shape(scene, rng):
    colors = [t.color for t in scene.things]
    fit = [t for t in scene.things if t.color >= 0 and colors.count(t.color) == 1]
    if not fit:
        return None
    thing = _pick(rng, fit)
    ask = _pick(rng, ["what shape is {}?", "which shape is {}?"])
    return ask.format(COLOR_NAMES[thing.color]), f"it is a {thing.name}."


def place(scene, rng):
    thing = _pick(rng, scene.things)
    return f"where is the {thing.noun}?", f"it is in the {PLACES[thing.cell]}."


def is_it(scene, rng):
    thing = scene.things[0]
    asked = thing.noun if rng.random() < 0.5 else random_noun(rng)
    if asked == thing.noun:
        return f"is this {article(asked)}?", f"yes, it is {article(thing.noun)}."
    return f"is this {article(asked)}?", f"no, it is {article(thing.noun)}."


def random_noun(rng) -> str:
    cls = int(rng.integers(len(CLASSES)))
    return CLASSES[cls] if cls >= SHAPE_COUNT else f"{_pick(rng, COLOR_NAMES)} {CLASSES[cls]}"


def exists(scene, rng):
    nouns = {t.noun: t for t in scene.things}
    asked = _pick(rng, list(nouns)) if rng.random() < 0.5 else random_noun(rng)
    ask = f"is there {article(asked)}?"
    return (ask, f"yes, in the {PLACES[nouns[asked].cell]}.") if asked in nouns else (ask, "no.")


def cell(scene, rng):
    taken = {t.cell: t for t in scene.things}
    where = _pick(rng, list(taken)) if rng.random() < 0.7 else int(rng.integers(9))
    ask = f"what is in the {PLACES[where]}?"
    return ask, f"{article(taken[where].noun)}." if where in taken else "nothing."


def count(scene, rng):
    n = len(scene.things)
    ask = _pick(rng, ["how many objects are there?", "how many things do you see?"])
    return ask, "there is one object." if n == 1 else f"there are {NUMBER_WORDS[n]} objects."


def side(scene, rng):
    thing = _pick(rng, scene.things)
    if rng.random() < 0.5:
        return (f"is the {thing.noun} on the left or on the right?",
                ["on the left.", "in the middle.", "on the right."][thing.cell % 3])
    return (f"is the {thing.noun} at the top or at the bottom?",
            ["at the top.", "in the middle.", "at the bottom."][thing.cell // 3])


def relation(scene, rng):
    a, b = rng.choice(len(scene.things), 2, replace=False)
    a, b = scene.things[a], scene.things[b]
    word, holds = _pick(rng, [("left of", a.cell % 3 < b.cell % 3),
                              ("right of", a.cell % 3 > b.cell % 3),
                              ("above", a.cell // 3 < b.cell // 3),
                              ("below", a.cell // 3 > b.cell // 3)])
    return (f"is the {a.noun} {word} the {b.noun}?",
            f"the {a.noun} is in the {PLACES[a.cell]} and the {b.noun} is in the "
            f"{PLACES[b.cell]}, so {'yes' if holds else 'no'}.")


def read(scene, rng):
    if scene.kind == "number":
        return _pick(rng,
                     ["what number is this?", "read the number."]), f"the number is {scene.text}."
    return _pick(rng, ["what does it say?", "read the word.", "what word is this?"]), \
        f"it says {scene.text}."


def text_color(scene, rng):
    return f"what color is the {scene.kind}?", f"it is {scene.text_color}."


ONE = {"describe one": describe, "name": name, "color": color, "shape": shape,
       "place": place, "is it": is_it, "exists": exists, "count": count, "cell": cell,
       "side": side}
SEVERAL = {"list all": describe, "color of one": color, "shape of one": shape,
           "place of one": place, "exists among several": exists, "count": count,
           "what is where": cell, "side of one": side, "relation": relation}
WORD = {"read word": read, "text color": text_color, "describe text": describe, "name": name}
NUMBER = {"read number": read, "text color": text_color, "describe text": describe,
          "name": name}
# the harder families are asked more often
WEIGHT = {"list all": 2.5, "relation": 2.2, "count": 1.3, "place of one": 1.3,
          "what is where": 1.5, "read word": 2.0, "read number": 2.0, "describe one": 1.3}


def families_of(scene) -> dict:
    if scene.kind == "word":
        return WORD
    if scene.kind == "number":
        return NUMBER
    return ONE if len(scene.things) == 1 else SEVERAL


def ask(scene, rng, only: str | None = None):
    """(family, question, answer) about one scene; None when `only` does not fit it."""
    table = families_of(scene)
    names = [only] if only else list(table)
    weights = np.array([WEIGHT.get(n, 1.0) for n in names])
    for _ in range(8):
        family = str(rng.choice(names, p=weights / weights.sum()))
        pair = table[family](scene, rng)
        if pair:
            return family, _spelling(pair[0], rng), pair[1]
    return None


def _spelling(question: str, rng) -> str:
    """The question with or without a capital, as people type."""
    return question[0].upper() + question[1:] if rng.random() < 0.4 else question


# ------------------------------------------------ rows

def turn(question: str, picture, rng) -> list:
    """A user turn in one of the orders in use: question first (the Cog API) or picture first."""
    if picture is None:
        return [f"User: {question}{END}"]
    if rng.random() < 0.6:
        return [f"User: {question}", picture, END]
    return ["User:", picture, f"{question}{END}"]


def single(scenes, i, rng, only=None):
    """One question about picture i."""
    asked = ask(scenes[i], rng, only)
    if asked is None:
        return None
    family, question, answer = asked
    return Row(family, turn(question, i, rng) + ["\nAssistant:"], answer)


def dialogue(scenes, i, rng):
    """A second question about a picture that is already in the talk."""
    first, second = ask(scenes[i], rng), ask(scenes[i], rng)
    if first is None or second is None:
        return None
    items = turn(first[1], i, rng) + [f"\nAssistant: {first[2]}{END}",
                                      f"\nUser: {second[1]}{END}", "\nAssistant:"]
    return Row("dialogue", items, second[2])


CAPTION_STYLES = ["{}.", "I see {}.", "this is {}!", "{}, nothing else."]


def few_shot(scenes, i, j, rng):
    """Captions in a style that only the first, answered picture shows."""
    style = _pick(rng, CAPTION_STYLES)
    question = _pick(rng, ["caption this.", "what is it?"])
    start = [
        "User:", i, f"{question}{END}", f"\nAssistant: {style.format(caption(scenes[i]))}{END}",
        "\nUser:", j, f"{question}{END}", "\nAssistant:"
    ]
    return Row("few-shot caption", start, style.format(caption(scenes[j])), learn_all=False)


def _both(i, j, question, rng) -> list:
    """A turn with two pictures, named in the text or simply one after the other."""
    if rng.random() < 0.5:
        return ["User: first", i, "second", j, f"{question}{END}", "\nAssistant:"]
    return ["User:", i, j, f"{question}{END}", "\nAssistant:"]


def two_pictures(scenes, i, j, rng):
    """Which picture, first or second, same or not."""
    a, b = caption(scenes[i]), caption(scenes[j])
    kind = int(rng.integers(3))
    if kind == 0:
        k = int(rng.integers(2))
        question = f"what is in the {['first', 'second'][k]} picture?"
        return Row("first or second", _both(i, j, question, rng), [a, b][k] + ".")
    if kind == 1:
        if a == b:
            return None
        k = int(rng.integers(2))
        answer = f"the first shows {a} and the second {b}, so the {['first', 'second'][k]}."
        question = f"which picture shows {[a, b][k]}?"
        return Row("which picture", _both(i, j, question, rng), answer)
    if rng.random() < 0.45:
        j, b = i, a
    answer = f"the first shows {a} and the second {b}, so {'yes' if a == b else 'no'}."
    return Row("same or not", _both(i, j, "do both pictures show the same?", rng), answer)


def text_only(rng):
    """Small talk and sums, without a picture."""
    if rng.random() < 0.6:
        question, answer = _pick(rng, TALK)
        return Row("small talk",
                   turn(_spelling(question, rng), None, rng) + ["\nAssistant:"], answer)
    a, b = int(rng.integers(11)), int(rng.integers(11))
    if rng.random() < 0.5:
        a, b = (a, b) if a + b <= 10 else (10 - a, 10 - b)
        question, result = f"what is {a} plus {b}?", a + b
    else:
        a, b = max(a, b), min(a, b)
        question, result = f"what is {a} minus {b}?", a - b
    items = turn(_spelling(question, rng), None, rng) + ["\nAssistant:"]
    return Row("arithmetic", items, f"{a} {question.split()[3]} {b} is {result}.")


def is_single(scene) -> bool:
    """A scene with one subject, fit for captions and two-picture questions."""
    return scene.kind != "objects" or len(scene.things) == 1


def sample_row(scenes, rng):
    """A random row about one or two of the given scenes (indices into the list)."""
    i = int(rng.integers(len(scenes)))
    choice = rng.random()
    row = None
    if choice < 0.07:
        return text_only(rng)
    if choice < 0.35 and len(scenes) > 1 and all(is_single(s) for s in scenes[:2]):
        i, j = (0, 1) if rng.random() < 0.5 else (1, 0)
        make = few_shot if rng.random() < 0.3 else two_pictures
        row = make(scenes, i, j, rng)
    elif choice > 0.88:
        row = dialogue(scenes, i, rng)
    return row or single(scenes, i, rng) or sample_row(scenes, rng)
