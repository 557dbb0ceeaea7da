#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Train and measure the demo model: a small genuine IDEFICS on rendered scenes.

  train_demo.py train                      the whole run (about 85 minutes on 2 cores), resumable
  train_demo.py write-eval DIR             fresh scenes: pictures and questions (JSON lines)
  train_demo.py eval --checkpoint DIR      write, answer and score in one go
  train_demo.py score DIR ANSWERS          score given answers
  train_demo.py assets                     pictures and answers for the README and the tests
  train_demo.py gallery                    scenes for the playground
"""
import argparse
import json
import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "scripts"))

DEFAULT_WORK = os.path.expanduser("~/.cache/cog-idefics/demo-run")


def train(options) -> None:
    """The training run."""
    from demo.schedule import Plan
    from demo.train import Run
    from demo.world import check_fonts
    check_fonts()
    plan = Plan(see_minutes=options.see_minutes, answer_minutes=options.answer_minutes,
                see_muon=options.see_muon)
    Run(options.work, options.out, plan, options.seed, options.pictures).train()


def write_eval(options) -> None:
    """Fresh pictures and questions."""
    from demo import evaluate
    from demo.world import check_fonts
    check_fonts()
    evaluate.write_eval(options.folder, options.per_family, options.seed)


def answer(options, source: str, target: str) -> None:
    """Answer one questions file with the predictor chosen."""
    from demo import evaluate
    if options.predictor == "cpp":
        evaluate.answer_cpp(ROOT, options.checkpoint, source, target)
    else:
        import torch
        torch.set_num_threads(options.threads)
        evaluate.answer_transformers(options.checkpoint, source, target)


def evaluate_all(options) -> None:
    """Write, answer and score, with the right and with wrong pictures."""
    from demo import evaluate
    folder = options.folder
    if not os.path.exists(os.path.join(folder, "questions.jsonl")):
        write_eval(options)
    results = []
    for name in ["questions", "wrong-pictures"][:1 if options.no_wrong else 2]:
        source = os.path.join(folder, name + ".jsonl")
        target = os.path.join(folder, f"answers-{options.predictor}-{name}.jsonl")
        answer(options, source, target)
        results.append(evaluate.score(source, target))
    show(results, folder)


def show(results, folder: str) -> None:
    """Print the table and write it beside the questions."""
    from demo import evaluate
    text = evaluate.table_text(*results)
    print(text)
    with open(os.path.join(folder, "table.md"), "w") as file:
        file.write(text)
    with open(os.path.join(folder, "result.json"), "w") as file:
        json.dump(results, file, indent=1)


def score(options) -> None:
    """Score an answers file against DIR/questions.jsonl."""
    from demo import evaluate
    name = "wrong-pictures" if options.wrong else "questions"
    show([evaluate.score(os.path.join(options.folder, name + ".jsonl"), options.answers)],
         options.folder)


def assets(options) -> None:
    """Pictures with questions for the README and the tests."""
    from demo.assets import make
    make(options.checkpoint, os.path.abspath(options.folder), os.path.join(options.work, "assets"))


def gallery(options) -> None:
    """The scenes on the playground's start page."""
    from demo.gallery import make
    make(options.checkpoint, os.path.abspath(options.folder), os.path.join(options.work, "gallery"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    p = commands.add_parser("train")
    p.add_argument("--work", default=DEFAULT_WORK, help="pictures, checkpoints and logs")
    p.add_argument("--out", default=os.path.join(ROOT, "weights", "demo"))
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--pictures", type=int, default=60000)
    p.add_argument("--see-minutes", type=float, default=14)
    p.add_argument("--answer-minutes", type=float, default=68)
    p.add_argument("--see-muon", type=float, default=4e-3)
    p.set_defaults(run=train)
    p = commands.add_parser("write-eval")
    p.add_argument("folder")
    p.set_defaults(run=write_eval)
    q = commands.add_parser("eval")
    q.add_argument("--checkpoint", default=os.path.join(ROOT, "weights", "demo"),
                   help="checkpoint folder; for cpp the bundle made from it")
    q.add_argument("--predictor", choices=["transformers", "cpp"], default="transformers")
    q.add_argument("--folder", default=os.path.join(DEFAULT_WORK, "eval"))
    q.add_argument("--threads", type=int, default=1)
    q.add_argument("--no-wrong", action="store_true", help="leave out the wrong pictures")
    q.set_defaults(run=evaluate_all)
    for sub in (p, q):
        sub.add_argument("--per-family", type=int, default=40)
        sub.add_argument("--seed", type=int, default=1)
    p = commands.add_parser("score")
    p.add_argument("folder")
    p.add_argument("answers")
    p.add_argument("--wrong", action="store_true", help="the answers are to wrong-pictures.jsonl")
    p.set_defaults(run=score)
    p = commands.add_parser("assets")
    p.add_argument("--checkpoint", default=os.path.join(ROOT, "weights", "demo"))
    p.add_argument("--folder", default=os.path.join(ROOT, "tests", "assets"))
    p.add_argument("--work", default=DEFAULT_WORK)
    p.set_defaults(run=assets)
    p = commands.add_parser("gallery")
    p.add_argument("--checkpoint", default=os.path.join(ROOT, "weights", "demo"))
    p.add_argument("--folder", default=os.path.join(ROOT, "server", "playground", "page"))
    p.add_argument("--work", default=DEFAULT_WORK)
    p.set_defaults(run=gallery)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
