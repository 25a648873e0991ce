"""`lasttoken push`: the upload itself is tested in tests/export/test_push.py."""

from __future__ import annotations

from pathlib import Path

from miniature import run_cli


def test_offline_forbids_an_upload(run_dir: Path) -> None:
    answer = run_cli("push", run_dir, "owner/name", "--offline")
    assert (answer.code, answer.out) == (1, "")
    assert "--offline" in answer.err
