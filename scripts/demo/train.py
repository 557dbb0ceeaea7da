# SPDX-License-Identifier: Apache-2.0
"""The training run: two one-thread workers on shared parameters, resumable.

Phase A teaches vision and resampler through throwaway heads; then the places are written
into the latents; phase B teaches everything through questions.
"""
import json
import os
import time

import numpy as np
import torch
import torch.nn.functional as F

from . import data, export
from .model import Dims, SmallIdefics, initialise
from .optimizer import Optimizer, Shared
from .schedule import Plan, rates
from .tokenizer import Encoder

WORKERS = 2
ELAPSED, STEP, ANSWERING, STOP = range(4)          # places in Shared.control
EMPTY_WEIGHT = {"cell": 0.2, "cell color": 0.1, "patch": 0.2, "patch color": 0.1,
                "char": 0.1, "letters": 0.3, "word": 0.3, "digit": 0.3, "text color": 0.5}
FAMILIES = 64                                      # room in the statistics


def head_loss(heads, features, latents, labels):
    """(loss, {name: right share}) of the throwaway heads on patches and latents."""
    classes = heads.cell.out_features - heads.text_color.out_features
    cell, patch = heads.cell(latents[:, :9]), heads.patch(features[:, 1:])
    parts = {
        "cell": (cell[..., :classes], labels["cell"][..., 0], 1.0),
        "cell color": (cell[..., classes:], labels["cell"][..., 1], 0.5),
        "patch": (patch[..., :classes], labels["patch"][..., 0], 0.5),
        "patch color": (patch[..., classes:], labels["patch"][..., 1], 0.25),
        "word": (heads.word(latents[:, 9]), labels["word"], 0.6),
        "digit": (heads.digit(latents[:, 10:12]), labels["digit"], 2.0),
        "char": (heads.char(features[:, 1:]), labels["char"], 1.0),
        "letters": (heads.letters(latents[:, 9]).unflatten(-1, (6, 27)), labels["letters"], 0.6),
        "count": (heads.count(latents[:, 12]), labels["count"], 0.3),
        "text color": (heads.text_color(latents[:, 13]), labels["text_color"], 0.2),
    }
    loss, right = 0.0, {}
    for name, (logits, label, weight) in parts.items():
        logits, label = logits.flatten(0, -2), label.flatten()
        balance = torch.ones(logits.shape[-1])
        balance[0] = EMPTY_WEIGHT.get(name, 1.0)     # most places are empty
        loss = loss + weight * F.cross_entropy(logits, label, balance, ignore_index=-1)
        asked = label > 0
        hit = (logits.argmax(-1) == label)[asked]
        right[name] = (int(hit.sum()), int(asked.sum()))
    return loss, right


class Statistics:
    """Right and asked counts by name, shared between the workers and faded each minute."""

    def __init__(self):
        self.table = torch.zeros(WORKERS, FAMILIES, 2).share_memory_()

    def add(self, worker: int, slot: int, right: float, asked: float) -> None:
        self.table[worker, slot] += torch.tensor([right, asked])

    def share(self, slot: int, start: float = 0.0) -> float:
        right, asked = self.table[:, slot].sum(0).tolist()
        return right / asked if asked >= 8 else start


