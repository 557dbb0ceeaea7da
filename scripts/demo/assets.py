# SPDX-License-Identifier: Apache-2.0
"""Small fresh-scene pictures with a question and its answer, for the README and the tests."""
import json
import os

from . import evaluate
from .questions import END
from .world import draw, sample_scene

SEED = 950_000_000             # neither trained on nor part of the measured questions

# name, kind, number of objects, question; the answer comes from the scene
WANTED = [
    ("cat", "objects", 1, "What is in the picture?"),
    ("shape", "objects", 1, "What color is the {shape}?"),
    ("several", "objects", 3, "What do you see?"),
    ("count", "objects", 5, "How many objects are there?"),
    ("place", "objects", 4, "Where is the {noun}?"),
    ("relation", "objects", 2, "Is the {noun} left of the {other}?"),
    ("word", "word", None, "What does it say?"),
    ("number", "number", None, "What number is this?"),
]


def _prompt(question: str, path: str) -> list:
    """The prompt of the Cog request {image, text}."""
    return [f"User: {question}", "file:" + path, END, "\nAssistant:"]


def _case(name, kind, count, question, seed):
    """(scene, question, answer) or None when the scene of `seed` does not suit."""
    from .questions import describe_answer
    from .vocabulary import COLOR_NAMES, NUMBER_WORDS, PLACES
    scene = sample_scene(seed, kind, count, held_out_fonts=kind != "objects")
    if kind != "objects":
        answer = f"it says {scene.text}." if kind == "word" else f"the number is {scene.text}."
        return scene, question, answer
    things = scene.things
    first = things[-1]
    if (name == "cat" and first.name != "cat") or (name == "shape" and first.color < 0):
        return None
    if name == "shape":
        return scene, question.format(shape=first.name), f"it is {COLOR_NAMES[first.color]}."
    if name == "count":
        return scene, question, f"there are {NUMBER_WORDS[count]} objects."
    if name == "place":
        return scene, question.format(noun=first.noun), f"it is in the {PLACES[first.cell]}."
    if name == "relation":
        a, b = things
        holds = "yes" if a.cell % 3 < b.cell % 3 else "no"
        return (scene, question.format(noun=a.noun, other=b.noun),
                f"the {a.noun} is in the {PLACES[a.cell]} and the {b.noun} is in the "
                f"{PLACES[b.cell]}, so {holds}.")
    return scene, question, describe_answer(scene)


def _save(scene, path: str) -> None:
    """A JPEG below 60 KB."""
    image = draw(scene)
    for quality in (92, 88, 80, 70):
        image.save(path, quality=quality)
        if os.path.getsize(path) < 60_000:
            return


def candidates(folder: str, per_case: int) -> list:
    """Several candidate lines for each wanted picture, saved in `folder`."""
    lines = []
    for number, wanted in enumerate(WANTED):
        made, seed = 0, SEED + number * 100_000
        while made < per_case:
            seed += 1
            case = _case(*wanted, seed)
            if case is None:
                continue
            scene, question, answer = case
            path = os.path.join(folder, f"{wanted[0]}-{made}.jpg")
            _save(scene, path)
            lines.append({"id": f"{wanted[0]}-{made}", "family": wanted[0], "seed": seed,
                          "prompt": _prompt(question, path), "expected": answer,
                          "max_new_tokens": 96})
            made += 1
    return lines


def _extra(chosen: dict) -> list:
    """A two-picture case, a few-shot case and text-only cases made of the chosen pictures."""
    cat, shape = chosen["cat"]["prompt"][1], chosen["shape"]["prompt"][1]
    noun = chosen["shape"]["noun"]
    return [
        {"id": "two", "family": "two pictures", "expected": f"{noun}.",
         "prompt": ["User: first", cat, "second", shape, "what is in the second picture?" + END,
                    "\nAssistant:"]},
        {"id": "few-shot", "family": "few-shot caption", "expected": f"I see {noun}.",
         "prompt": ["User:", cat, "caption this." + END, f"\nAssistant: I see a cat.{END}",
                    "\nUser:", shape, "caption this." + END, "\nAssistant:"]},
        {"id": "text", "family": "text only", "expected": "3 plus 4 is 7.",
         "prompt": [f"User: What is 3 plus 4?{END}", "\nAssistant:"]},
        {"id": "hello", "family": "text only", "expected": "hello, show me a picture.",
         "prompt": [f"User: Hello!{END}", "\nAssistant:"]},
    ]


def make(checkpoint: str, folder: str, scratch: str, per_case: int = 4) -> None:
    """Fill `folder` with pictures the model answers rightly, and scenes.json."""
    from .vocabulary import article
    os.makedirs(scratch, exist_ok=True)
    os.makedirs(folder, exist_ok=True)
    ask, given = os.path.join(scratch, "ask.jsonl"), os.path.join(scratch, "given.jsonl")
    lines = candidates(scratch, per_case)
    chosen = _right(checkpoint, lines, ask, given)
    missing = [w[0] for w in WANTED if w[0] not in chosen]
    if missing:
        raise SystemExit(f"no right answer for {missing}")
    for wanted in WANTED:
        line = chosen[wanted[0]]
        path = os.path.join(folder, wanted[0] + ".jpg")
        os.replace(line["prompt"][1][5:], path)
        line["prompt"][1] = "file:" + path
    scene = sample_scene(chosen["shape"]["seed"], "objects", 1)
    chosen["shape"]["noun"] = article(scene.things[0].noun)
    extra = [{**line, "max_new_tokens": 96} for line in _extra(chosen)]
    chosen.update(_right(checkpoint, extra, ask, given))
    cases = [_public(line, folder) for line in chosen.values()]
    with open(os.path.join(folder, "scenes.json"), "w") as file:
        json.dump(cases, file, indent=2, ensure_ascii=False)
        file.write("\n")


def _right(checkpoint: str, lines: list, ask: str, given: str) -> dict:
    """{family or id: first line that the model answers rightly}."""
    evaluate.write_lines(ask, lines)
    evaluate.answer_transformers(checkpoint, ask, given)
    answers = {a["id"]: a["output"] for a in evaluate.read_lines(given)}
    chosen = {}
    for line in lines:
        if answers[line["id"]] == line["expected"]:
            key = line["id"] if "seed" not in line else line["family"]
            chosen.setdefault(key, line)
        elif "seed" not in line:
            print(f"\nleft out {line['id']}: {answers[line['id']]!r}")
    return chosen


def _public(line: dict, folder: str) -> dict:
    """A line of scenes.json: file names relative to the folder."""
    prompt = [p.replace("file:" + folder + os.sep, "file:") for p in line["prompt"]]
    files = [p[5:] for p in prompt if p.startswith("file:")]
    return {"id": line["family"] if "seed" in line else line["id"], "files": files,
            "prompt": prompt, "answer": line["expected"], "max_new_tokens": 96}
