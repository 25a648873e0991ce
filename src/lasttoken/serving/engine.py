"""One owner of the models: requests wait in a bounded queue and are joined into batches by the threads that compute.

    request ─► Job ─► queue ─┐ bounded: full ─► Busy, try again in n seconds
    request ─► Job ─► queue ─┤ cancelled or late ─► dropped unread
                             └─► thread: all that is there, up to a batch ─► trunk once ─► tails ─► answers

While a batch is computed the next one gathers, so waiting for company is needed only between two quick batches. What a
text is batched with does not change its answer (see predict.py). On the CPU two threads compute a batch each, on half
the cores: two batches side by side lose less to waiting than one that is spread over all, and the event loop always
needs a piece of some core (benchmarks/2026-11-25-serving.md).
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lasttoken.serving.models import Group, Served

WAIT_S = 0.002  # for company, after a batch that had some
RATE_MEMORY = 0.9  # of the running mean of characters a second
FIRST_RATE = 20_000.0  # characters a second, before anything was measured


class QueueFullError(Exception):
    """The queue is full; `retry_after_s` is when there should be room."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"the queue is full; try again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


class DeadlineExceededError(Exception):
    """The deadline passed before an answer was there."""


class ClosedError(Exception):
    """The server is shutting down."""


@dataclass(frozen=True)
class Answer:
    """What one model says of the texts of a request."""

    log_probs: NDArray[np.float32]  # [N, K]
    n_tokens: NDArray[np.int64]  # [N]
    cut: NDArray[np.bool_]  # [N]


Answers = dict[str, Answer]  # by the model's name


@dataclass(eq=False)
class Job:
    """Texts of one request; what becomes of them goes to `future`.

    A long job is computed in pieces, its rest waiting behind the others: `start` is the first text that is not taken.
    """

    texts: Sequence[str]
    models: frozenset[str]
    deadline: float  # of time.monotonic()
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    start: int = 0
    n_done: int = 0  # texts that are computed
    found: dict[int, Answers] = field(default_factory=dict)  # of the pieces that are done, by their start

    @property
    def n_left(self) -> int:
        """Texts that are not taken yet."""
        return len(self.texts) - self.start

    @property
    def is_wanted(self) -> bool:
        """Whether somebody still waits for it."""
        return not self.future.done() and self.deadline >= time.monotonic()


@dataclass(frozen=True)
class Piece:
    """Texts `start` to `end` of a job."""

    job: Job
    start: int
    end: int

    @property
    def texts(self) -> Sequence[str]:
        """The texts."""
        return self.job.texts[self.start : self.end]

    @property
    def is_last(self) -> bool:
        """Whether the job is done with it."""
        return self.end == len(self.job.texts)


def size_of(texts: Sequence[str]) -> int:
    """How heavy texts are: their characters, and one for each text."""
    return sum(len(text) + 1 for text in texts)


@dataclass
class Observed:
    """What is told of each batch, for the metrics; replaced by whoever wants to know."""

    on_batch: Callable[[int, int, float], None] = lambda n_texts, n_tokens, seconds: None
    on_queue: Callable[[int], None] = lambda n_texts: None


