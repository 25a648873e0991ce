"""Several processes, and several shards, write what one process writes."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from bulk.conftest import N

from lasttoken.bulk.job import Source, score_file
from lasttoken.bulk.model import Model
from lasttoken.bulk.spreading import over_workers, score_folder
from lasttoken.bulk.work import JobSettings, open_job
from lasttoken.classifier.predict import Predictor
from lasttoken.core.errors import SettingsError
from lasttoken.core.progress import Advance, Reporter


class Killer(Reporter):
    """Kills a worker, chosen at random, each time that one of the first parts is finished."""

    def __init__(self, seed: int, n_kills: int) -> None:
        self._draw, self.n_left = random.Random(seed), n_kills

    @contextmanager
    def bar(self, what: str, total: int) -> Iterator[Advance]:
        yield lambda n, note: self._kill()

    def _kill(self) -> None:
        children = multiprocessing.active_children()
        if children and self.n_left:
            self.n_left -= 1
            os.kill(self._draw.choice(children).pid or 0, signal.SIGKILL)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_workers_that_are_killed_write_the_folder_of_one_process(run_dir: Path, big: Path, tmp_path: Path) -> None:
    model = Model(run_dir, "cpu")
    for name, n_workers, reporter in (("one", 1, Reporter()), ("two", 2, Killer(seed=7, n_kills=2))):
        job = open_job(str(big), str(tmp_path / name), JobSettings(), model.describe())
        summary = score_folder(job, model, n_workers=n_workers, reporter=reporter)
        assert summary is not None
        assert summary.counts.n_rows == N
    assert reporter.n_left == 0  # type: ignore[attr-defined]
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


@pytest.mark.parametrize("suffix", [".parquet"])
def test_workers_write_the_file_of_one_process(
    suffix: str, run_dir: Path, predictor: Predictor, big: Path, tmp_path: Path
) -> None:
    score_file(lambda: predictor, Source(big), tmp_path / f"one{suffix}")
    spread = over_workers(Model(run_dir, "cpu"), 2, None, False, Reporter())
    result = score_file(lambda: predictor, Source(big), tmp_path / f"two{suffix}", spread=spread)
    assert result.counts.n_rows == N
    assert (tmp_path / f"one{suffix}").read_bytes() == (tmp_path / f"two{suffix}").read_bytes()
    assert not (tmp_path / f"two{suffix}.parts").exists()


def test_shards_in_any_order_write_the_folder_of_one_process(run_dir: Path, big: Path, tmp_path: Path) -> None:
    model = Model(run_dir, "cpu")
    described = model.describe()
    job = open_job(str(big), str(tmp_path / "one"), JobSettings(), described)
    assert score_folder(job, model, reporter=Reporter()) is not None
    for shard, is_last in (((2, 3), False), ((1, 2), False), ((0, 3), False), ((1, 3), True)):  # (1, 2) overlaps
        job = open_job(str(big), str(tmp_path / "shards"), JobSettings(), described)
        assert (score_folder(job, model, shard=shard, reporter=Reporter()) is not None) == is_last
    assert contents(tmp_path / "one") == contents(tmp_path / "shards")


def test_a_pipe_cannot_be_read_by_several_processes(predictor: Predictor, run_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "pipe.csv"
    os.mkfifo(path)
    writer = multiprocessing.get_context("fork").Process(target=path.write_text, args=("text\nhi\n",))
    writer.start()
    spread = over_workers(Model(run_dir, "cpu"), 2, None, False, Reporter())
    with pytest.raises(SettingsError, match=r"pipe\.csv is a pipe"):
        score_file(lambda: predictor, Source(path), tmp_path / "out.csv", spread=spread)
    writer.join()
