"""Blank curves for the runs of the command line."""

from __future__ import annotations

import pytest
from miniature import blank_curves


@pytest.fixture(autouse=True)
def quick_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blank curves for all runs but `run_dir`: drawing them takes four times as long as the rest of a miniature run."""
    monkeypatch.setattr("lasttoken.runs.write.draw_curves", blank_curves)
