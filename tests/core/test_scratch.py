"""Temporary folders: removed at the end, and by the next process if theirs was killed."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from lasttoken.core.scratch import scratch_folder, sweep

KILLED = """
import os, signal
from lasttoken.core.scratch import scratch_folder
with scratch_folder("part") as folder:
    (folder / "large").write_text("x")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_a_folder_is_removed_at_the_end_and_after_an_error(tmp_path: Path) -> None:
    with scratch_folder("part") as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
    with pytest.raises(ZeroDivisionError), scratch_folder("part"):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="nothing is swept on Windows")
def test_the_folders_of_killed_processes_are_removed_and_no_others(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED], env={**os.environ, "TMPDIR": str(tmp_path)}, check=False, timeout=60)
    (killed,) = tmp_path.iterdir()
    (tmp_path / "lasttoken-other").mkdir()
    with scratch_folder("part") as living:
        os.utime(living / "lock", (1, 1))
        sweep(tmp_path)
        assert killed.exists()  # its process may be about to lock it
        os.utime(killed / "lock", (1, 1))
        sweep(tmp_path)
        assert sorted(tmp_path.iterdir()) == sorted([living, tmp_path / "lasttoken-other"])
