"""`lasttoken verify`: a table and JSON of the predictions that change."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from miniature import run_cli

from lasttoken.export.verify import Verification


def test_a_row_for_each_precision_with_its_flips(run_dir: Path) -> None:
    answer = run_cli("verify", run_dir, "--json")
    assert answer.code == 0, answer.err
    rows = json.loads(answer.out)
    assert rows
    n_test = json.loads((run_dir / "metrics.json").read_text("utf-8"))["examples"]["test"]
    assert all(0 <= row["flips"] <= row["n"] == n_test for row in rows if row.get("trouble") is None)
    table = run_cli("verify", run_dir).out
    assert all(row["name"] in table for row in rows)


def test_a_way_that_fails_is_shown_as_not_checked_with_the_reason(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = Verification("export", trouble="transformers is not installed here")
    monkeypatch.setattr("lasttoken.export.verify.verify", lambda *_: [result])
    answer = run_cli("verify", run_dir, "--quiet")
    assert "not checked" in answer.out
    assert "transformers is not installed here" in answer.out
