"""A second process for tests of trainings on two: it helps this one, with classifiers on miniatures.

with second_process() as (team, process):
    classifier, shared = both_make(team, {"gpt": {"n_embd": 16}, "dtype": "float64", "head": {"train_blocks": "1"}})
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from miniature import classifier_of, random_gpt
from torch._C._distributed_c10d import TCPStore

from lasttoken.classifier.classifier import Classifier
from lasttoken.classifier.lora import LoraConfig
from lasttoken.core.device import CPU, Device
from lasttoken.core.ranks import Rank
from lasttoken.core.team import Team, connect
from lasttoken.training.helper import help_train
from lasttoken.training.shared_trunk import SharedTrunk


def make(facts: Mapping[str, Any], device: Device = CPU) -> Classifier:
    """The same classifier in every process."""
    head = dict(facts.get("head", {}))
    if "lora" in head:
        head["lora"] = LoraConfig(**{**head["lora"], "matrices": tuple(head["lora"]["matrices"])})
    head["labels"] = tuple(head.get("labels", ("ham", "spam")))
    gpt = random_gpt(**{"n_embd": 16, "n_layer": 2, **facts.get("gpt", {})}, dtype=getattr(torch, facts["dtype"]))
    return classifier_of(gpt, **head).to(device.torch_device)


def both_make(team: Team, facts: Mapping[str, Any]) -> tuple[Classifier, SharedTrunk]:
    """A classifier that both processes have."""
    team.send("classifier", facts)
    return make(facts), SharedTrunk(team, next(team.numbers))


@contextmanager
def second_process() -> Iterator[tuple[Team, subprocess.Popen[bytes]]]:
    """Start it, and end it after the block."""
    store = TCPStore("127.0.0.1", 0, 2, is_master=True, wait_for_workers=False)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}
    environment["PYTHONPATH"] = str(Path(__file__).parent)
    environment |= Rank(1, 2, 1, 2).to_environment()
    process = subprocess.Popen([sys.executable, __file__], env=environment)
    team = None
    try:
        team = connect(Rank(0, 2, 0, 2), store)
        yield team, process
        if team.is_open:
            team.send("quit")
            process.wait(20)
    finally:
        if team is not None:
            team.close()
        process.kill()
        process.wait()


if __name__ == "__main__":
    torch.set_num_threads(1)
    rank = Rank.from_environment()
    assert rank is not None
    sys.stderr.write(help_train(connect(rank), make) or "")
