# SPDX-License-Identifier: Apache-2.0
"""One commit of a repository on the Hugging Face hub: what is in it, and its files, each compared
with the hash that the hub states.

huggingface_hub speaks to the hub (HF_ENDPOINT, HF_TOKEN, HF_HOME, HF_HUB_OFFLINE, proxies,
retries); it takes a body of the right size for the right one, so contents are compared here.
"""

import hashlib
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from .errors import ExportError
from .writer import check_free_space

CHUNK_BYTES = 8 << 20
# That brought nothing new, one after the other; the library itself tries each five times.
ATTEMPTS = 3
PAUSE_S = 1.0  # between them

# As is_hub_name of scripts/environment.sh tells it.
_NAME = re.compile(r"(?P<repo>\w[\w.-]*/\w[\w.-]*)(@(?P<revision>[\w./-]+))?")


@dataclass(frozen=True)
class HubName:
    repo: str  # ORG/NAME
    revision: str | None  # a branch, a tag or a commit; None: main

    def __str__(self) -> str:
        return f"{self.repo}@{self.revision}" if self.revision else self.repo


def parse_hub_name(text: str) -> HubName | None:
    """Of "ORG/NAME" or "ORG/NAME@REVISION"."""
    match = _NAME.fullmatch(text)
    return HubName(match["repo"], match["revision"]) if match else None


@dataclass(frozen=True)
class HubFile:
    name: str
    bytes: int
    sha256: str | None  # None: no LFS file, `blob` is its hash
    blob: str  # git's, of the file or of its LFS pointer


def _hub() -> Any:
    """The library; it takes a second to load, and exports of folders need not have it."""
    try:
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.errors
        import huggingface_hub.file_download
        import huggingface_hub.utils
    except ImportError:
        raise ExportError(
            "the hub's client is not installed: scripts/setup.sh --hub fetches it"
        ) from None
    huggingface_hub.utils.disable_progress_bars()
    huggingface_hub.utils.logging.set_verbosity_error()
    return huggingface_hub


@contextmanager
def hub_errors(name: HubName) -> Iterator[None]:
    """Turns what the library raises into one sentence that says what to do."""
    errors = _hub().errors
    page = f"{_hub().constants.ENDPOINT}/{name.repo}"
    try:
        yield
    except errors.OfflineModeIsEnabled:
        raise ExportError(
            f"HF_HUB_OFFLINE is set, and {name} is not in this machine's cache of the "
            f"hub: unset it, or run `hf download {name.repo}` where there is a network"
        ) from None
    except errors.GatedRepoError:
        raise ExportError(
            f"{name.repo} is gated: ask for access on {page}, then set HF_TOKEN to a "
            "token of your account"
        ) from None
    except errors.RevisionNotFoundError:
        raise ExportError(
            f"{name.repo} has no revision {name.revision}: {page} lists them"
        ) from None
    except errors.RepositoryNotFoundError:
        raise ExportError(
            f"{name.repo} is neither a folder here nor a repository on the hub ({page}); "
            "a private one needs HF_TOKEN"
        ) from None
    except errors.HTTPError as error:  # of the connection too
        raise ExportError(
            f"the hub did not give {name} ({_first_line(error)}): run the export again, it "
            "goes on where it was"
        ) from None


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def is_offline() -> bool:
    return bool(_hub().constants.is_offline_mode())


def cached_folder(name: HubName) -> Path:
    """The checkpoint as another program left it in this machine's cache of the hub."""
    with hub_errors(name):
        try:
            return Path(
                _hub().snapshot_download(name.repo, revision=name.revision, local_files_only=True)
            )
        except _hub().errors.LocalEntryNotFoundError:
            raise _hub().errors.OfflineModeIsEnabled from None


