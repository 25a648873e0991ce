"""Worker processes: each part is written, whoever dies; errors and endless deaths end the job."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest
from worker_tasks import Files

from lasttoken.bulk.workers import MOST_DEATHS, Pool
from lasttoken.core.errors import DataError, FailedError


def test_every_part_is_written_once_and_the_end_is_found(tmp_path: Path) -> None:
    with Pool(Files(tmp_path, 7), 2) as pool:
        finished = dict(pool.run(itertools.count(2)))
    assert finished == {number: 10 + number for number in range(2, 7)}
    assert {path.name for path in tmp_path.iterdir()} == {"2", "3", "4", "5", "6"}


def test_the_part_of_a_worker_that_dies_goes_to_another(tmp_path: Path) -> None:
    said: list[str] = []
    with Pool(Files(tmp_path, 6, deadly=(1, 4)), 2, said.append) as pool:
        assert sorted(number for number, _ in pool.run(iter(range(6)))) == list(range(6))
    assert len(said) == 2
    assert all("signal 9" in sentence for sentence in said)


def test_a_part_that_ends_every_worker_is_named_after_all_others_are_written(tmp_path: Path) -> None:
    with (
        Pool(Files(tmp_path, 6, deadly=(0,), always=True), 1) as pool,
        pytest.raises(FailedError, match=f"part 0 .* {MOST_DEATHS} times.*signal 9"),
    ):
        list(pool.run(iter(range(6))))
    assert {path.name for path in tmp_path.iterdir()} == {"died-0", "1", "2", "3", "4", "5"}


def test_no_worker_gets_the_interrupt_of_a_terminal(tmp_path: Path) -> None:
    """In a process of its own: its first worker starts the resource tracker, which unblocks SIGINT."""
    code = f"""
from pathlib import Path
from worker_tasks import Masks
from lasttoken.bulk.workers import Pool
with Pool(Masks(Path({str(tmp_path)!r})), 2) as pool:
    list(pool.run(iter(range(2))))
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=120)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["blocked"] * 2


def test_an_error_of_a_worker_is_the_error_of_the_job(tmp_path: Path) -> None:
    with Pool(Files(tmp_path, 6, faulty=3), 2) as pool, pytest.raises(DataError, match="part 3"):
        list(pool.run(iter(range(6))))
