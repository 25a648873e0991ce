"""One process for each output: a second one is rejected, and what a killed one left disturbs nobody."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock
import pytest
from miniature import run_cli

from lasttoken.core.errors import RunError, StorageError
from lasttoken.core.locks import exclusive
from lasttoken.core.storage import LOCK_INSIDE, write_text
from lasttoken.estimator import TextClassifier

FORK = multiprocessing.get_context("fork")


def hold(path: Path, pipe: Any) -> None:
    with exclusive(path):
        pipe.send("held")
        pipe.recv()


@contextmanager
def held(path: Path) -> Iterator[Any]:
    """Another process holds an output."""
    ours, theirs = FORK.Pipe()
    process = FORK.Process(target=hold, args=(path, theirs))
    process.start()
    assert ours.poll(30)
    assert ours.recv() == "held"
    try:
        yield process
    finally:
        if process.is_alive():
            ours.send("stop")
        process.join(30)


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


# The lock itself ----------------------------------------------------------------------------------------------------


def test_a_second_process_is_rejected_by_name_and_the_first_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "scored.csv"
    with held(path), pytest.raises(RunError, match=r"scored\.csv"), exclusive(path):
        pytest.fail("two processes hold one output")
    with exclusive(path):
        write_text(path, "done")
    assert names(tmp_path) == ["scored.csv"]


def test_a_second_thread_or_call_is_rejected(tmp_path: Path) -> None:
    with exclusive(tmp_path / "a"), pytest.raises(RunError), exclusive(tmp_path / "a"):
        pytest.fail("held twice")
    with exclusive(tmp_path / "a"), exclusive(tmp_path / "b"):
        pass


@pytest.mark.parametrize("spelling", ["link", "folder/../out", "./out", "linked/out"])
def test_other_spellings_are_the_same_output(spelling: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("out")
    (tmp_path / "linked").symlink_to(tmp_path)
    with exclusive(tmp_path / "out"), pytest.raises(RunError), exclusive(Path(spelling)):
        pytest.fail("held twice")


def test_a_killed_process_holds_nothing_and_what_it_left_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with held(path) as process:
        os.kill(process.pid, signal.SIGKILL)
        process.join(30)
    assert names(tmp_path) == [".out.lock"]
    (tmp_path / "out.tmp-12-ab12cd34").mkdir()
    (tmp_path / "out.tmp-12-ab12cd34" / "weights").write_text("half")
    for name in ("other.tmp-12-ab12cd34", "out.tmp-backup", "out.csv.tmp-12-ab12cd34"):
        (tmp_path / name).write_text("not of this output")
    with exclusive(path):
        pass
    assert names(tmp_path) == ["other.tmp-12-ab12cd34", "out.csv.tmp-12-ab12cd34", "out.tmp-backup"]


def test_folders_that_were_made_for_a_lock_go_with_it(tmp_path: Path) -> None:
    with exclusive(tmp_path / "a" / "b" / "out"):
        pass
    assert names(tmp_path) == []
    with exclusive(tmp_path / "a" / "b" / "out"):
        write_text(tmp_path / "a" / "b" / "out", "")
    assert names(tmp_path) == ["a", "a/b", "a/b/out"]


def test_a_folder_in_a_parent_that_cannot_be_written_is_locked_inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "volume").mkdir()
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path and access(path, mode))
    with exclusive(tmp_path / "volume"):
        assert names(tmp_path) == ["volume", f"volume/{LOCK_INSIDE}"]
        with pytest.raises(RunError), exclusive(tmp_path / "volume"):
            pytest.fail("held twice")
    assert names(tmp_path) == ["volume"]


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_kernel_locks_is_locked_by_the_file(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rejected(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("fcntl.flock", rejected)
    with exclusive(tmp_path / "out"), pytest.raises(RunError), exclusive(tmp_path / "out"):
        pytest.fail("held twice")
    assert names(tmp_path) == []


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EIO])
def test_a_lock_that_cannot_be_made_is_one_sentence(code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def rejected(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(filelock.FileLock, "acquire", rejected)
    with pytest.raises(StorageError, match="scored"), exclusive(tmp_path / "new" / "scored"):
        pytest.fail("not held")
    assert names(tmp_path) == []


# What holds it ------------------------------------------------------------------------------------------------------


def test_every_command_that_writes_an_output_is_rejected_while_another_works_on_it(
    run_dir: Path, data: Path, backbone: Path, tmp_path: Path
) -> None:
    training = ["--backbone", backbone, "--offline"]
    commands: dict[str, list[Any]] = {
        "scored.csv": ["predict", run_dir, "--input", data, "--output"],
        "run": ["train", data, *training, "--out"],
        "resumed": ["train", data, *training, "--resume", "--out"],
        "splits": ["split", data, "--out"],
        "hf": ["export", run_dir, "--to", "hf", "--out"],
        "onnx": ["export", run_dir, "--to", "onnx", "--out"],
        "suspects.csv": ["suspects", data, *training, "--out"],
        "curve.svg": ["learning-curve", data, *training, "--out"],
    }
    for name, command in commands.items():
        with held(tmp_path / name):
            answer = run_cli(*command, tmp_path / name)
            assert answer.code == 2, (name, answer.err)
            assert str(tmp_path / name) in answer.err.splitlines()[-1]
            assert names(tmp_path) == [f".{name}.lock"]
    assert names(tmp_path) == []


def test_python_is_rejected_too(run_dir: Path, data: Path, tmp_path: Path) -> None:
    classifier = TextClassifier.load(run_dir)
    calls: list[Callable[[], object]] = [
        lambda: classifier.save(tmp_path / "out"),
        lambda: classifier.predict_file(data, tmp_path / "out"),
    ]
    for call in calls:
        with held(tmp_path / "out"), pytest.raises(RunError, match="out"):
            call()
    assert names(tmp_path) == []


def test_two_outputs_that_share_their_file_of_rejected_rows_do_not_run_at_once(
    run_dir: Path, data: Path, tmp_path: Path
) -> None:
    with held(tmp_path / "scored.rejects.csv"):
        answer = run_cli("predict", run_dir, "--input", data, "--output", tmp_path / "scored.jsonl")
    assert answer.code == 2
    assert "scored.rejects.csv" in answer.err


def predict_together(run_dir: Path, data: Path, output: Path, barrier: Any, codes: Any) -> None:
    barrier.wait(30)
    codes.put(run_cli("predict", run_dir, "--input", data, "--output", output).code)


def test_of_two_jobs_started_together_none_succeeds_with_rows_missing(
    run_dir: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lasttoken.bulk.windows.WINDOW", 4)
    whole, output = tmp_path / "whole.csv", tmp_path / "scored.csv"
    assert run_cli("predict", run_dir, "--input", data, "--output", whole).code == 0
    barrier, codes = FORK.Barrier(2), FORK.Queue()
    both = [FORK.Process(target=predict_together, args=(run_dir, data, output, barrier, codes)) for _ in range(2)]
    for process in both:
        process.start()
    found = sorted(codes.get(timeout=60) for _ in both)
    for process in both:
        process.join(30)
    assert found in ([0, 2], [0, 0])  # the second may have started when the first had finished
    assert output.read_bytes() == whole.read_bytes()
    assert names(tmp_path) == ["scored.csv", "whole.csv"]


def test_saving_does_not_replace_a_training_that_can_be_resumed(run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for name in ("run.toml", "resume.safetensors"):
        (tmp_path / "run" / name).write_text("of the training")
    with pytest.raises(RunError, match="--resume"):
        TextClassifier.load(run_dir).save(tmp_path / "run")
    assert (tmp_path / "run" / "resume.safetensors").is_file()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no /proc, which takes no new files")
def test_a_place_that_takes_no_files_is_not_reported_as_another_process() -> None:
    with pytest.raises(StorageError) as caught, exclusive(Path("/proc/run")):
        pass
    assert "/proc/run" in str(caught.value)
    assert "another process" not in str(caught.value)


def test_a_name_that_is_too_long_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="n" * 253), exclusive(tmp_path / ("n" * 253)):
        pass
