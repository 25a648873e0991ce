"""Whether a file that is given again is the one a run was started with."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lasttoken.core.errors import RunError
from lasttoken.data.origin import compare_origins, describe_origin

RUN = Path("run")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.csv"
    path.write_text("text,label\na,b\n")
    return path


def test_the_same_content_is_the_same_file_wherever_it_lies(data: Path, tmp_path: Path) -> None:
    recorded = {"data": describe_origin(data)}
    os.utime(data, (0, 0))
    copy = tmp_path / "copy.csv"
    copy.write_bytes(data.read_bytes())
    for given in ({}, {"data": data}, {"data": copy}):
        assert compare_origins(recorded, given, RUN) == []


def test_another_file_is_rejected_and_a_changed_one_reported(data: Path, tmp_path: Path) -> None:
    recorded = {"data": describe_origin(data)}
    other = tmp_path / "other.csv"
    other.write_text("text,label\nc,d\n")
    for path in (other, tmp_path / "absent.csv"):
        with pytest.raises(RunError, match=path.name) as caught:
            compare_origins(recorded, {"data": path}, RUN)
        assert "data.csv" in str(caught.value)
    data.write_text("text,label\nc,d\n")
    for given in ({"data": data}, {}):
        assert "data.csv" in compare_origins(recorded, given, RUN)[0]
    data.unlink()
    assert compare_origins(recorded, {}, RUN) == []
    assert "data.csv" in compare_origins(recorded, {"data": data}, RUN)[0]


@pytest.mark.parametrize("flag", ["validation", "test"])
def test_the_files_of_flags_are_compared_too(flag: str, data: Path) -> None:
    recorded = {"data": describe_origin(data), flag: describe_origin(data)}
    other = data.with_name("other.csv")
    other.write_text("text,label\nc,d\n")
    with pytest.raises(RunError, match=f"--{flag}"):
        compare_origins(recorded, {flag: other}, RUN)


def test_a_folder_is_its_splits_or_all_its_files(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.txt").write_text("a")
    before = describe_origin(tmp_path)
    (tmp_path / "deep" / "a.txt").write_text("b")
    assert describe_origin(tmp_path)["sha256"] != before["sha256"]
    (tmp_path / "train.csv").write_text("text,label\n")
    with_splits = describe_origin(tmp_path)
    (tmp_path / "notes.txt").write_text("not data")
    assert describe_origin(tmp_path) == with_splits
    (tmp_path / "train.csv").write_text("text,label\na,b\n")
    assert describe_origin(tmp_path) != with_splits


def test_a_pipe_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    recorded = {"data": describe_origin(tmp_path / "pipe")}
    assert set(recorded["data"]) == {"path"}
    assert "pipe" in compare_origins(recorded, {"data": tmp_path / "pipe"}, RUN)[0]