class Engine:
    """The models, their queue and their thread."""

    def __init__(
        self,
        groups: Sequence[Group],
        max_queue: int,
        batch_characters: int,
        observed: Observed | None = None,
        n_threads: int = 1,
    ) -> None:
        """`max_queue`: texts that may wait. `batch_characters`: of the texts that are computed together.

        `n_threads`: that compute; each has its share of the cores.
        """
        self.groups = tuple(groups)
        self.models: dict[str, Served] = {one.name: one for group in groups for one in group.members}
        self.observed = observed or Observed()
        self._max_queue, self._batch_characters = max_queue, batch_characters
        self._queue: deque[Job] = deque()
        self._n_waiting = 0  # texts
        self._rate = FIRST_RATE
        self._company = False  # whether the last batch joined several requests
        self._closing = False
        self._change = threading.Condition()
        self._cores = max(1, torch.get_num_threads() // n_threads)
        self._threads = [threading.Thread(target=self._run, name="models", daemon=True) for _ in range(n_threads)]

    # ------------------------------------------------------------------ for the event loop

    def start(self) -> None:
        """Warm the models up, and begin to take requests."""
        for group in self.groups:
            for texts in (["a"], ["Warm up with a text of some length, please."] * 8):
                group.log_probs(group.encode(texts), {one.name for one in group.members})
        for thread in self._threads:
            thread.start()

    async def classify(self, texts: Sequence[str], models: Sequence[str], deadline_s: float) -> Answers:
        """The answers of some models to some texts.

        Raises:
            BusyError, LateError, ClosedError: there will be none.
        """
        loop = asyncio.get_running_loop()
        job = Job(texts, frozenset(models), time.monotonic() + deadline_s, loop, loop.create_future())
        self._put(job)
        try:
            async with asyncio.timeout(deadline_s):
                found: Answers = await job.future
                return found
        except TimeoutError as error:
            raise DeadlineExceededError from error

    def _put(self, job: Job) -> None:
        with self._change:
            if self._closing:
                raise ClosedError
            if self._n_waiting and self._n_waiting + len(job.texts) > self._max_queue:
                waiting = self._characters()
                raise QueueFullError(max(1, round(waiting / self._rate)))
            self._queue.append(job)
            self._n_waiting += len(job.texts)
            self._change.notify()
        self.observed.on_queue(self._n_waiting)

    @property
    def is_ready(self) -> bool:
        """Warm, and taking requests."""
        return all(thread.is_alive() for thread in self._threads) and not self._closing

    def close(self, wait_s: float = 30.0) -> None:
        """Take no more requests, answer those that wait, and end the thread."""
        with self._change:
            self._closing = True
            self._change.notify_all()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(wait_s)

    # ------------------------------------------------------------------ in the threads

    def _run(self) -> None:
        torch.set_num_threads(self._cores)  # of this thread
        while (pieces := self._take()) is not None:
            if not pieces:
                continue
            try:
                results = self._compute(pieces)
            except Exception as error:
                results = [(piece.job, error) for piece in pieces]
            _deliver(results)

    def _take(self) -> list[Piece] | None:
        """The pieces of the next batch; None: closed, and nothing waits."""
        with self._change:
            while not self._queue:
                if self._closing:
                    return None
                self._change.wait()
            if self._company and not self._closing and self._characters() < self._batch_characters:
                self._change.wait_for(lambda: self._characters() >= self._batch_characters, WAIT_S)
            taken: list[Piece] = []
            room = self._batch_characters
            while self._queue and (room > 0 or not taken):
                job = self._queue.popleft()
                if not job.is_wanted:
                    self._n_waiting -= job.n_left
                    continue
                piece = self._cut(job, room)
                taken.append(piece)
                room -= size_of(piece.texts)
                if not piece.is_last:
                    self._queue.append(job)
                    self._change.notify()
                    break
        self._company = len(taken) > 1
        self.observed.on_queue(self._n_waiting)
        return taken

    def _cut(self, job: Job, room: int) -> Piece:
        """The next texts of a job, as many as there is room for, and one at least."""
        start, end = job.start, job.start + 1
        room -= len(job.texts[start]) + 1
        while end < len(job.texts) and room >= (size := len(job.texts[end]) + 1):
            room, end = room - size, end + 1
        job.start = end
        self._n_waiting -= end - start
        return Piece(job, start, end)

    def _characters(self) -> int:
        return sum(size_of(job.texts[job.start :]) for job in self._queue)

    def _compute(self, pieces: list[Piece]) -> list[tuple[Job, Any]]:
        """What becomes of the jobs that are done with these pieces."""
        started = time.perf_counter()
        texts = [text for piece in pieces for text in piece.texts]
        found: Answers = {}
        n_tokens = 0
        for group in self.groups:
            names = {one.name for one in group.members} & {name for piece in pieces for name in piece.job.models}
            if not names:
                continue
            encoded = group.encode(texts)
            n_tokens += encoded.n_tokens
            for name, log_probs in group.log_probs(encoded, names).items():
                found[name] = Answer(log_probs, encoded.lengths, encoded.cut)
        seconds = time.perf_counter() - started
        self._rate = RATE_MEMORY * self._rate + (1 - RATE_MEMORY) * size_of(texts) / max(seconds, 1e-9)
        self.observed.on_batch(len(texts), n_tokens, seconds)
        with self._change:
            return _dealt(pieces, found)


def _dealt(pieces: Sequence[Piece], found: Answers) -> list[tuple[Job, Answers]]:
    """Give each job its part of what was found for all texts end to end; the jobs that are done with it."""
    done, at = [], 0
    for piece in pieces:
        job, part = piece.job, slice(at, at + len(piece.texts))
        at = part.stop
        job.n_done += len(piece.texts)
        job.found[piece.start] = {
            name: Answer(answer.log_probs[part], answer.n_tokens[part], answer.cut[part])
            for name, answer in found.items()
            if name in job.models
        }
        if job.n_done == len(job.texts):
            done.append((job, _joined([job.found[start] for start in sorted(job.found)])))
    return done


def _joined(parts: Sequence[Answers]) -> Answers:
    """The answers to a job's pieces, end to end."""
    if len(parts) == 1:
        return parts[0]
    return {
        name: Answer(
            np.concatenate([part[name].log_probs for part in parts]),
            np.concatenate([part[name].n_tokens for part in parts]),
            np.concatenate([part[name].cut for part in parts]),
        )
        for name in parts[0]
    }


def _deliver(results: Sequence[tuple[Job, Any]]) -> None:
    """Hand the results to the event loops that wait for them, each woken once."""

    def calibrate(some: list[tuple[Job, Any]]) -> None:
        for job, result in some:
            if job.future.done():
                continue
            if isinstance(result, Exception):
                job.future.set_exception(result)
            else:
                job.future.set_result(result)

    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Job, Any]]] = {}
    for job, result in results:
        by_loop.setdefault(job.loop, []).append((job, result))
    for loop, some in by_loop.items():
        if not loop.is_closed():
            loop.call_soon_threadsafe(calibrate, some)
