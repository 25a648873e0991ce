"""The processes of one training, connected: rank 0 says what is to be done, and all do their share.

    rank 0   send("trunk", facts, arrays) ──────────► own share ──► sum, gather ──► result
    rank 1   receive() ─► Message ─► its share ───────────────────► sum, send_array

A message is a JSON object and arrays of numbers, never a pickle. Messages and small sums go through gloo, between CPUs;
gradients through nccl where the device is a GPU. A process waits for its next message as long as rank 0 works, so
nothing here has a time limit, apart from connecting; the connections of a process that ends are closed, and the
others notice.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch.distributed.rendezvous import rendezvous

from lasttoken.core.errors import LastTokenError, RankError, SettingsError
from lasttoken.core.ranks import BACKENDS, Rank

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store
    from torch.distributed import ProcessGroup

CONNECT_S = 300.0  # for all processes to start and find each other
UNLIMITED = timedelta(days=14)  # of a message, which rank 0 sends when it has something to do
GRADIENTS = timedelta(minutes=30)  # of a sum through nccl, at which all processes arrive together
POLL_S = 0.05
MOST_DIMENSIONS = 3  # of an array that is sent to rank 0

Array = NDArray[Any]


@dataclass(frozen=True)
class Message:
    """What rank 0 says."""

    command: str
    facts: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, Array] = field(default_factory=dict)


class Team:
    """The connected processes, as one of them sees them."""

    def __init__(self, rank: Rank, store: Store, died: Callable[[], str | None] = lambda: None) -> None:
        """`died`: a sentence about another process that has ended, where this one can know; see workers.py."""
        self.rank, self.store, self._died = rank, store, died
        self.is_open = True
        self.numbers = count()  # of the classifiers that all processes have
        self.gradients: ProcessGroup | None = None  # None: gloo

    @property
    def size(self) -> int:
        """The number of processes."""
        return self.rank.world_size

    @property
    def group(self) -> ProcessGroup:
        """The group that sums gradients."""
        world: ProcessGroup = dist.group.WORLD  # type: ignore[assignment]
        return self.gradients or world

    def use(self, device_type: str) -> None:
        """Sum gradients on devices of this type; every process calls it.

        Raises:
            SettingsError: see `check_devices`.
        """
        check_devices(self.rank, device_type)
        if device_type != "cuda":
            return
        torch.cuda.set_device(self.rank.local_number)
        with self.talking():
            self.gradients = dist.new_group(backend=BACKENDS[device_type], timeout=GRADIENTS)

    # ------------------------------------------------------------------ messages

    def send(
        self, command: str, facts: Mapping[str, Any] | None = None, arrays: Mapping[str, Array] | None = None
    ) -> None:
        """Say what is to be done; only rank 0 does.

        Raises:
            RankError: a process has ended.
        """
        self.check()
        whole = {name: np.asarray(array, order="C") for name, array in (arrays or {}).items()}
        shapes = [[name, array.dtype.str, list(array.shape)] for name, array in whole.items()]
        head = json.dumps([command, dict(facts or {}), shapes]).encode()
        body = b"".join([head, *(array.tobytes() for array in whole.values())])
        with self.talking():
            dist.broadcast(torch.tensor([len(head), len(body)]), 0)
            dist.broadcast(torch.frombuffer(bytearray(body), dtype=torch.uint8), 0)

    def receive(self) -> Message:
        """Wait for what rank 0 says next.

        Raises:
            RankError: rank 0 has ended.
        """
        sizes = torch.zeros(2, dtype=torch.int64)
        with self.talking():
            dist.broadcast(sizes, 0)
            payload = torch.empty(int(sizes[1]), dtype=torch.uint8)
            dist.broadcast(payload, 0)
        body, start = payload.numpy(), int(sizes[0])
        command, facts, shapes = json.loads(body[:start].tobytes())
        arrays = {}
        for name, dtype, shape in shapes:
            n_bytes = np.dtype(dtype).itemsize * int(np.prod(shape))
            arrays[name] = body[start : start + n_bytes].copy().view(dtype).reshape(shape)
            start += n_bytes
        return Message(command, facts, arrays)

    def sum(self, values: Sequence[float] | Array) -> Array:
        """The sum over all processes, in float64 or in the array's own type."""
        total = torch.from_numpy(np.array(values, dtype=None if isinstance(values, np.ndarray) else np.float64))
        with self.talking():
            dist.all_reduce(total)
        return total.numpy()

    def all_agree(self, yes: bool) -> bool:
        """Whether it is so in every process."""
        return bool(self.sum([float(yes)])[0] == self.size)

    def broadcast(self, array: Array) -> None:
        """Fill a contiguous array of every process with rank 0's numbers."""
        with self.talking():
            dist.broadcast(torch.from_numpy(array), 0)

    def send_array(self, array: Array) -> None:
        """Send an array of float32 or float64 with up to three dimensions to rank 0."""
        head = [array.dtype.itemsize, array.ndim, *array.shape, 0, 0, 0][: MOST_DIMENSIONS + 2]
        with self.talking():
            dist.send(torch.tensor(head), 0)
            dist.send(torch.from_numpy(np.ascontiguousarray(array)), 0)

    def receive_array(self, sender: int) -> Array:
        """Wait for an array of another process."""
        head = torch.zeros(MOST_DIMENSIONS + 2, dtype=torch.int64)
        with self.talking():
            dist.recv(head, sender)
            itemsize, n_dimensions, *shape = head.tolist()
            array = np.empty(shape[:n_dimensions], dtype=np.float64 if itemsize == 8 else np.float32)
            dist.recv(torch.from_numpy(array), sender)
        return array

    # ------------------------------------------------------------------ ends and failures

    def check(self) -> None:
        """Notice a process that has ended.

        Raises:
            RankError: says which, and why if it is known.
        """
        if sentence := self._died():
            raise RankError(self._reason() or sentence)

    @contextlib.contextmanager
    def work(self) -> Iterator[None]:
        """What all processes do together; after an error inside, also Ctrl-C, they have lost step and the team ends."""
        try:
            yield
        except BaseException:
            self.close()
            raise

    @contextlib.contextmanager
    def talking(self) -> Iterator[None]:
        """Turn torch's errors of a lost connection into one sentence."""
        try:
            yield
        except RuntimeError as error:
            self.is_open = False
            raise RankError(self._reason(wait_s=2.0) or lost_in_words(self.rank)) from error

    def _reason(self, wait_s: float = 0.0) -> str | None:
        """What another process, or whoever watches it, says about its end."""
        until = time.monotonic() + wait_s
        while True:
            with contextlib.suppress(RuntimeError):  # the store may be gone with the process that kept it
                for number in range(self.size):
                    if number != self.rank.number and self.store.check([_failure(number)]):
                        return self.store.get(_failure(number)).decode()
            sentence = self._died()
            if sentence or time.monotonic() >= until:
                return sentence
            time.sleep(POLL_S)

    def fail(self, sentence: str) -> None:
        """Leave a sentence about this process's failure, and close its connections, so that the others end."""
        with contextlib.suppress(RuntimeError):
            self.store.set(_failure(self.rank.number), f"process {self.rank.number} of {self.size} failed: {sentence}")
        self.close()

    def close(self) -> None:
        """End the connections of this process."""
        self.is_open = False
        if dist.is_initialized():
            with contextlib.suppress(RuntimeError):
                dist.destroy_process_group()


