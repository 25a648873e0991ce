"""The parent's private folder: copies of the runs, the workers' counters, and their numbers of connections.

    lasttoken-serve-XXXX/          mode 700, removed when the server ends
        lock                       held while the parent lives
        connections                one number for each worker, mapped by all (accepting.py)
        metrics/                   counters of all workers, mapped (../metrics.py)
        runs-0/spam/…              what a worker reads of each run, as it was when the server started
        runs-1/spam/…              the same after a rolling restart

All workers map the weights of one copy, so that its pages are in memory once. Nobody writes into the copy: a run that
is replaced or removed while the server runs changes no answer, also not those of a worker that is started later.
"""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from lasttoken.core.errors import RunError, StorageError
from lasttoken.core.storage import storage_errors

PREFIX = "lasttoken-serve-"
SWEEP_AFTER_S = 60.0  # a folder without a lock is left alone for so long: its server may be about to lock it
NEEDED = ("config.json", "model.safetensors", "tokenizer.json", "metrics.json")
IF_THERE = ("ngrams.json", "ngrams.safetensors", "run.toml")


@contextlib.contextmanager
def private_folder() -> Iterator[Path]:
    """A new folder that only this user can read, removed at the end; those that killed servers left are removed first.

    Raises:
        StorageError: no permission, or a full disk.
    """
    parent = Path(tempfile.gettempdir())
    _sweep(parent)
    with storage_errors(parent):
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    try:
        with storage_errors(folder), (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            (folder / "metrics").mkdir()
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def copy_runs(runs: Sequence[Path], names: Sequence[str], folder: Path) -> list[Path]:
    """Copy what a server reads of each run into `folder`; returns the copies.

    Raises:
        RunError: not a finished run, or one that is being written.
        StorageError: no room for the copies.
    """
    try:
        return [_copy(run, folder / name) for run, name in zip(runs, names, strict=True)]
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _copy(run: Path, copy: Path) -> Path:
    from lasttoken.classifier.run_dir import RunDir  # not at the top: it takes a tenth of a second

    finished = RunDir(run)
    before = finished.read_metrics()
    with storage_errors(copy):
        copy.mkdir(parents=True)
        for name in (*NEEDED, *IF_THERE):
            if name in IF_THERE and not (run / name).is_file():
                continue
            try:
                shutil.copyfile(run / name, copy / name)
            except FileNotFoundError as error:
                raise RunError(f"{run} holds no {name}; it is not the folder of a finished run") from error
            except OSError as error:
                if error.filename2 is None and Path(str(error.filename)) == run / name:
                    raise RunError(f"{run / name} cannot be read ({error.strerror}); check its permissions") from error
                raise
    if finished.read_metrics() != before:  # a training removes metrics.json first and writes it last
        raise RunError(f"the run {run} was replaced while it was read; try again when its training has finished")
    return copy


def _sweep(parent: Path) -> None:
    """Remove this user's folders whose server was killed."""
    for folder in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError, StorageError):
            if time.time() - folder.stat().st_mtime < SWEEP_AFTER_S:
                continue
            with (folder / "lock").open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
