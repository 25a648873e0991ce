"""The files that a run's rows came from: a resumed run checks whether the files named now are the same.

    run.toml  [origin.data]  path = "/home/ana/messages.csv"  bytes = 482113  sha256 = "9f…"

A resumed run reads its own splits and never these files again, so it reports any difference.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lasttoken.core.errors import RunError
from lasttoken.data.folders import split_name

FLAGS = {"data": "the data file", "validation": "--validation", "test": "--test"}


def describe_origin(path: Path) -> dict[str, str | int]:
    """The absolute path of a file, its size in bytes and its sha256; for a folder, those of all its files together.

    For a folder of splits, only the split files count. Size and sha256 are missing for a missing file and for a pipe.
    """
    described: dict[str, str | int] = {"path": str(path.resolve())}
    files = _files_in(path) if path.is_dir() else [path]
    digest, size = hashlib.sha256(), 0
    try:
        for file in files:
            if not file.is_file():
                return described
            with file.open("rb") as handle:
                digest.update(hashlib.file_digest(handle, "sha256").digest())
                size += handle.tell()
    except OSError:
        return described
    return {**described, "bytes": size, "sha256": digest.hexdigest()} if files else described


def _files_in(folder: Path) -> list[Path]:
    splits = [path for path in folder.iterdir() if split_name(path)]
    return sorted(splits or (path for path in folder.rglob("*") if path.is_file()))


def compare_origins(recorded: Mapping[str, Any], given: Mapping[str, Path], run: Path) -> list[str]:
    """Messages about files that a resumed run does not read.

    Args:
        recorded: the results of `describe_origin` when the run was started, by "data", "validation", "test".
        given: the files named now, by the same names.
        run: the run's folder.

    Raises:
        RunError: a file that is not the one the run was started with.
    """
    notes = []
    for name in FLAGS:
        before = recorded.get(name)
        path = given.get(name) or (Path(before["path"]) if before else None)
        if path is None:
            continue
        now = describe_origin(path)
        if before is None:
            if name == "data":
                notes.append(f"{path} is not read: {run} continues with the rows it was started with")
            continue
        if "sha256" in before and before["sha256"] == now.get("sha256"):
            continue
        if now["path"] != before["path"]:
            raise RunError(
                f"{run} was started with {before['path']}, and {path} is another file; leave out {FLAGS[name]} to "
                "continue that run, or train into another --out"
            )
        if "sha256" in now:
            notes.append(
                f"{path} has changed since {run} was started; it is not read, because a run continues with its rows"
            )
        elif name in given:
            notes.append(f"{path} is not read: {run} continues with the rows it was started with")
    return notes
