# SPDX-License-Identifier: Apache-2.0
"""The demo's questions asked by Cog's route and by OpenAI's own client: the accuracy of both, and
how often the two answers differ (they should not).

    openai_accuracy.py --bundle DEMO [--questions 50] [--seed 1]

The questions are made anew: none of them was trained on. Needs the fonts of scripts/train_demo.py.
"""

import http.client
import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import openai
from common import ROOT, Server, arguments, data_uri, heading, note, table

sys.path.insert(0, str(ROOT / "scripts"))
from demo.evaluate import read_lines, write_eval

END = "<end_of_utterance>"
PICTURE = re.compile(r"(\0\d+\0)")


def with_pictures(prompt: list[str]) -> list[str]:
    return [data_uri(Path(item[5:]).read_bytes()) if item.startswith("file:") else item
            for item in prompt]


def messages(prompt: list[str]) -> list[dict[str, Any]]:
    """The dialogue that a prompt is: "User: …", a picture, END, "\\nAssistant:"."""
    whole = "".join(f"\0{i}\0" if item.startswith("data:") else item
                    for i, item in enumerate(prompt))
    dialogue = []
    for turn in whole.split(END)[:-1]:
        role, _, content = turn.strip("\n").partition(":")
        parts: list[dict[str, Any]] = []
        for part in PICTURE.split(content):
            if PICTURE.fullmatch(part):
                parts.append({"type": "image_url", "image_url": {"url": prompt[int(part[1:-1])]}})
            elif part.strip(" "):
                parts.append({"type": "text", "text": part.strip(" ")})
        dialogue.append({"role": role.strip().lower(), "content": parts})
    return dialogue


def ask_cog(port: int, prompt: list[str], most: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    connection.request("POST", "/predictions",
                       json.dumps({"input": {"prompt": prompt, "max_new_tokens": most}}),
                       {"Content-Type": "application/json"})
    return str(json.loads(connection.getresponse().read())["output"])


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--questions", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    heading("The demo's questions by both APIs")
    with tempfile.TemporaryDirectory() as folder:
        write_eval(folder, 4, options.seed)
        lines = read_lines(folder + "/questions.jsonl")
        lines = lines[::max(1, len(lines) // options.questions)][:options.questions]
        for line in lines:
            line["prompt"] = with_pictures(line["prompt"])
    rows = []
    for bundle in options.bundle:
        with Server(bundle) as server:
            client = openai.OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="any")
            right, differ = {"Cog": 0, "OpenAI": 0}, 0
            for line in lines:
                most = line["max_new_tokens"]
                chat = client.chat.completions.create(
                    model="default", temperature=0, max_tokens=most,
                    messages=messages(line["prompt"]))
                answers = {"Cog": ask_cog(server.port, line["prompt"], most),
                           "OpenAI": str(chat.choices[0].message.content)}
                for name, answer in answers.items():
                    right[name] += answer.strip() == line["expected"]
                if answers["Cog"] != answers["OpenAI"]:
                    differ += 1
                    note(f"{line['id']}: {answers}")
            rows.append([bundle.name, len(lines), *right.values(), differ])
    table(["bundle", "questions", "right, Cog", "right, OpenAI's client", "answers that differ"],
          rows)


if __name__ == "__main__":
    main()
