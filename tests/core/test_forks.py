"""A process that is forked after an answer was given answers too, in time, whatever threads its parent had."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from miniature import classifier_of, random_gpt, small_tokenizer

from lasttoken.classifier.checkpoint import save_classifier

PROGRAM = """
import os, sys
from pathlib import Path
import torch
torch.set_num_threads(2)
from lasttoken.classifier.checkpoint import load_classifier
from lasttoken.classifier.predict import Predictor
predictor = Predictor(*load_classifier(Path(sys.argv[1])))
texts = [f"see you at {at} " + "then " * (at % 5) for at in range(200)]
expected = [found.label for found in predictor.predict(texts)]
a = torch.randn(700, 700)
(a @ a).sum()  # OpenMP's threads are there now
torch.repeat_interleave(torch.ones(100_000, dtype=torch.long))
child = os.fork()
if child == 0:
    found = [found.label for found in predictor.predict(texts)]
    torch.repeat_interleave(torch.ones(100_000, dtype=torch.long))
    (a @ a).sum()
    os._exit(0 if found == expected else 3)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_after_the_first_answer_answers(tmp_path: Path) -> None:
    save_classifier(tmp_path, classifier_of(random_gpt(n_positions=64, n_embd=128)), small_tokenizer())
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, env=environment, check=False)
    assert done.stdout == "0\n", done.stderr
