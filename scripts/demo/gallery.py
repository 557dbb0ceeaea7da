# SPDX-License-Identifier: Apache-2.0
"""The scenes on the playground's start page (server/playground/page): fresh pictures, small enough
for a page, and scenes.json, which says what is asked about them and what the model answers."""
import json
import os

from . import evaluate
from .questions import END
from .world import draw, sample_scene

SEED = 960_000_000             # neither trained on nor part of the measured questions
SIDE = 336                     # of a picture on the page
QUALITY = 84

# file: (seed, kind, number of objects); a word is in a font that the model never saw
PICTURES = {
    "panda": (1007, "objects", 1), "four": (28, "objects", 4), "cafe": (13, "word", None),
    "dog": (15, "objects", 2), "octopus": (1108, "objects", 1), "burger": (1166, "objects", 1),
    "sunflower": (1114, "objects", 1), "moon": (1175, "objects", 1),
}
# title, kind of task, examples (parts, answer), parts, answer. A part that begins with "@" is a
# picture.
SCENES = [
    ("What is in the picture?", "Seeing", [], ["@panda", "What is in the picture?"],
     "a panda in the center."),
    ("How many objects are there?", "Counting", [], ["@four", "How many objects are there?"],
     "there are four objects."),
    ("What does it say?", "Reading", [], ["@cafe", "What does it say?"], "it says cafe."),
    ("Is the dog left of the carrot?", "Comparing, step by step", [],
     ["@dog", "Is the dog left of the carrot?"],
     "the dog is in the bottom left and the carrot is in the bottom right, so yes."),
    ("Caption it as in the example", "Learning from an answered example",
     [(["@octopus", "caption this."], "I see an octopus.")], ["@burger", "caption this."],
     "I see a burger."),
    ("What is in the second picture?", "Text and pictures, interleaved", [],
     ["first", "@sunflower", "second", "@moon", "what is in the second picture?"], "a moon."),
]


def _file(name: str) -> str:
    return f"scene-{name}.webp"


def _draw_all(folder: str) -> None:
    for name, (seed, kind, count) in PICTURES.items():
        scene = sample_scene(SEED + seed, kind, count, held_out_fonts=kind == "word")
        draw(scene).resize((SIDE, SIDE)).save(os.path.join(folder, _file(name)), quality=QUALITY,
                                              method=6)


def _message(parts: list, folder: str) -> list:
    """The parts as a prompt has them behind "User:"."""
    return [f"file:{os.path.join(folder, _file(part[1:]))}" if part.startswith("@") else part
            for part in parts]


def _prompt(examples: list, parts: list, folder: str) -> list:
    """What the chat route makes of the scene (docs/openai-api.md)."""
    prompt = []
    for example, answer in examples:
        prompt += ["User:", *_message(example, folder)]
        prompt[-1] += END
        prompt += [f"\nAssistant: {answer}{END}", "\n"]
    prompt += ["User:", *_message(parts, folder)]
    prompt[-1] += END
    return [*prompt, "\nAssistant:"]


def _parts(parts: list) -> list:
    return [{"file": _file(part[1:])} if part.startswith("@") else {"text": part}
            for part in parts]


def make(checkpoint: str, folder: str, scratch: str) -> None:
    """Fills `folder`; stops where the model does not give a scene's answer."""
    os.makedirs(scratch, exist_ok=True)
    _draw_all(folder)
    lines = [{"id": title, "family": kind, "prompt": _prompt(examples, parts, folder),
              "expected": answer} for title, kind, examples, parts, answer in SCENES]
    ask, given = os.path.join(scratch, "ask.jsonl"), os.path.join(scratch, "given.jsonl")
    evaluate.write_lines(ask, lines)
    evaluate.answer_transformers(checkpoint, ask, given)
    answers = {line["id"]: line["output"] for line in evaluate.read_lines(given)}
    wrong = [f"{line['id']} {answers[line['id']]!r}" for line in lines
             if answers[line["id"]] != line["expected"]]
    if wrong:
        raise SystemExit("the model answers otherwise:\n" + "\n".join(wrong))
    scenes = [{"title": title, "kind": kind, "parts": _parts(parts),
               "examples": [{"parts": _parts(example), "answer": reply}
                            for example, reply in examples], "answer": answer}
              for title, kind, examples, parts, answer in SCENES]
    with open(os.path.join(folder, "scenes.json"), "w") as file:
        json.dump({"scenes": scenes}, file, indent=1)
        file.write("\n")
