# SPDX-License-Identifier: Apache-2.0
"""Where a checkpoint comes from: a folder of this machine, or a repository on the Hugging Face
hub."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from .checkpoint import Checkpoint, open_folder, weight_files
from .errors import ExportError
from .hub import HubName, HubRepo, cached_folder, is_offline, parse_hub_name
from .hub_weights import HubShards

# What an export reads beside the weights; a repository need not have all of them.
_SMALL_FILES = (
    "config.json",
    "preprocessor_config.json",
    "generation_config.json",
    "tokenizer.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "model.safetensors.index.json",
    "pytorch_model.bin.index.json",
)


@dataclass(frozen=True)
class Source:
    folder: Path  # with config.json and whatever else is small
    name: str
    open: Callable[[], Checkpoint]  # config.json is judged before the weights are looked at
    repository: str = ""  # ORG/NAME on the hub
    commit: str = ""  # of it
    shards: HubShards | None = None  # where the weights arrive while they are read

    @cached_property
    def checkpoint(self) -> Checkpoint:
        return self.open()


@contextmanager
def open_source(text: str, *, whole: bool) -> Iterator[Source]:
    """`text`: a folder, which wins, or ORG/NAME[@REVISION]. `whole`: the weights will be read more
    than once, so they are all fetched first. Raises ExportError."""
    name = parse_hub_name(text)
    if Path(text).is_dir():
        folder = Path(text)
        yield Source(folder, folder.resolve().name, partial(open_folder, folder))
    elif not name:
        raise ExportError(
            f"{text} is not a folder: give a Hugging Face checkpoint folder, or the name of a "
            "repository on the hub, as HuggingFaceM4/idefics-9b-instruct"
        )
    elif is_offline():
        folder = cached_folder(name)
        yield _in_cache(name, folder, folder.name)
    else:
        with _open_repository(HubRepo(name), whole) as source:
            yield source


def _in_cache(name: HubName, folder: Path, commit: str) -> Source:
    return Source(folder, name.repo.split("/")[1], partial(open_folder, folder), name.repo, commit)


@contextmanager
def _open_repository(repo: HubRepo, whole: bool) -> Iterator[Source]:
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        small = [name for name in _SMALL_FILES if name in repo.files]
        for name in small:
            path = repo.fetch(repo.files[name], folder, lambda _: None)
            if path.parent != folder:
                shutil.copyfile(path, folder / name)
        files = weight_files(folder, repo.files.__contains__)
        lost = [name for name in files if name not in repo.files]
        if lost:
            raise ExportError(f"{repo.name} lacks {lost[0]}, which the index of its weights names")
        # Names and shapes are at no known place of a .bin: it has to be here first too.
        if whole or any(name.endswith(".bin") for name in files):
            cached = repo.fetch_to_cache(small, list(files))
            yield _in_cache(repo.name, cached, repo.commit)
            return
        shards = HubShards(repo, list(files))
        checkpoint = partial(
            Checkpoint,
            str(repo.name),
            [
                (f"{shard.file.name} of {repo.name}", shard, expected)
                for shard, expected in zip(shards.files, files.values(), strict=True)
            ],
        )
        try:
            yield Source(
                folder,
                repo.name.repo.split("/")[1],
                checkpoint,
                repo.name.repo,
                repo.commit,
                shards,
            )
        finally:
            shards.stop()
