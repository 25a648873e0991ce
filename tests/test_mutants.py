"""Damaged and changed run directories end in a sentence or an answer; benchmarks/mutate.py tries many more."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "mutate.py"


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the script bounds memory as Linux does")
@pytest.mark.slow
def test_a_hundred_and_fifty_mutants_are_sentences_or_answers() -> None:
    command = [sys.executable, str(SCRIPT), "--n", "150", "--seed", "7"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert "150 mutants" in done.stdout