class Worker:
    """One training process."""

    def __init__(self, index, shared, statistics, names, barrier, plan, options):
        torch.set_num_threads(1)
        self.index, self.shared, self.barrier, self.plan = index, shared, barrier, plan
        self.statistics, self.names, self.options = statistics, names, options
        self.pictures = data.Pictures(options["work"], options["seed"], options["pictures"])
        self.encoder = Encoder(options["tokenizer"])
        self.model = SmallIdefics()
        shared.attach(self.model, index)
        self.optimizer = Optimizer(shared, index, WORKERS)
        step = int(shared.control[STEP])
        self.rng = np.random.default_rng([options["seed"], index, step])

    def keep(self, family: str) -> float:
        """How often rows of a family are used: families still hard are used always."""
        return float(np.clip(0.3 + 4 * (1 - self.statistics.share(self.slot(family))), 0.3, 1))

    def slot(self, name: str) -> int:
        return self.names.index(name)

    def count(self, name: str, right: float, asked: float) -> None:
        self.statistics.add(self.index, self.slot(name), right, asked)

    def loss(self, answering: bool, weight: float):
        """The loss of one fresh batch."""
        plan, rng = self.plan, self.rng
        if not answering:
            chosen = self.pictures.mix(rng, plan.see_pictures, data.SEE_TEXT_SHARE)
        else:
            chosen = self.pictures.pick(rng, plan.answer_pictures, 0.5)
        pixels, labels = self.pictures.tensors(np.sort(chosen) if not answering else chosen)
        features, latents = self.model.see(pixels)
        loss, right = head_loss(self.model.heads, features, latents, labels)
        for name, (hit, asked) in right.items():
            self.count("(" + name + ")", hit, asked)
        return loss if not answering else weight * loss + self.answer_loss(chosen, latents)

    def answer_loss(self, chosen, latents):
        """Cross entropy of the answers; counts which answers are right as a whole."""
        rows, families = data.question_rows(self.pictures, chosen, self.rng, self.encoder,
                                            self.plan.rows_per_pair, self.keep)
        packed = data.pack(rows)
        logits = self.model.logits(packed, latents[:packed.by_picture.shape[0]])
        wrong = (logits.detach().argmax(-1) != packed.label).numpy()
        start = 0
        for (_, _, learn), family in zip(rows, families, strict=False):
            stop = start + sum(learn)
            self.count(family, float(not wrong[start:stop].any()), 1)
            start = stop
        return F.cross_entropy(logits, packed.label)

    def run(self) -> None:
        """Steps until worker 0 (the one that keeps time) says stop."""
        control = self.shared.control
        while not control[STOP]:
            answering = bool(control[ANSWERING])
            length = self.plan.answer_minutes if answering else self.plan.see_minutes
            share = min(1.0, float(control[ELAPSED]) / (60 * length))
            muon, adam, weight = rates(self.plan, answering, share)
            self.shared.grads[self.index].zero_()
            self.loss(answering, weight).backward()
            self.barrier.wait()
            self.optimizer.vision_factor = self.plan.vision_share if answering else 1.0
            self.optimizer.step(muon, adam, int(control[STEP]) + 1, answering)
            self.barrier.wait()
            if self.index == 0:
                self.options["after_step"](self)
            self.barrier.wait()


class Clock:
    """Worker 0's bookkeeping: time, phases, logs, checkpoints."""

    def __init__(self, run, shared):
        self.run, self.shared = run, shared
        self.last = self.logged = self.saved = self.exported = time.time()

    def __call__(self, worker: Worker) -> None:
        control, plan, now = self.shared.control, worker.plan, time.time()
        control[ELAPSED] += now - self.last
        control[STEP] += 1
        self.last = now
        answering = bool(control[ANSWERING])
        length = 60 * (plan.answer_minutes if answering else plan.see_minutes)
        share = float(control[ELAPSED]) / length
        if int(control[STEP]) % 10 == 0:
            data.progress("answering" if answering else "seeing", min(1, share),
                          f"step {int(control[STEP])}")
        if now - self.logged > 60 or share >= 1:
            self.logged = now
            self.run.log(worker)
        if share >= 1 and not answering:
            self.run.write_places(worker)
            control[ANSWERING], control[ELAPSED], share = 1, 0, 0
            self.saved = 0.0
        elif share >= 1:
            control[STOP] = 1
        if now - self.saved > 180 or share >= 1:
            self.saved = now
            self.run.save(self.shared)
        if answering and now - self.exported > 600 and share < 1:
            self.exported = now
            export.write(worker.model, self.run.tokenizer, os.path.join(self.run.work, "hf"))
        self.last = time.time() if share == 0 else self.last


