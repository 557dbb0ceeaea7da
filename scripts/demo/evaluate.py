# SPDX-License-Identifier: Apache-2.0
"""Fresh test scenes, answering them with transformers or the C++ predictor, and scores."""
import json
import os
import subprocess
from collections import defaultdict

import numpy as np

from . import questions
from .data import progress
from .world import draw, sample_scene

SEED_BASE = 500_000_000          # training uses seeds from 1e9 on
TEXT_ONLY = ("small talk", "arithmetic")
PAIRS = ("few-shot caption", "first or second", "which picture", "same or not")
READING = ("read word", "read number", "describe text", "text color")
NEW_FONTS = " (new fonts)"
MAX_NEW_TOKENS = 96


def all_families() -> list:
    """Every question family; the reading ones once more with fonts never trained on."""
    names = []
    for table in (questions.ONE, questions.SEVERAL, questions.WORD, questions.NUMBER):
        names += [n for n in table if n not in names]
    names += ["dialogue", *PAIRS, *TEXT_ONLY]
    return names + [n + NEW_FONTS for n in READING]


def test_row(family: str, seed: int):
    """(row, scenes) of one fresh question of a family."""
    rng = np.random.default_rng([23, seed])
    new_fonts = family.endswith(NEW_FONTS)
    plain = family.removesuffix(NEW_FONTS)
    while True:
        seeds = rng.integers(SEED_BASE, SEED_BASE + 400_000_000, 2)
        scenes = [_fitting_scene(plain, int(s), rng, new_fonts) for s in seeds]
        if plain in TEXT_ONLY:
            row = questions.text_only(rng)
        elif plain == "dialogue":
            row = questions.dialogue(scenes, 0, rng)
        elif plain == "few-shot caption":
            row = questions.few_shot(scenes, 0, 1, rng)
        elif plain in PAIRS:
            row = questions.two_pictures(scenes, 0, 1, rng)
        else:
            row = questions.single(scenes, 0, rng, plain)
        if row and row.family == plain:
            row.family = family
            return row, scenes


def _fitting_scene(family: str, seed: int, rng, new_fonts: bool):
    """A scene that questions of the family can be about."""
    if family == "dialogue" or family in TEXT_ONLY:
        return sample_scene(seed)
    kinds = []
    for table, kind in ((questions.ONE, ("objects", 1)), (questions.SEVERAL, ("objects", 0)),
                        (questions.WORD, ("word", None)), (questions.NUMBER, ("number", None))):
        if family in table or (family in PAIRS and kind != ("objects", 0)):
            kinds.append(kind)
    kind, count = kinds[int(rng.integers(len(kinds)))]
    if count == 0:
        count = int(rng.integers(2, 6))
    return sample_scene(seed, kind, count, held_out_fonts=new_fonts)


def write_eval(folder: str, per_family: int, seed: int) -> None:
    """Write pictures, questions.jsonl and wrong-pictures.jsonl into `folder`."""
    folder = os.path.abspath(folder)
    os.makedirs(os.path.join(folder, "pictures"), exist_ok=True)
    lines = []
    families = all_families()
    for number, family in enumerate(families):
        progress("writing", number / len(families))
        for k in range(per_family):
            row, scenes = test_row(family, (seed * 1000 + number) * 100_000 + k)
            lines.append(_line(row, scenes, f"{number:02d}-{k:04d}", folder))
    progress("writing", 1.0, "\n")
    write_lines(os.path.join(folder, "questions.jsonl"), lines)
    write_lines(os.path.join(folder, "wrong-pictures.jsonl"), _swap_pictures(lines))


def _line(row, scenes, name: str, folder: str) -> dict:
    """One JSON line; saves the pictures it names (every fifth as a JPEG)."""
    prompt, saved = [], {}
    for item in row.items:
        if isinstance(item, str):
            prompt.append(item)
            continue
        if item not in saved:
            jpeg = scenes[item].seed % 5 == 0
            path = os.path.join(folder, "pictures", f"{name}-{item}.{'jpg' if jpeg else 'png'}")
            draw(scenes[item]).save(path, **({"quality": 88} if jpeg else {}))
            saved[item] = "file:" + path
        prompt.append(saved[item])
    return {"id": name, "family": row.family, "prompt": prompt, "expected": row.answer,
            "max_new_tokens": MAX_NEW_TOKENS}


