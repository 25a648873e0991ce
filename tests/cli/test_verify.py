"""`lasttoken verify`: a table and JSON of the predictions that change."""

from __future__ import annotations

import json
from pathlib import Path

from miniature import run_cli


def test_a_row_for_each_precision_with_its_flips(run_dir: Path) -> None:
    answer = run_cli("verify", run_dir, "--json")
    assert answer.code == 0, answer.err
    rows = json.loads(answer.out)
    assert rows
    n_test = json.loads((run_dir / "metrics.json").read_text("utf-8"))["examples"]["test"]
    assert all(0 <= row["flips"] <= row["n"] == n_test for row in rows if row.get("trouble") is None)
    table = run_cli("verify", run_dir).out
    assert all(row["name"] in table for row in rows)
