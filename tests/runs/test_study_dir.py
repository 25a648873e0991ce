"""The folder of a study: trainings are kept whole, found by what changes them, and never lost by accident."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from miniature import messages

from lasttoken.core.errors import RunError
from lasttoken.core.resolve import resolve
from lasttoken.data.files import Examples
from lasttoken.data.splitting.splits import Splits
from lasttoken.runs.study_dir import StudyDir, TrainingResult, training_key

RESULT = TrainingResult(
    metrics={"accuracy": 0.5, "accuracy_ci95": [0.25, 0.75]},
    validation={"loss": 0.7},
    trained=10,
    total=100,
    seconds=1.5,
    trunk_s=0.0,
    kept_step=7,
    stopped=None,
    values=np.array([1.0, 0.0]),
    losses=np.array([0.25, 1.5]),
    predicted=np.array([[True, False], [False, False]]),
    choice={"settings": {"depth": "2"}, "label_words": None, "sentence": "chosen"},
)
EXAMPLES = Examples(*messages(6))
SPLITS = Splits(EXAMPLES, EXAMPLES, EXAMPLES)


def begun(path: Path, **changes: Any) -> StudyDir:
    folder = StudyDir(path)
    folder.begin({"seeds": [1]}, SPLITS, "hash", resume=False, **changes)
    return folder


def test_a_training_is_read_as_it_was_written(tmp_path: Path) -> None:
    folder = begun(tmp_path / "study")
    folder.write("key", RESULT)
    back = folder.read("key")
    assert back is not None
    for item in fields(RESULT):
        expected, value = getattr(RESULT, item.name), getattr(back, item.name)
        if isinstance(expected, np.ndarray):
            assert value.dtype == expected.dtype
            assert np.array_equal(value, expected)
        else:
            assert value == expected


@pytest.mark.parametrize("content", [None, b"", b"{}", b"\0" * 100])
def test_a_training_that_cannot_be_read_is_absent(tmp_path: Path, content: bytes | None) -> None:
    folder = begun(tmp_path / "study")
    if content is not None:
        folder.write("key", RESULT)
        (folder.path / "trainings" / "key.safetensors").write_bytes(content)
    assert folder.read("key") is None


@pytest.mark.parametrize("changes", [{"epochs": 9}, {"backbone": "other"}, {"calibrate": False}, {"read": "mean"}])
def test_what_changes_a_result_changes_the_key(changes: dict[str, Any]) -> None:
    settings = resolve("default", {"epochs": 2})
    assert training_key(settings, 1) == training_key(replace(settings, no_cache=True, seed=9), 1)
    assert training_key(settings, 1) != training_key(settings, 2)
    assert training_key(settings, 1) != training_key(replace(settings, **changes), 1)


def test_a_study_is_replaced_only_when_asked(tmp_path: Path) -> None:
    folder = begun(tmp_path / "study")
    folder.write("key", RESULT)
    with pytest.raises(RunError, match="unfinished"):
        folder.check_free(resume=False, overwrite=False)
    folder.finish({"rows": []}, "row\n", "<html></html>")
    with pytest.raises(RunError, match="finished"):
        folder.check_free(resume=False, overwrite=False)
    folder.check_free(resume=True, overwrite=False)
    assert folder.begin({}, SPLITS, "hash", resume=True)
    assert folder.read("key") is not None
    assert not folder.is_finished, "the table is not complete while it is trained"
    folder.check_free(resume=False, overwrite=True)
    assert not folder.begin({}, SPLITS, "hash", resume=False)
    assert folder.read("key") is None


def test_a_study_of_other_data_is_not_resumed(tmp_path: Path) -> None:
    folder = begun(tmp_path / "study")
    folder.write("key", RESULT)
    with pytest.raises(RunError, match="other data"):
        folder.begin({}, SPLITS, "another", resume=True)
    assert folder.read("key") is not None


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path, tmp_path / "file"):
        with pytest.raises(RunError, match=r"--out"):
            StudyDir(path).check_free(resume=True, overwrite=True)
    StudyDir(tmp_path / "new").check_free(resume=False, overwrite=False)
