# SPDX-License-Identifier: Apache-2.0
"""Writes the files of a bundle folder, hashed on the way, and the folder under its final name only
when whole."""

import dataclasses
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from .errors import ExportError

_FINISHED = ".finished"  # beside a file that is whole and on the disk


@dataclass(frozen=True)
class WrittenFile:
    bytes: int
    sha256: str


class HashedFile:
    """A new file, written from front to back, hashed on the way and on the disk when closed."""

    def __init__(self, path: Path):
        self._path = path
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        self._hash = hashlib.sha256()
        self._bytes = 0

    def write(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        self._hash.update(view)
        self._bytes += len(view)
        while view:
            view = view[os.write(self._fd, view):]

    def close(self) -> WrittenFile:
        os.fsync(self._fd)
        self.abandon()
        return WrittenFile(self._bytes, self._hash.hexdigest())

    def abandon(self) -> None:
        os.close(self._fd)


def write_file(path: Path, data: bytes) -> WrittenFile:
    file = HashedFile(path)
    try:
        file.write(data)
    except BaseException:
        file.abandon()
        raise
    return file.close()


def check_free_space(parent: Path, needed: int, what: str = "the bundle") -> None:
    free = shutil.disk_usage(parent).free
    if free < needed:
        raise ExportError(
            f"{what} needs {needed / 1e9:.2f} GB, {parent} has {free / 1e9:.2f} GB free: "
            f"free some "
            "space or give another place")


def disk_full(path: Path) -> ExportError:
    return ExportError(
        f"the disk of {path} became full while the bundle was written: free some space and run the "
        "export again")


def is_full(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


class BundleFolder:
    """A folder NAME.partial-KEY beside the final one, renamed to it by commit(), removed otherwise.

    It is locked while it is written, so that what an interrupted export left behind can be told
    apart and removed. One that has a key of what it will hold stays where keep() was called, and
    the next export of the same key goes on in it.
    """

    def __init__(self, final: Path, replace: bool, key: str = ""):
        self._final = final
        self._replace = replace
        if os.path.lexists(final) and not replace:
            raise ExportError(
                f"{final} exists already: give another name, or --force to replace it")
        if replace and os.path.lexists(final) and not _is_bundle(final):
            raise ExportError(
                f"{final} exists and is not a bundle: --force replaces bundles only, give "
                f"another name"
            )
        final.parent.mkdir(parents=True, exist_ok=True)
        self.path = final.with_name(f"{final.name}.partial-{key or os.getpid()}")
        _remove_abandoned(final, self.path)
        self._keep = False
        self.path.mkdir(exist_ok=bool(key))
        self._fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._fd)
            raise ExportError(f"another export is writing {self.path}") from None
        self._remove_unfinished()

    def __enter__(self) -> "BundleFolder":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)
        if not self._keep:
            shutil.rmtree(self.path, ignore_errors=True)

    def keep(self) -> None:
        """From here on an export that ends early leaves what it has, and there is a scratch folder.
        REQUIRES: a key."""
        self._keep = True
        self.scratch.mkdir(exist_ok=True)

    def finished(self, name: str) -> WrittenFile | None:
        """What an earlier export of the same key finished under this name."""
        record = self._record(name)
        return WrittenFile(**json.loads(record.read_text())) if record.exists() else None

    def _remove_unfinished(self) -> None:
        for path in self.path.iterdir():
            is_kept = path == self.scratch or path.suffix == _FINISHED
            if not is_kept and not self._record(path.name).exists():
                path.unlink()

    def finish(self, name: str, written: WrittenFile) -> None:
        """The file is on the disk: the next export of the same key need not write it again."""
        record = self._record(name)
        record.with_suffix(".new").write_text(json.dumps(dataclasses.asdict(written)))
        record.with_suffix(".new").rename(record)

    def _record(self, name: str) -> Path:
        return self.path / f"{name}{_FINISHED}"

    @property
    def scratch(self) -> Path:
        """For what the bundle will not hold."""
        return self.path / "scratch"

    def commit(self) -> None:
        shutil.rmtree(self.scratch, ignore_errors=True)
        for record in self.path.glob(f"*{_FINISHED}"):
            record.unlink()
        os.fsync(self._fd)
        old = self._final.with_name(f"{self._final.name}.partial-old-{os.getpid()}")
        if self._replace and os.path.lexists(self._final):
            os.rename(self._final, old)
        os.rename(self.path, self._final)
        parent = os.open(self._final.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)
        shutil.rmtree(old, ignore_errors=True)


def _is_bundle(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink() and ((path / "bundle.json").is_file()
                                                        or not any(path.iterdir()))


def _remove_abandoned(final: Path, but: Path) -> None:
    pattern = re.compile(re.escape(final.name) + r"\.partial-((old-)?\d+|[0-9a-f]{64})")
    for path in final.parent.iterdir():
        if not pattern.fullmatch(path.name) or not path.is_dir() or path == but:
            continue
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
        except BlockingIOError:
            pass  # another export is writing it
        finally:
            os.close(fd)
