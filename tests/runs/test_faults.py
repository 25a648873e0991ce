"""Every call to the disk may fail, fill the disk or be the last: no success that is not one, and no byte lost.

`benchmarks/faults.py` disturbs every call of every job; here it is every call of one and some of the others.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults import WAYS, Disturbance, Job, all_jobs, check, files_in, in_fork, sweep

from lasttoken.core.locks import exclusive
from lasttoken.core.storage import write_bytes

pytestmark = pytest.mark.slow

STRIDES = {
    "predict.csv": 9, "predict.jsonl.gz": 11, "predict.parquet": 13, "train": 90, "train --overwrite": 120, "export": 7,
    "fetch": 2, "cache": 5,
}  # fmt: skip


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Job]]:
    with all_jobs(tmp_path_factory.mktemp("jobs").resolve()) as found:
        yield found


@pytest.mark.parametrize("name", STRIDES)
def test_a_disturbed_job_is_rejected_or_right_and_the_next_one_ends_as_if_nothing_had_been(
    name: str, jobs: dict[str, Job], tmp_path: Path
) -> None:
    n_calls, n_runs, faults = sweep(jobs[name], tmp_path.resolve() / "sweep", stride=STRIDES[name])
    assert faults == []
    assert n_calls > 10
    assert n_runs >= n_calls // STRIDES[name] * len(WAYS)


def test_a_job_that_writes_in_place_is_found_out(tmp_path: Path) -> None:
    """The disturbance itself: what is not written beside and renamed is torn by a kill, or lost by a full disk."""

    def in_place(folder: Path) -> None:
        (folder / "file").write_bytes(b"new content")

    def beside(folder: Path) -> None:
        with exclusive(folder / "file"):
            write_bytes(folder / "file", b"new content")

    def prepare(folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(b"earlier")

    careless = Job("careless", in_place, in_place, files_in, prepare, ("file",))
    careful = Job("careful", beside, beside, files_in, prepare, ("file",))
    assert sweep(careful, tmp_path.resolve() / "careful")[2] == []
    n_calls, _, faults = sweep(careless, tmp_path.resolve() / "careless")
    assert n_calls == 2  # open, write
    assert {fault.split(" at ")[0] for fault in faults} == {f"careless, {way}" for way in WAYS}


def test_a_success_that_is_none_is_found_out(tmp_path: Path) -> None:
    def silent(folder: Path) -> None:
        try:
            write_bytes(folder / "file", b"content")
        except Exception:
            return

    job = Job("silent", silent, silent, files_in, lambda folder: folder.mkdir(parents=True))
    faults = check(job, tmp_path.resolve() / "at", {"file": b"content"}, 2, "full")
    assert any("a success that is none" in fault for fault in faults)


def test_calls_elsewhere_are_not_counted(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()

    def work() -> None:
        write_bytes(tmp_path / "there", b"")
        os.mkdir(tmp_path / "there.d")

    assert in_fork(work, tmp_path / "here").n_calls == 1  # the fsync, whose file has no name
    assert Disturbance(tmp_path).n == 0