class HubRepo:
    def __init__(self, name: HubName):
        """Asks the hub once. Raises ExportError."""
        with hub_errors(name):
            info = _hub().HfApi().model_info(name.repo, revision=name.revision, files_metadata=True)
        self.name = name
        self.commit: str = info.sha
        self.files = {
            file.rfilename: HubFile(
                file.rfilename, file.size, file.lfs.sha256 if file.lfs else None, file.blob_id
            )
            for file in info.siblings
        }

    def header(self, file: str) -> dict[str, tuple[str, tuple[int, ...]]]:
        """{tensor: (dtype, shape)} of a safetensors file, by ranges of it."""
        hub = _hub()
        with hub_errors(self.name):
            try:
                found = hub.HfApi().parse_safetensors_file_metadata(
                    self.name.repo, file, revision=self.commit
                )
            except hub.errors.SafetensorsParsingError:
                raise ExportError(
                    f"{file} of {self.name} does not begin as a safetensors file"
                ) from None
        return {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in found.tensors.items()}

    def fetch(self, file: HubFile, folder: Path, advance: Callable[[int], None]) -> Path:
        """The file, whole and of the right hash: from the hub's cache on this machine, or in
        `folder`, where a part that an earlier run left is gone on with. `advance` is told every
        byte; what it raises ends the download."""
        cached = self._cached(file.name)
        if cached is not None and _hash(cached, file) == _promised(file):
            advance(file.bytes)
            return cached
        whole = folder / file.name
        if whole.exists():
            advance(file.bytes)
        else:
            part = folder / f"{file.name}.part"
            self._download(file, part, advance)
            if _hash(part, file) != _promised(file):
                part.unlink()
                raise self._other_bytes(file)
            part.rename(whole)
        return whole

    def describe(self, num_files: int, fetched: int) -> str:
        """What of it will come over the network, and how long that takes."""
        return (
            f"{self.name.repo} at {self.commit[:12]}: {num_files} weight files. "
            f"{fetched / 1e9:.2f} GB to fetch ({_duration(fetched * 8 / 1e8)} at 100 Mbit/s, "
            f"{_duration(fetched * 8 / 1e9)} at 1 Gbit/s)"
        )

    def fetch_to_cache(self, small: Sequence[str], weights: Sequence[str]) -> Path:
        """The folder of the hub's cache on this machine that holds these files, whole and right.
        Says first what is to come; the library draws how far it is."""
        hub = _hub()
        names = [*small, *weights]
        fetched = sum(self.files[name].bytes for name in names if self._cached(name) is None)
        cache = Path(hub.constants.HF_HUB_CACHE)
        print(
            f"export: {self.describe(len(weights), fetched)}; they stay in {cache}",
            file=sys.stderr,
        )
        cache.mkdir(parents=True, exist_ok=True)
        check_free_space(cache, fetched, "this machine's cache of the hub")
        with hub_errors(self.name):
            hub.utils.enable_progress_bars()  # until the next _hub()
            folder = Path(
                hub.snapshot_download(
                    self.name.repo, revision=self.commit, allow_patterns=names
                )
            )
        for name in names:
            if _hash(folder / name, self.files[name]) != _promised(self.files[name]):
                (folder / name).resolve().unlink()
                raise self._other_bytes(self.files[name])
        return folder

    def _cached(self, name: str) -> Path | None:
        found = _hub().try_to_load_from_cache(self.name.repo, name, revision=self.commit)
        return Path(found) if isinstance(found, str) else None

    def _other_bytes(self, file: HubFile) -> ExportError:
        return ExportError(
            f"{file.name} of {self.name} came with other bytes than the hub promises "
            f"(hash {_promised(file)}): run the export again"
        )

    def _download(self, file: HubFile, part: Path, advance: Callable[[int], None]) -> None:
        """Appends to `part` until it is as long as the file."""
        part.parent.mkdir(parents=True, exist_ok=True)
        with part.open("ab") as out, hub_errors(self.name):
            if out.tell() > file.bytes:
                out.truncate(0)
            advance(out.tell())
            failed = 0
            while out.tell() < file.bytes:
                before = out.tell()
                try:
                    self._append(file, out, advance)
                except (_hub().errors.HTTPError, OSError) as error:
                    failed = 0 if out.tell() > before else failed + 1
                    if failed == ATTEMPTS or not _may_pass(error):
                        raise
                    time.sleep(PAUSE_S)

    def _append(self, file: HubFile, out: BinaryIO, advance: Callable[[int], None]) -> None:
        hub = _hub()
        hub.file_download.http_get(
            hub.hf_hub_url(self.name.repo, file.name, revision=self.commit),
            _Watched(out, advance),
            resume_size=out.tell(),
            headers=hub.utils.build_hf_headers(),
            expected_size=file.bytes,
            displayed_filename=file.name,
        )


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


class _Watched:
    """A file that says what is written to it."""

    def __init__(self, file: BinaryIO, advance: Callable[[int], None]):
        self._file = file
        self._advance = advance

    def write(self, data: bytes) -> int:
        self._file.write(data)
        self._file.flush()
        self._advance(len(data))
        return len(data)

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int) -> int:
        """Back, where the server sends the whole file instead of the rest that was asked for."""
        self._advance(offset - self._file.tell())
        return self._file.seek(offset)

    def truncate(self) -> int:
        return self._file.truncate()


def _may_pass(error: Exception) -> bool:
    """Whether the same request may succeed later: a broken connection, a server that is busy; not
    where this machine's disk is full."""
    if getattr(error, "errno", None) is not None:
        return False
    response = getattr(error, "response", None)
    return response is None or response.status_code >= 500 or response.status_code in (408, 429)


def _promised(file: HubFile) -> str:
    return file.sha256 or file.blob


def _hash(path: Path, file: HubFile) -> str:
    """As git would say it where the hub has no sha256."""
    digest = hashlib.sha256() if file.sha256 else hashlib.sha1(b"blob %d\0" % file.bytes)
    with path.open("rb") as stream:
        while data := stream.read(CHUNK_BYTES):
            digest.update(data)
    return digest.hexdigest()
