"""The run directory: finished means metrics.json, and nothing that is not a run's is ever lost."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import pytest

from lasttoken.classifier.run_dir import FILES, FINAL, FOLDERS, RunDir
from lasttoken.core.errors import RunError, StorageError


def run_at(path: Path, *, finished: bool = True) -> RunDir:
    """A run directory with every file and folder of a run, and something of the user's own."""
    for name in (*FILES, *FOLDERS):
        target = path / name / "content" if name in FOLDERS else path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("earlier")
    (path / "run.toml").write_text('[settings]\nrecipe = "book"\n')
    (path / "notes.txt").write_text("the user's own")
    if finished:
        (path / FINAL).write_text('{"n": 1}')
    return RunDir(path)


def test_a_run_is_finished_by_its_metrics_alone(tmp_path: Path) -> None:
    run = run_at(tmp_path / "run", finished=False)
    left_by_a_killed_process = [run.path / "report.html.tmp-1-ab", run.path / "curves" / "loss.svg.tmp-1-ab"]
    for path in left_by_a_killed_process:
        path.write_text("half")
    assert not run.is_finished
    run.write_metrics({"accuracy": 0.5, "labels": ["né"]})
    assert run.is_finished
    assert run.read_metrics() == {"accuracy": 0.5, "labels": ["né"]}
    assert not run.resume_file.exists(), "what only an unfinished run needs goes"
    assert not any(path.exists() for path in left_by_a_killed_process)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_is_absent_empty_or_an_unfinished_run_is_free(overwrite: bool, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    run_at(tmp_path / "unfinished", finished=False)
    (tmp_path / "killed").mkdir()
    (tmp_path / "killed" / "run.toml.tmp-12-ab").write_text("")
    (tmp_path / "killed" / "splits").mkdir()
    for name in ("absent", "absent/deeper", "empty", "unfinished", "killed"):
        RunDir(tmp_path / name).check_free(overwrite)


def test_a_finished_run_is_kept_unless_overwriting(tmp_path: Path) -> None:
    run = run_at(tmp_path / "run")
    with pytest.raises(RunError, match=r"finished run.*--overwrite"):
        run.check_free(overwrite=False)
    run.check_free(overwrite=True)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_of_something_else_is_never_taken(overwrite: bool, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    (tmp_path / "config.json").write_text("")
    with pytest.raises(RunError, match=r"thesis\.tex.*--out"):
        RunDir(tmp_path).check_free(overwrite)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_is_no_folder(overwrite: bool, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"--out .*file is a file; give a folder"):
        RunDir(tmp_path / "file").check_free(overwrite)


def test_clearing_takes_a_runs_files_its_metrics_first_and_leaves_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_at(tmp_path / "run")
    (run.path / "model.safetensors.tmp-1-ab").write_text("half")
    gone: list[str] = []
    unlink = Path.unlink

    def noted(self: Path, missing_ok: bool = False) -> None:
        gone.append(self.name)
        unlink(self, missing_ok)

    monkeypatch.setattr(Path, "unlink", noted)
    run.clear()
    assert gone[0] == FINAL
    assert [path.name for path in run.path.iterdir()] == ["notes.txt"]
    RunDir(tmp_path / "new" / "run").clear()
    assert (tmp_path / "new" / "run").is_dir()


@pytest.mark.parametrize(
    ("code", "says"), [(errno.ENOSPC, "the disk is full"), (errno.EACCES, "no permission to write")]
)
def test_a_rejected_write_is_one_sentence_and_the_run_stays_unfinished(
    code: int, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_at(tmp_path / "run", finished=False)

    def rejected(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", rejected)
        for write in (run.write_metrics, run.write_toml, run.append_history):
            with pytest.raises(StorageError, match=says):
                write({"n": 1})
        with pytest.raises(StorageError, match=says):
            run.write_history([{"n": 1}])
    assert not run.is_finished
    assert run.resume_file.exists()
    assert run.read_toml() == {"settings": {"recipe": "book"}}
    assert not list(run.path.glob("*.tmp-*"))


def test_history_grows_line_by_line_and_can_be_written_anew(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    run.write_history([])
    run.append_history({"step": 1, "note": "né\n"})
    run.append_history({"step": 2})
    path = run.path / "history.jsonl"
    assert [json.loads(line) for line in path.read_text("utf-8").splitlines()] == [
        {"step": 1, "note": "né\n"},
        {"step": 2},
    ]
    run.write_history([{"step": 9}])
    assert path.read_text() == '{"step": 9}\n'


def test_settings_come_back_as_they_were_written(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    content = {"settings": {"text": ["a b"], "learning_rate": 5e-05, "data": 'C:\\x "y"'}, "trunk": {}}
    run.write_toml(content)
    assert run.read_toml() == content


@pytest.mark.parametrize("content", [None, b"a = = 1", b"\xff\xfe"], ids=["absent", "torn", "not UTF-8"])
def test_unreadable_settings_are_one_sentence(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "run.toml").write_bytes(content)
    with pytest.raises(RunError, match=r"run\.toml cannot be read \(.*\); is .* a run directory\?"):
        RunDir(tmp_path).read_toml()


def test_metrics_that_are_not_there_say_what_the_folder_is(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"there is no run directory .*absent; give the folder"):
        RunDir(tmp_path / "absent").read_metrics()
    with pytest.raises(RunError, match=r"has no metrics\.json: it is not a run directory"):
        RunDir(tmp_path).read_metrics()
    unfinished = run_at(tmp_path / "run", finished=False)
    with pytest.raises(RunError, match=r"not finished; finish it with `lasttoken train --resume --out .*run`"):
        unfinished.read_metrics()


@pytest.mark.parametrize("content", [b'{"n": ', b"\xff"], ids=["torn", "not UTF-8"])
def test_unreadable_metrics_are_one_sentence(content: bytes, tmp_path: Path) -> None:
    (tmp_path / FINAL).write_bytes(content)
    with pytest.raises(RunError, match=r"metrics\.json cannot be read"):
        RunDir(tmp_path).read_metrics()


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("kind", ["link", "dangling", "file"])
def test_what_is_not_a_runs_own_folder_is_neither_followed_nor_removed(name: str, kind: str, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "thesis.csv").write_text("mine")
    run = run_at(tmp_path / "run")
    shutil.rmtree(run.path / name)
    if kind == "file":
        (run.path / name).write_text("mine")
    else:
        (run.path / name).symlink_to(elsewhere if kind == "link" else tmp_path / "nowhere")
    before = sorted(path.name for path in run.path.rglob("*"))
    with pytest.raises(RunError, match=name):
        run.check_free(overwrite=True)
    with pytest.raises(RunError, match=name):
        run.clear()
    assert sorted(path.name for path in run.path.rglob("*")) == before
    assert (elsewhere / "thesis.csv").read_text() == "mine"


def test_a_folder_in_the_place_of_a_file_is_rejected_before_anything_goes(tmp_path: Path) -> None:
    run = run_at(tmp_path / "run")
    (run.path / "report.html").unlink()
    (run.path / "report.html").mkdir()
    with pytest.raises(RunError, match=r"report\.html"):
        run.clear()
    assert run.is_finished


def test_metrics_are_written_without_sweeping_beyond_a_link(tmp_path: Path) -> None:
    run = run_at(tmp_path / "run", finished=False)
    shutil.rmtree(run.path / "curves")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.tmp-1-ab").write_text("mine")
    (run.path / "curves").symlink_to(tmp_path / "elsewhere")
    run.write_metrics({})
    assert (tmp_path / "elsewhere" / "a.tmp-1-ab").is_file()


def test_a_training_that_can_be_resumed_is_kept_where_it_must_be(tmp_path: Path) -> None:
    run = run_at(tmp_path / "run", finished=False)
    run.check_free(overwrite=False)
    with pytest.raises(RunError, match="--resume"):
        run.check_free(overwrite=False, replace_unfinished=False)


def test_nan_is_null_in_what_a_run_writes(tmp_path: Path) -> None:
    run = run_at(tmp_path / "run", finished=False)
    run.append_history({"loss": float("nan")})
    run.write_metrics({"ece": float("inf")})
    assert json.loads((run.path / FINAL).read_text(), parse_constant=pytest.fail) == {"ece": None}
    assert (run.path / "history.jsonl").read_text().endswith('{"loss": null}\n')


def test_a_file_and_a_folder_of_runs_are_named_with_what_to_give(tmp_path: Path) -> None:
    (tmp_path / "reviews.csv").touch()
    with pytest.raises(RunError, match=r"reviews\.csv is a file"):
        RunDir(tmp_path / "reviews.csv").read_metrics()
    run_at(tmp_path / "spam")
    with pytest.raises(RunError, match=r"metrics\.json.*such as .*spam"):
        RunDir(tmp_path).read_metrics()
