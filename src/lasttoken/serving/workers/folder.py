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
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from lasttoken.core.errors import RunError
from lasttoken.core.scratch import scratch_folder
from lasttoken.core.storage import storage_errors

NEEDED = ("config.json", "model.safetensors", "tokenizer.json", "metrics.json")
IF_THERE = ("ngrams.json", "ngrams.safetensors", "run.toml")


@contextlib.contextmanager
def private_folder() -> Iterator[Path]:
    """A new folder that only this user can read, removed at the end; see `scratch_folder`.

    Raises:
        StorageError: no permission, or a full disk.
    """
    with scratch_folder("serve") as folder:
        (folder / "metrics").mkdir()
        yield folder


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
