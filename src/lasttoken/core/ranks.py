"""Which process of a training on several this one is, as torchrun's environment says.

    RANK=1 WORLD_SIZE=4 LOCAL_RANK=1 LOCAL_WORLD_SIZE=2 MASTER_ADDR=10.0.0.7 MASTER_PORT=29500
    └─► Rank(number=1, world_size=4, local_number=1, local_size=2)          without them: None, one process

`torchrun` and `lasttoken train --workers` set these variables, and so may the job file of a cluster. Only `train` reads
them. The processes are connected in team.py.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from lasttoken.core.errors import SettingsError

TORCHRUN = "TORCHELASTIC_RUN_ID"  # set by torchrun in the processes it starts
BACKENDS = {"cpu": "gloo", "cuda": "nccl"}  # that sum gradients, by the type of a device


@dataclass(frozen=True)
class Rank:
    """One process of several that train together; number 0 leads."""

    number: int
    world_size: int
    local_number: int = 0  # among the processes of this machine
    local_size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process reads the data, decides, writes and reports."""
        return self.number == 0

    def to_environment(self) -> dict[str, str]:
        """The variables that `from_environment` reads."""
        numbers = (self.number, self.world_size, self.local_number, self.local_size)
        return dict(zip(("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"), map(str, numbers), strict=True))

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Rank | None:
        """This process's rank; None where it is the only one.

        >>> Rank.from_environment({"RANK": "1", "WORLD_SIZE": "2"})
        Rank(number=1, world_size=2, local_number=0, local_size=1)

        Raises:
            SettingsError: a variable is not a whole number, or RANK is not below WORLD_SIZE.
        """
        if "RANK" not in environment or "WORLD_SIZE" not in environment:
            return None
        number, world_size = _whole(environment, "RANK", 0), _whole(environment, "WORLD_SIZE", 1)
        if number >= world_size:
            raise SettingsError(f"RANK is {number} and WORLD_SIZE is {world_size}; ranks are 0 to WORLD_SIZE - 1")
        if world_size == 1:
            return None
        return cls(number, world_size, _whole(environment, "LOCAL_RANK", 0), _whole(environment, "LOCAL_WORLD_SIZE", 1))


def _whole(environment: Mapping[str, str], name: str, default: int) -> int:
    value = environment.get(name, str(default))
    if not value.isascii() or not value.isdigit():
        raise SettingsError(
            f"the environment variable {name} is {value!r}; it must be a whole number, as torchrun sets it"
        )
    return int(value)


def is_silent(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether another process of torchrun's, rank 0, reports what goes wrong here."""
    return TORCHRUN in environment and environment.get("RANK", "0") != "0"


def check_command(command: str | None, environment: Mapping[str, str] = os.environ) -> None:
    """Reject a command that torchrun has started several times and that does not share its work.

    Raises:
        SettingsError: `command` is not train.
    """
    if command == "train" or TORCHRUN not in environment:
        return
    rank = Rank.from_environment(environment)
    if rank is not None:
        raise SettingsError(
            f"torchrun has started {rank.world_size} processes of lasttoken {command or ''}".rstrip()
            + ", and only train shares its work among processes of torchrun; run the command without torchrun"
        )
