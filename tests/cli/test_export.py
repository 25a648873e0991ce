"""`lasttoken export`: combinations of flags; the exports themselves are tested in tests/export."""

from __future__ import annotations

from pathlib import Path

from miniature import run_cli


def test_int8_is_for_onnx_only(run_dir: Path, tmp_path: Path) -> None:
    answer = run_cli("export", run_dir, "--to", "hf", "--precision", "int8", "--out", tmp_path / "out")
    assert (answer.code, answer.out) == (2, "")
    assert "--precision int8" in answer.err
    assert "--to onnx" in answer.err
    assert not (tmp_path / "out").exists()


def test_the_format_must_be_known(run_dir: Path, tmp_path: Path) -> None:
    answer = run_cli("export", run_dir, "--to", "gguf", "--out", tmp_path / "out")
    assert answer.code == 2
    assert "'gguf'" in answer.err