def check_devices(rank: Rank, device_type: str) -> None:
    """Reject a type of device that processes cannot share, and more processes than GPUs.

    Raises:
        SettingsError: says what this machine has.
    """
    if device_type not in BACKENDS:
        raise SettingsError(f"several processes train on CPUs or CUDA, not on {device_type}; use --device cpu")
    n_devices = torch.cuda.device_count() if device_type == "cuda" else rank.local_size
    if n_devices < rank.local_size:
        raise SettingsError(
            f"{rank.local_size} processes of this machine are to train on a GPU each, and it has {n_devices}; start "
            f"{n_devices}, or use --device cpu"
        )


def lost_in_words(rank: Rank) -> str:
    """The end of a process about which nothing is known."""
    other = "process 0"
    if rank.leads:
        other = "process 1" if rank.world_size == 2 else f"one of the other {rank.world_size - 1} processes"
    return f"{other} of this training has ended (killed, or out of memory?); start it again with --resume"


def _failure(number: int) -> str:
    return f"lasttoken/failure/{number}"


def connect(
    rank: Rank,
    store: Store | None = None,
    died: Callable[[], str | None] = lambda: None,
    timeout_s: float = CONNECT_S,
) -> Team:
    """Meet the other processes; `store` None: at MASTER_ADDR and MASTER_PORT.

    Raises:
        SettingsError: there is no such address in the environment.
        RankError: the others cannot be reached, or did not come in time.
    """
    limit = timedelta(seconds=timeout_s)
    try:
        if store is None:
            store, _, _ = next(rendezvous("env://", timeout=limit))
        team = Team(rank, store, died)
        _wait_for_all(team, timeout_s)
        dist.init_process_group("gloo", store=store, rank=rank.number, world_size=rank.world_size, timeout=UNLIMITED)
    except ValueError as error:
        raise SettingsError(
            f"RANK is {rank.number}, and the other processes cannot be found: {error}; start them with torchrun"
        ) from error
    except RuntimeError as error:
        raise RankError(_unreachable(rank, timeout_s)) from error
    return team


def _wait_for_all(team: Team, timeout_s: float) -> None:
    """Wait until every process has said that it is there.

    Raises:
        RankError: one has ended, or did not come in time.
    """
    n_here, until = team.store.add("lasttoken/here", 1), time.monotonic() + timeout_s
    while n_here < team.size:
        team.check()
        if time.monotonic() > until:
            raise RankError(
                f"{n_here} of {team.size} processes came within {timeout_s:g} s; check that all were started, and that "
                "they reach MASTER_ADDR and MASTER_PORT"
            )
        time.sleep(POLL_S)
        n_here = team.store.add("lasttoken/here", 0)


def _unreachable(rank: Rank, timeout_s: float) -> str:
    import os

    where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
    return (
        f"process {rank.number} of {rank.world_size} did not reach {where} (MASTER_ADDR, MASTER_PORT) within "
        f"{timeout_s:g} s; check the address, and that process 0 is running there"
    )


def sentence_of(error: BaseException) -> str:
    """What another process is told about an error."""
    return str(error) if isinstance(error, LastTokenError) else f"{type(error).__name__}: {error}"