def _swap_pictures(lines: list) -> list:
    """The same questions, each with the pictures of the next line of its family."""
    groups = defaultdict(list)
    for line in lines:
        if any(p.startswith("file:") for p in line["prompt"]):
            groups[line["family"]].append(line)
    wrong = []
    for group in groups.values():
        for line, other in zip(group, group[1:] + group[:1], strict=False):
            pictures = [p for p in other["prompt"] if p.startswith("file:")]
            prompt = [pictures.pop(0) if p.startswith("file:") else p for p in line["prompt"]]
            wrong.append({**line, "prompt": prompt})
    return wrong


def write_lines(path: str, lines: list) -> None:
    with open(path, "w") as file:
        file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def read_lines(path: str) -> list:
    with open(path) as file:
        return [json.loads(line) for line in file]


def answer_transformers(checkpoint: str, source: str, target: str, batch: int = 24) -> None:
    """Answer a questions file with transformers, greedily, in float32."""
    import torch
    from PIL import Image
    from transformers import AutoProcessor, IdeficsForVisionText2Text
    model = IdeficsForVisionText2Text.from_pretrained(checkpoint, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(checkpoint)
    lines = read_lines(source)
    def pictures(line):
        return sum(p.startswith("file:") for p in line["prompt"])
    order = sorted(lines, key=lambda l: (pictures(l), len(l["expected"]), l["family"]))
    answers = []
    while order:
        group = [l for l in order[:batch] if pictures(l) == pictures(order[0])]
        order = order[len(group):]
        prompts = [[Image.open(p[5:]) if p.startswith("file:") else p for p in l["prompt"]]
                   for l in group]
        inputs = processor(text=prompts, add_end_of_utterance_token=False, padding="longest",
                           return_tensors="pt")
        with torch.inference_mode():
            out = model.generate(**inputs, do_sample=False, max_new_tokens=MAX_NEW_TOKENS)
        texts = processor.batch_decode(out[:, inputs.input_ids.shape[1]:], skip_special_tokens=True)
        answers += [{"id": l["id"], "status": "succeeded", "output": t.strip()}
                    for l, t in zip(group, texts, strict=False)]
        progress("answering", len(answers) / len(lines))
    progress("answering", 1.0, "\n")
    write_lines(target, answers)


def answer_cpp(root: str, bundle: str, source: str, target: str) -> None:
    """Answer a questions file with the C++ predictor."""
    command = [os.path.join(root, "scripts", "idefics-server"), "predict", "--model", bundle,
               "--jsonl", source, "-o", target]
    subprocess.run(command, check=True)


def score(questions_path: str, answers_path: str) -> dict:
    """{family: (right, asked)} and the list of wrong answers."""
    given = {a["id"]: a.get("output") for a in read_lines(answers_path)}
    table, wrong = defaultdict(lambda: [0, 0]), []
    for line in read_lines(questions_path):
        output = given.get(line["id"])
        if isinstance(output, list):
            output = "".join(output)
        right = (output or "").replace(questions.END, "").strip() == line["expected"]
        table[line["family"]][0] += right
        table[line["family"]][1] += 1
        if not right:
            wrong.append({"id": line["id"], "family": line["family"],
                          "prompt": line["prompt"], "expected": line["expected"], "output": output})
    return {"families": dict(table), "wrong": wrong}


def table_text(result: dict, wrong_pictures: dict | None = None) -> str:
    """Markdown table of accuracy per family and in all (new fonts apart)."""
    head = "| family | questions | exact match |" + (" wrong pictures |" if wrong_pictures else "")
    lines = [head, "|---|---|---|" + ("---|" if wrong_pictures else "")]

    def add(name, members):
        cells = []
        for source in filter(None, (result, wrong_pictures)):
            found = [source["families"][m] for m in members if m in source["families"]]
            right, asked = sum(f[0] for f in found), sum(f[1] for f in found)
            cells.append((f"{100 * right / asked:.1f} %" if asked else "–", asked))
        lines.append(f"| {name} | {cells[0][1]} | " + " | ".join(c[0] for c in cells) + " |")

    families = list(result["families"])
    known = [f for f in families if not f.endswith(NEW_FONTS)]
    for family in families:
        add(family, [family])
    add("**all**", known)
    add("**all with pictures**", [f for f in known if f not in TEXT_ONLY])
    add("**reading, new fonts**", [f for f in families if f.endswith(NEW_FONTS)])
    return "\n".join(lines) + "\n"
