"""A classifier, a file of 60 rows in windows of 7, and a job that broke off."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from lasttoken.bulk import job, windows
from lasttoken.bulk.job import Source, score_file
from lasttoken.classifier.predict import Predictor
from lasttoken.core.errors import StorageError

N = 60
WINDOW = 7


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "WINDOW", WINDOW)


@pytest.fixture(autouse=True)
def empty_memory() -> Iterator[None]:
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]
    yield
    fs.store.clear()


@pytest.fixture(scope="module")
def predictor(run_dir: Path) -> Predictor:
    return Predictor.load(run_dir, "cpu")


@pytest.fixture
def big(tmp_path: Path) -> Path:
    """60 rows of many lengths, three columns."""
    path = tmp_path / "big.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["key", "text", "note"])
        writer.writerows([at, f"Win prize {at} " * (1 + at % 5), 'a "quoted", note'] for at in range(N))
    return path


def interrupted(predictor: Predictor, big: Path, output: Path, after: int = 3) -> None:
    """Leave a job that broke off after some parts."""
    real, calls = job.classify, 0

    def fail(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > after:
            raise StorageError("the disk is full")
        return real(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "classify", fail)
        with pytest.raises(StorageError):
            score_file(lambda: predictor, Source(big), output)
