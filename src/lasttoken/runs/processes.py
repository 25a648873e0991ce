"""The processes of a run: one, or several that rank 0 has started (--workers) or torchrun has.

rank 0    train_run: reads, decides, writes, reports        sends messages through its Team
others    help: follow the messages (training/helper.py)    print and write nothing
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from lasttoken.core.config import Settings
from lasttoken.core.device import Device
from lasttoken.core.errors import SettingsError
from lasttoken.core.machine import check_room
from lasttoken.core.process import shared_threads, tune_cpu
from lasttoken.core.progress import Reporter, SafeConsole
from lasttoken.core.ranks import Rank
from lasttoken.core.team import Team, check_devices, connect
from lasttoken.core.workers import Workers, end_with_parent
from lasttoken.data.splitting.splits import Splits
from lasttoken.runs.choice import Plan
from lasttoken.runs.fitting import repeats_trainings
from lasttoken.training.helper import QUIT, help_train
from lasttoken.training.shards import check_shards

LEFT_OUT = "--workers is {workers}, but torchrun has started {n} processes; leave --workers out"


class Processes:
    """Rank 0's processes, before and after they are connected."""

    def __init__(self, size: int, rank: Rank | None, workers: Workers | None) -> None:
        """`rank`: where torchrun has started the others; `workers`: where this process has."""
        self.size, self._rank, self._workers = size, rank, workers
        self.team: Team | None = None

    def on(self, device: Device) -> Device:
        """The device with all processes connected, each on its own.

        Raises:
            SettingsError: the device cannot be shared, or this machine has too few.
            RankError: a process did not come.
        """
        if self.size == 1:
            return device
        rank, kind = self._rank or Rank(0, self.size, 0, self.size), device.torch_device.type
        check_devices(rank, kind)
        if self._workers is None:
            self.team = connect(rank)
        else:
            self.team = connect(rank, self._workers.store, self._workers.died)
        with self.team.work():
            self.team.send("device", {"type": kind, "precision": device.precision})
            self.team.use(kind)
        return replace(device, team=self.team)

    def check(self, splits: Splits, settings: Settings) -> None:
        """Reject more processes than rows, and shards of one process.

        Raises:
            SettingsError: names both numbers, or the setting.
        """
        check_shards(settings, self.size)
        if self.size > len(splits.train):
            raise SettingsError(
                f"{self.size} processes are to share the training (--workers), but train has {len(splits.train)} rows; "
                f"use {len(splits.train)} or fewer"
            )


@contextmanager
def open_processes(workers: int) -> Iterator[Processes]:
    """The processes of a training on `workers`; those that this one starts are starting while the block begins.

    Raises:
        SettingsError: `workers` is not at least 1 or more than there is memory for, or torchrun has started processes
            too.
    """
    if workers < 1:
        raise SettingsError(f"--workers is {workers}; it must be at least 1")
    rank = Rank.from_environment()
    if rank is not None and workers > 1:
        raise SettingsError(LEFT_OUT.format(workers=workers, n=rank.world_size))
    if rank is None and workers == 1:
        yield Processes(1, None, None)
        return
    if rank is None:
        check_room(workers)
    started = None if rank is not None else Workers(workers, _stop)
    processes = Processes(workers if rank is None else rank.world_size, rank, started)
    in_order = False
    try:
        with shared_threads(workers):
            yield processes
            if processes.team is not None and processes.team.is_open:
                processes.team.send(QUIT)
        in_order = True
    finally:
        if processes.team is not None:
            processes.team.close()
        if started is not None:
            started.end(in_order)


def _stop(sentence: str) -> None:
    """End this process, which waits for one that has ended and does not notice."""
    SafeConsole(stderr=True).print(f"error: {sentence}", soft_wrap=True)
    os._exit(1)


def help_rank_0(rank: Rank) -> None:
    """Be one of the other processes until rank 0 has no more to do.

    Raises:
        SettingsError, RankError: rank 0 cannot be reached; see `connect`.
    """
    end_with_parent()
    tune_cpu()
    help_train(connect(rank))


def say_what_is_shared(plan: Plan, is_folded: bool, reporter: Reporter) -> None:
    """Tell what several processes do not share."""
    if plan.tail is None:
        reporter.say("the processes share the trunk; the linear head is fitted by one of them")
    elif is_folded:
        reporter.say("the processes share the trunk; a tail on so few rows is trained by one of them")
    if repeats_trainings(plan.main):
        reporter.say("further trainings (--seeds, --folds, --learning-curve) run in one process")