class Run:
    """A training run in a work folder: prepares, trains, saves and exports."""

    def __init__(self, work: str, out: str, plan: Plan, seed: int, pictures: int):
        self.work, self.out, self.plan = work, out, plan
        self.seed, self.pictures = seed, pictures
        self.tokenizer = os.path.join(work, "tokenizer")
        self.checkpoint = os.path.join(work, "checkpoint.pt")

    def save(self, shared: Shared) -> None:
        """Write the resumable state (atomically)."""
        state = {k: getattr(shared, k) for k in ("values", "momentum", "square", "control")}
        torch.save(state, self.checkpoint + ".new")
        os.replace(self.checkpoint + ".new", self.checkpoint)

    def load(self, shared: Shared) -> None:
        """Go on from the saved state where there is one."""
        if os.path.exists(self.checkpoint):
            for name, value in torch.load(self.checkpoint).items():
                getattr(shared, name).copy_(value)

    def log(self, worker: Worker) -> None:
        """One line per minute with the right share of every family; then forget half."""
        control = self.shared.control
        shares = {name: round(100 * worker.statistics.share(k, -0.01), 1)
                  for k, name in enumerate(worker.names)
                  if worker.statistics.table[:, k, 1].sum() >= 8}
        families = [v for k, v in shares.items() if not k.startswith("(")]
        line = {"time": time.strftime("%H:%M:%S"), "step": int(control[STEP]),
                "minutes": round(float(control[ELAPSED]) / 60, 2),
                "phase": "B" if control[ANSWERING] else "A",
                "mean": round(float(np.mean(families)), 2) if families else None,
                "place share": round(place_share(worker), 4), "right": shares}
        with open(os.path.join(self.work, "log.jsonl"), "a") as file:
            file.write(json.dumps(line) + "\n")
        worker.statistics.table *= 0.25

    def write_places(self, worker: Worker) -> None:
        """Scale the places in the latents until they are 20 % of what varies among them."""
        latents = worker.model.model.perceiver_resampler.latents
        with torch.no_grad():
            start = latents[:9].clone()
            rows = start.view(3, 3, -1).mean(1, keepdim=True)
            columns = start.view(3, 3, -1).mean(0, keepdim=True)
            mean = start.mean(0)
            code = ((rows - mean) + (columns - mean)).flatten(0, 1)
            for extra in np.arange(0, 8, 0.25):
                latents[:9] = start + float(extra) * code
                if place_share(worker) >= 0.2:
                    break
        print(f"\nplace code: {extra} x, share {place_share(worker):.3f}", flush=True)

    def train(self) -> None:
        """Prepare, train to the end of the plan and export."""
        from . import tokenizer
        os.makedirs(self.work, exist_ok=True)
        if not os.path.exists(os.path.join(self.tokenizer, "tokenizer.json")):
            tokenizer.build(self.tokenizer)
        data.prepare(self.work, self.seed, self.pictures, WORKERS)
        torch.set_num_threads(1)
        model = SmallIdefics(Dims())
        initialise(model, self.seed)
        self.shared = Shared(model, WORKERS)
        self.load(self.shared)
        self.shared.control[STOP] = 0
        context = torch.multiprocessing.get_context("fork")
        barrier, statistics = context.Barrier(WORKERS), Statistics()
        options = {"work": self.work, "seed": self.seed, "pictures": self.pictures,
                   "tokenizer": self.tokenizer, "after_step": Clock(self, self.shared)}
        arguments = (self.shared, statistics, statistic_names(), barrier, self.plan, options)
        helpers = [context.Process(target=work, args=(i, *arguments), daemon=True)
                   for i in range(1, WORKERS)]
        for helper in helpers:
            helper.start()
        work(0, *arguments)
        for helper in helpers:
            helper.join()
        self.shared.attach(model, 0)
        export.write(model, self.tokenizer, self.out)


def work(*arguments) -> None:
    """Body of a worker process."""
    Worker(*arguments).run()


def statistic_names() -> list:
    """Names of all statistics: question families and, in brackets, the throwaway heads."""
    from . import questions
    names = ["dialogue", "few-shot caption", "first or second", "which picture",
             "same or not", "small talk", "arithmetic"]
    for table in (questions.ONE, questions.SEVERAL, questions.WORD, questions.NUMBER):
        names += [n for n in table if n not in names]
    return names + ["(" + n + ")" for n in ("cell", "cell color", "patch", "patch color",
                                            "word", "digit", "count", "text color",
                                            "char", "letters")]


@torch.no_grad()
def place_share(worker: Worker) -> float:
    """Share of the variance among occupied latents that their place explains."""
    rng = np.random.default_rng(1)
    chosen = worker.pictures.several[rng.choice(len(worker.pictures.several), 128, replace=False)]
    pixels, labels = worker.pictures.tensors(chosen)
    latents = worker.model.see(pixels)[1][:, :9]
    taken = labels["cell"][..., 0] > 0
    overall = latents[taken].var(0, unbiased=False).sum()
    center = latents[taken].mean(0)
    between = sum(taken[:, c].sum() * (latents[:, c][taken[:, c]].mean(0) - center).square().sum()
                  for c in range(9)) / taken.sum()
    return float(between / overall)
