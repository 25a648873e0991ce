"""Resuming a run: when there is one, and whether its data and its training are the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from miniature import messages, plain_settings, write_messages

from lasttoken.classifier.run_dir import RunDir
from lasttoken.core.errors import RunError, SettingsError
from lasttoken.core.progress import Reporter
from lasttoken.data.files import Examples
from lasttoken.data.folders import write_splits
from lasttoken.data.origin import describe_origin
from lasttoken.data.splitting.splits import Splits
from lasttoken.runs.resume import can_resume, check_data, check_fingerprint, data_files, read_run_splits


class Listener(Reporter):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, sentence: str) -> None:
        self.said.append(sentence)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_messages(tmp_path / "messages.csv", *messages(8))


@pytest.fixture
def unfinished(tmp_path: Path, data: Path) -> RunDir:
    """A run that was killed after it had written what --resume needs."""
    run_dir = RunDir(tmp_path / "run")
    run_dir.path.mkdir()
    facts = {"notes": ["a note"], "left_out": [{"n": 1}]}
    run_dir.write_toml(
        {
            "fingerprint": "f1",
            "origin": {"data": describe_origin(data)},
            "data_facts": facts,
            "label_counts": {"ham": 9},
        }
    )
    texts, labels = messages(8)
    write_splits(Splits(Examples(texts[:6], labels[:6]), Examples(texts[6:], labels[6:]), None), run_dir.splits)
    return run_dir


def test_without_out_there_is_nothing_to_resume() -> None:
    with pytest.raises(SettingsError, match="--out"):
        can_resume(None, Reporter())


def test_an_unfinished_run_is_resumed_and_a_finished_one_is_not(unfinished: RunDir) -> None:
    assert can_resume(unfinished, Reporter())
    unfinished.write_metrics({})
    with pytest.raises(RunError, match=r"finished.*--overwrite"):
        can_resume(unfinished, Reporter())


@pytest.mark.parametrize("missing", ["run.toml", "splits/train.csv"])
def test_a_folder_without_what_resuming_needs_starts_anew_and_says_so(missing: str, unfinished: RunDir) -> None:
    (unfinished.path / missing).unlink()
    listener = Listener()
    assert not can_resume(unfinished, listener)
    assert str(unfinished.path) in listener.said[0]


def test_the_splits_come_back_with_their_facts(unfinished: RunDir) -> None:
    splits = read_run_splits(unfinished, plain_settings())
    assert splits.train.texts == messages(8)[0][:6]
    assert splits.notes == ("a note",)
    assert splits.facts == {"left_out": [{"n": 1}]}
    assert splits.label_counts == {"ham": 9}


def test_the_same_data_is_silent_and_other_data_is_an_error(unfinished: RunDir, data: Path, tmp_path: Path) -> None:
    listener = Listener()
    check_data(unfinished, data, plain_settings(), listener)
    check_data(unfinished, None, plain_settings(), listener)
    assert listener.said == []
    other = write_messages(tmp_path / "other.csv", *messages(4))
    with pytest.raises(RunError, match=r"messages\.csv.*other\.csv"):
        check_data(unfinished, other, plain_settings(), listener)


def test_a_run_of_an_earlier_version_knows_its_data_by_the_settings(unfinished: RunDir, data: Path) -> None:
    unfinished.write_toml({"settings": {"data": str(data)}})
    listener = Listener()
    check_data(unfinished, data, plain_settings(), listener)
    with pytest.raises(RunError, match="another"):
        check_data(unfinished, data.with_name("another.csv"), plain_settings(), listener)


def test_another_fingerprint_is_an_error(unfinished: RunDir) -> None:
    check_fingerprint(unfinished, "f1")
    with pytest.raises(RunError, match="resume"):
        check_fingerprint(unfinished, "f2")


def test_only_files_are_data_files(data: Path) -> None:
    settings = plain_settings(test="test.csv")
    assert data_files(data, settings) == {"data": data, "test": Path("test.csv")}
    assert data_files(Examples(["a"], ["b"]), plain_settings()) == {}
